# What --memory-limit makes of a plan, and that plans within one are kept.
case $bin in */asan/*) return 0 ;; esac  # half a minute of compiling what others compile under sanitizers too
pictures train 8
models=$root/models
ml=(--resolution 32 --ch-mult "[1, 2]" --attn-resolutions "[16, 8]" --num-tokens 16 --hidden-dim 8 --norm-groups 4 --num-res-blocks 1 --z-channels 8
    --codebook-dim 8)
quick=(--steps 2 --batch-size 2 --lr 1e-4 --val-every 2 --num-workers 1 --threads 1)

# Where memory is short, convolutions are made again: more of them, a quarter less activations
numbers() { sed -nE "s/.*$1.*/\\1/p" "$2"; }
"$bin/lvc" "$models/augvae.lv" --config tiny -o tiny.lvm >full.txt 2>err; status=$?; succeeds without_limit
"$bin/lvc" "$models/augvae.lv" --config tiny --memory-limit 1 >err 2>&1
least=$(numbers 'needs at least .*\(([0-9]+) bytes\)' err)
"$bin/lvc" "$models/augvae.lv" --config tiny --memory-limit "$least" -o tiny.lvm >short.txt 2>err; status=$?; succeeds least_memory
holds more_convolutions test "$(numbers 'library calls +([0-9]+) convolutions' short.txt)" -gt "$(numbers 'library calls +([0-9]+) convolutions' full.txt)"
activations() { numbers 'activations +([0-9.]+) MiB' "$1"; }
holds a_quarter_less awk -v full="$(activations full.txt)" -v short="$(activations short.txt)" 'BEGIN { exit !(short > 0 && short < 0.75 * full) }'
"$bin/lvc" "$models/augvae.lv" --config tiny --memory-limit $((least - 1)) >err 2>&1; is not_less $? 1
# and of a limit between the two no more are made again than it asks for
between=$(awk -v full="$(activations full.txt)" -v short="$(activations short.txt)" -v least="$least" 'BEGIN { printf "%.0f", least + (full - short) * 524288 }')
"$bin/lvc" "$models/augvae.lv" --config tiny --memory-limit "$between" -o tiny.lvm >half.txt 2>err; status=$?; succeeds limit_between
holds fewer_convolutions test "$(numbers 'library calls +([0-9]+) convolutions' half.txt)" -lt "$(numbers 'library calls +([0-9]+) convolutions' short.txt)"

# A plan within a limit is kept too. One that is above it, by what the library takes now, is made anew: here as one made without the limit
within() { LV_CACHE_DIR=$PWD/within lvrun train "$models/augvae.lv" "${ml[@]}" --train-dir train "${quick[@]}" --val-every 0 --fresh --out within.run "$@"; }
largest() { find within -name '*.plan' "$@" -printf '%s %p\n' | sort -n | tail -1 | cut -d' ' -f2; }
rm -rf within
within; succeeds limit_none
unlimited=$(largest)
within --memory-limit 1
least=$(numbers 'needs at least .*\(([0-9]+) bytes\).*' err)
touch before
within --memory-limit "$least"; succeeds limit_plan
limited=$(largest -newer before)
holds limit_plan_kept test -n "$limited"
cp "$limited" limited.plan
ls -i within/*.plan >kept
within --memory-limit "$least"; succeeds limit_plan_served
holds limit_plan_not_rewritten bash -c 'ls -i within/*.plan | cmp - kept'
cp "$unlimited" "$limited"
within --memory-limit "$least"; succeeds limit_plan_too_large
holds limit_plan_made_anew cmp "$limited" limited.plan
