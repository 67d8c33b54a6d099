# A run: its folder, its log, what is printed, that the loss falls, that the same seed gives the same bits.
data
train "${quick[@]}" --out run; succeeds trains || return 0
for file in log.jsonl config.yaml curve.png checkpoints/last.safetensors checkpoints/best.safetensors checkpoints/step-12.safetensors; do
    holds "file_${file##*/}" test -s "run/$file"
done
holds images test -n "$(find run/images -name '*.png' -size +100c)"
holds events test -n "$(find run -name 'events.out.tfevents.*' -size +100c)"
is steps_logged "$(grep -c '"loss"' run/log.jsonl)" 12
is validations_logged "$(grep -c '"val_psnr"' run/log.jsonl)" 2
holds row_of_a_step grep -qE '^\{"step": 1, "epoch": 0, "loss": [0-9.e-]+, .*"lr": 0.001, "images_per_s": [0-9.e+]+\}$' run/log.jsonl
holds row_of_validation grep -qE '^\{"step": 6, "epoch": [0-9]+, .*"val_loss": [0-9.e-]+' run/log.jsonl
holds no_carriage_returns bash -c '! grep -q $'"'\r'"' out'
is no_temporary_files "$(find run -name '*tmp*' | wc -l)" 0
holds three_kept test "$(ls run/checkpoints/step-*.safetensors | wc -l)" -le 4

train "${quick[@]}" --out again; succeeds trains_again
holds same_bits cmp run/checkpoints/last.safetensors again/checkpoints/last.safetensors
is same_log "$(plain_log again/log.jsonl | cksum)" "$(plain_log run/log.jsonl | cksum)"
train "${quick[@]}" --out threads --num-workers 3; holds same_bits_with_more_workers cmp run/checkpoints/last.safetensors threads/checkpoints/last.safetensors
train "${quick[@]}" --out seed --seed 7; holds other_seed_other_bits bash -c '! cmp -s run/checkpoints/last.safetensors seed/checkpoints/last.safetensors'

# Done is done; further steps go on; --fresh starts anew
before=$(cksum <run/checkpoints/last.safetensors)
train "${quick[@]}" --out run; succeeds done_again
is done_unchanged "$(cksum <run/checkpoints/last.safetensors)" "$before"
train "${quick[@]}" --steps 16 --out run; succeeds further
is further_logged "$(grep -c '"loss"' run/log.jsonl)" 16
train "${quick[@]}" --out run --fresh; succeeds fresh
is fresh_same_bits "$(cksum <run/checkpoints/last.safetensors)" "$before"

# It learns
train --steps 300 --batch-size 8 --lr 5e-3 --schedule cosine --warmup 10 --val-every 150 --save-every 150 --threads 1 --out learns; succeeds learns
holds loss_falls awk -F'"loss": ' '/"loss"/ { split($2, a, ","); if (!n++) first = a[1]; last = a[1] } END { exit !(last < 0.7 * first) }' learns/log.jsonl

# A change of the model's source is a matter of running it
sed 's/swish(/gelu(/g' "$model" >gelu.lv
lvrun train gelu.lv --train-dir train --val-dir val "${quick[@]}" --out gelu; succeeds edited
holds edited_otherwise bash -c '! cmp -s run/checkpoints/last.safetensors gelu/checkpoints/last.safetensors'

# A plan is kept in the cache and serves the next run; a torn one is made anew
(
    export LV_CACHE_DIR=$work/plans
    train "${quick[@]}" --out first; succeeds plans_kept
    count=$(ls plans/*.plan | wc -l)
    holds plans_of_entries test "$count" -ge 3
    ls -i plans/*.plan >kept
    train "${quick[@]}" --out second; succeeds plans_served
    holds plans_not_rewritten bash -c 'ls -i plans/*.plan | cmp - kept'
    for file in plans/*.plan; do truncate -s -100 "$file"; done
    train "${quick[@]}" --out third; succeeds plans_torn
    is plans_torn_replaced "$(ls plans/*.plan | wc -l)" "$count"
    for out in first second third; do cmp "$out/checkpoints/last.safetensors" run/checkpoints/last.safetensors || echo differs; done >bits
    is plans_same_bits "$(cat bits)" ""
    lvrun train gelu.lv --train-dir train --val-dir val "${quick[@]}" --out other; succeeds plans_edited
    is plans_of_both "$(ls plans/*.plan | wc -l)" $((2 * count))
    holds plans_edited_otherwise bash -c '! cmp -s first/checkpoints/last.safetensors other/checkpoints/last.safetensors'
)

# A checkpoint is a model
for file in run/checkpoints/best.safetensors; do
    lvrun info "$file"; succeeds info
    holds info_parameters grep -q 'hidden' out
    lvrun eval "$file" --val-dir val; succeeds eval
    lvrun reconstruct "$file" val --out pictures; succeeds reconstruct
    lvrun encode "$file" val --out codes.safetensors; succeeds encode
    lvrun decode "$file" codes.safetensors --out decoded; succeeds decode
done
lvrun eval "$model" --val-dir val; said eval_without_weights

# On a terminal one line that is drawn over; elsewhere lines
if command -v script >/dev/null; then
    script -qec "'$bin/lvrun' train '$model' --train-dir train --val-dir val ${quick[*]} --out terminal" typescript >out 2>err; status=$?
    succeeds terminal
    holds terminal_progress grep -q $'\r\033\\[Kstep 12/12' typescript
else
    echo "skip terminal: no script(1)"
fi
