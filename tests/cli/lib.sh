# What the cases of this folder share. A case is a file NAME.sh, run by `run` in a folder of its own ($work, the current one).

export LC_ALL=C
model=$here/small.lv
quick=(--steps 12 --batch-size 4 --lr 1e-3 --val-every 6 --save-every 4 --num-workers 1 --threads 1)

# Pictures, as noise of digits: picture FILE WIDTH HEIGHT SEED
picture() {
    { printf 'P6\n%d %d\n255\n' "$2" "$3"; seq "$4" $(($4 + $2 * $3)) | tr -d '\n' | head -c $(($2 * $3 * 3)); } >"$1"
}

pictures() {  # folder count
    mkdir -p "$1"
    for ((i = 1; i <= $2; i++)); do picture "$1/p$i.ppm" $((16 + i % 7)) $((16 + i % 5)) $((i * 1000)); done
}

data() { pictures train 16 && pictures val 4; }

# Runs a command of lvrun: its status in $status, its words in the files out and err.
lvrun() {
    timeout "${limit:-120}" "$bin/lvrun" "$@" >out 2>err
    status=$?
}

train() { lvrun train "$model" --train-dir train --val-dir val "$@"; }

ok() { echo "ok $1"; }
bad() {  # name why
    { cat out err 2>/dev/null | tail -20; } | sed 's/^/# /'
    echo "not ok $1: $2"
}

succeeds() {  # name: the last lvrun
    if [ "$status" = 0 ]; then ok "$1"; else bad "$1" "exit $status"; return 1; fi
}

holds() {  # name command...: that the command succeeds
    local name=$1
    shift
    if "$@" >/dev/null 2>&1; then ok "$name"; else bad "$name" "not so: $*"; return 1; fi
}

is() {  # name got wanted
    if [ "$2" = "$3" ]; then ok "$1"; else bad "$1" "'$2', not '$3'"; return 1; fi
}

# What the last lvrun wrote to stderr, and its exit code, as in said/NAME.txt. `--update` of `run` rewrites those.
said() {  # name
    { sed -e "s#$work/##g; s#$root/##g" err; echo "exit $status"; } >said.got
    if [ -n "$update" ]; then
        cp said.got "$here/said/$1.txt"
        ok "$1"
    elif cmp -s said.got "$here/said/$1.txt"; then
        ok "$1"
    else
        diff "$here/said/$1.txt" said.got | sed 's/^/# /'
        echo "not ok $1: other words"
    fi
}

# A log without what no two runs have the same.
plain_log() { sed -E 's/, "(images_per_s|seconds|peak_share|[a-z_]*_per_s)": [^,}]*//g' "$1"; }
