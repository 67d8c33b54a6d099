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

# Pairs that a small network can learn by heart: 4 x 4 tiles of colours that the number decides, and a caption for each.
tiled_pairs() {  # folder count
    local colours=(red green blue grey) things=(heart cat dog sun moon tree house boat)
    mkdir -p "$1"
    for ((i = 0; i < $2; i++)); do
        awk -v s=$((i * 7919 + 17)) 'BEGIN {
            for (i = 0; i < 48; i++) { s = (s * 1103515245 + 12345) % 2147483648; v[i] = int(s / 65536) % 4 * 85 }
            print "P3 16 16 255"
            for (i = 0; i < 768; i++) print v[int(i / 192) * 12 + int(i / 12) % 4 * 3 + i % 3]
        }' >"$1/p$((i + 10)).ppm"
        echo "a ${colours[i % 4]} ${things[i / 4]}" >"$1/p$((i + 10)).txt"
    done
}

# A picture tokenizer of 16 codes a picture, and a model of text and pictures: the options of both.
tiny_vae=("$here/small.lv" --hidden 16 --revive-codes 0.3 --batch-size 8 --lr 5e-3 --crop center --num-workers 1 --threads 1)
tiny_biart=("$root/models/biart.lv" --tokenizer "$here/tokenizer.json" --n-layer 2 --n-head 2 --n-embd 64 --text-len 20
    --crop center --num-workers 1)

# The codes in a file that lvrun encode or sample --tokens wrote: a line a picture.
codes_in() {  # file pictures
    tail -c $(($2 * 64)) "$1" | od -An -td4 -v -w64
}

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

# What the last lvrun wrote to stderr, but for the memory that it takes, and its exit code, as in said/NAME.txt. `--update` of `run` rewrites those.
said() {  # name
    { sed -e "/^memory: /d; s#$work/##g; s#$root/##g" err; echo "exit $status"; } >said.got
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
