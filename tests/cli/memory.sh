# Memory: what a command says before its first step that it will take is what its process is then seen to take, to a twentieth.
case $bin in */asan/*) return 0 ;; esac  # sanitizers keep what is freed
data
near() {  # announced seen [what may come on top]
    awk -v a="$1" -v b="$2" -v more="${3:-0}" 'BEGIN { exit !(a > 0 && b > 0 && a <= 1.05 * b && b <= 1.05 * a + more) }'
}
field() { sed -nE "s/.*\"$1\": ([0-9]+).*/\1/p" out; }
# megabytes, by the line "memory: 24.3 MB, 5 MB of it ...; before, while it was made ready, 30 MB"
told() { awk '/^memory: / { most = $2; if ($(NF - 2) == "ready," && $(NF - 1) > most) most = $(NF - 1); print most }' "$1"; }

# Sets `most`: the megabytes that a command's process had at the most.
watch() {  # command of lvrun...
    "$bin/peak" kilobytes "$bin/lvrun" "$@" >out 2>err
    status=$?
    most=$(awk '{ printf "%.2f", $1 * 1024e-6 }' kilobytes)
}

# Each once before, so that no compiler is among the process's children: the system counts the largest of them too.
lvrun train "$model" --train-dir train "${quick[@]}" --steps 1 --val-every 0 --out compiled; succeeds compiled
watch train "$model" --train-dir train "${quick[@]}" --steps 300 --val-every 0 --out run; succeeds train
holds train_told near "$(told out)" "$most" 6  # at the end a curve is drawn, by libraries that nothing before has used
lvrun encode run/checkpoints/last.safetensors train train train train --batch-size 4 --out codes.safetensors; succeeds encoded
watch encode run/checkpoints/last.safetensors train train train train --batch-size 4 --out codes.safetensors; succeeds encode
holds encode_told near "$(told err)" "$most"

# Convolutions are measured first
lvrun bench "$model" reconstruct --batch 256 --steps 1 --user-cache; succeeds bench
holds bench_told near "$(field announced_bytes)" "$(field resident_bytes)"
holds bench_parts test "$(field announced_bytes)" -ge $(($(field own_bytes) + $(field peak_bytes)))
