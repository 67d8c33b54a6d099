# Several ranks: two with half a batch each take the steps of one with the whole; stopped, killed and gone on; errors said once.
# On a GPU a part's gradients are summed while those of the next are made: its update waits for both; on the CPU it follows its own sum
first_update() {  # device
    "$bin/lvc" "$here/parts.lv" --entry train --ranks 2 --device "$1" --explain -o parts.lvm 2>err |
        awk '/ all_reduce f32\[[0-9][0-9][0-9][0-9]/ { sums++ } /\(optimizer\)/ && sums && !first { first = sums } END { print first, (sums > 2) }'
}
is updates_overlap "$(first_update cuda:sm_90)" "3 1"
is updates_follow "$(first_update cpu)" "2 1"  # the first two are made of one gradient
is alone_sums_nothing "$("$bin/lvc" "$here/parts.lv" --entry train --explain -o parts.lvm | grep -c all_reduce)" 0
command -v mpirun >/dev/null || { echo "skip ranks: there is no mpirun (apt install openmpi-bin)"; return 0; }
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0  # MPI unloads its parts, and nobody knows then whose the memory was
data
two() { train "${quick[@]}" --ranks 2 "$@"; }
losses() { grep -o '"step": [0-9]*, "epoch": [0-9]*, "loss": [0-9.e-]*' "$1/log.jsonl"; }
alike() { paste <(losses "$1") <(losses "$2") | awk '{ d = $6 - $12; if (d < 0) d = -d; if ($1 $2 $3 $4 != $7 $8 $9 $10 || d > 1e-4 * $6) bad = 1; n++ } END { exit bad || n != 12 }'; }
same() { cmp "$1/checkpoints/last.safetensors" "$2/checkpoints/last.safetensors"; }

two --batch-size 2 --out two; succeeds two || return 0
train "${quick[@]}" --out one; succeeds one
holds steps_of_one_rank alike one two
is rank_0_logs "$(grep -c '"loss"' two/log.jsonl)" 12
is rank_0_validates "$(grep -c '"val_psnr"' two/log.jsonl)" 2
two --batch-size 2 --out twice; succeeds twice
holds same_bits same two twice
# Validation is dealt out by batches: of 4 pictures by 2 to each, of 7 by 2, 2, 2 and 1
scores() { grep -o '"val_[a-z_]*": [0-9.e-]*' "$1/log.jsonl" | grep -v perplexity; }  # that is a mean over batches
close() { paste <(scores "$1") <(scores "$2") | awk '{ d = $2 - $4; if (d < 0) d = -d; if ($1 != $3 || d > 2e-3 * $2) bad = 1; n++ } END { exit bad || n != 10 }'; }
holds validates_alike close one two
pictures more 7
two --batch-size 2 --val-dir more --out more_two; succeeds validates_seven
train "${quick[@]}" --val-dir more --out more_one
holds validates_seven_alike close more_one more_two
holds sheet_of_rank_0 test -s two/images/step-000012.png
is one_voice "$(grep -c 'done after step 12' out)" 1
holds rate_times_ranks bash -c "$bin/lvrun train $model --train-dir train --batch-size 2 --ranks 2 --steps 1 --threads 1 --out rate >/dev/null && grep -q '\"lr\": 0.004,' rate/log.jsonl"
two --batch-size 2 --accumulate 2 --steps 4 --val-every 4 --out summed; succeeds accumulates
train "${quick[@]}" --accumulate 2 --steps 4 --val-every 4 --out summed_one; succeeds accumulates_one
holds accumulates_alike awk -F'"loss": ' '/"loss"/ { split($2, a, ","); if (FNR == NR) one[FNR] = a[1]; else { d = a[1] - one[FNR]; if (d * d > 1e-8 * a[1] * a[1]) bad = 1; n++ } } END { exit bad || n != 4 }' summed_one/log.jsonl summed/log.jsonl
two --batch-size 2 --clip 0.01 --out clipped; succeeds clips
train "${quick[@]}" --clip 0.01 --out clipped_one; holds clips_alike alike clipped_one clipped

# Stopped by a signal to lvrun or to the launcher, and gone on: the same bits
for signal in INT TERM; do
    "$bin/lvrun" train "$model" --train-dir train --val-dir val "${quick[@]}" --batch-size 2 --steps 100000 --ranks 2 --out "$signal" >out 2>err &
    for ((i = 0; i < 300; i++)); do sleep 0.1; grep -qs '"step": 2,' "$signal/log.jsonl" && break; done
    kill "-$signal" $!
    wait $!; status=$?; succeeds "stops_$signal"
    holds "stops_${signal}_saved" grep -q 'stopped and saved after step' out
done
cp -r INT other
step=$(($(grep -c '"loss"' INT/log.jsonl) + 3))
two --batch-size 2 --steps $step --out INT; succeeds goes_on
two --batch-size 2 --steps $step --out straight; succeeds straight
holds goes_on_same_bits cmp INT/checkpoints/step-$step.safetensors straight/checkpoints/step-$step.safetensors
train "${quick[@]}" --steps $step --out other; succeeds goes_on_alone

# The launcher's own way
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
mpirun -q --host localhost:2 -n 2 "$bin/lvrun" train "$model" --train-dir train --val-dir val "${quick[@]}" --batch-size 2 --out launched >out 2>err
status=$?; succeeds by_mpirun
holds by_mpirun_same_bits same launched two
mpirun -q --host localhost:2 -n 2 "$bin/lvrun" train "$model" --train-dir train "${quick[@]}" --ranks 3 --out no >out 2>err
status=$?; is other_number "$status" 2
holds other_number_said grep -q '3 ranks are asked for, and the launcher started 2' err

# A model of text and pictures: the mean is over the tokens of all ranks, however many each one counts
for file in train/*.ppm; do name=${file##*/}; printf 'a %s\n' "$(printf 'word %.0s' $(seq 1 $((${#name} * RANDOM % 7 + 1))))" >"${file%.ppm}.txt"; done
pair() { lvrun train "$root/models/biart.lv" --n-layer 1 --n-head 2 --n-embd 32 --text-len 12 --image-vocab 32 --vae two/checkpoints/last.safetensors --tokenizer "$here/tokenizer.json" --train-dir train "${quick[@]}" --crop center --samples 0 "$@"; }
pair --out pair_one; succeeds pair_one
pair --batch-size 2 --ranks 2 --cache-tokens --cache-dir codes --out pair_two; succeeds pair_two
holds pairs_alike alike pair_one pair_two

# What is wrong is said once, with the exit code of one process
two --schedule cosin --out no; said ranks_schedule
two --train-dir nowhere --out no; said ranks_no_data
two --batch-size 9 --out no; said ranks_too_few
two --ranks 2 --gpus 3 --device cuda --out no; said ranks_and_gpus
train "${quick[@]}" --ranks 0 --out no; said ranks_none
two --lr 1e9 --batch-size 2 --clip 0 --out nan; is nan "$status" 1
is nan_once "$(grep -c 'error: .*first bad tensor' err)" 1
RANK=0 WORLD_SIZE=2 train "${quick[@]}" --out no; said ranks_torchrun
PATH=/nonexistent "$bin/lvrun" train "$model" --train-dir train "${quick[@]}" --ranks 2 --out no >out 2>err; status=$?; said ranks_no_mpirun
OMPI_COMM_WORLD_SIZE=2 LV_MPI=/nonexistent/libmpi.so train "${quick[@]}" --out no; said ranks_no_mpi
holds no_folder test ! -e no

# Bad pictures are passed over, whoever meets them
cp -r train spoiled
for i in 1 2 3; do head -c 100 train/p$i.ppm >spoiled/p$i.ppm; done
two --train-dir spoiled --batch-size 2 --out spoiled_run; succeeds broken_pictures
holds broken_named grep -q "warning: picture '.*p1.ppm' is passed over" out

# A rank that is killed ends all of them; what was saved is whole
"$bin/lvrun" train "$model" --train-dir train "${quick[@]}" --batch-size 2 --steps 100000 --save-every 2 --ranks 2 --out killed >out 2>err &
for ((i = 0; i < 300; i++)); do sleep 0.1; [ -s killed/checkpoints/last.safetensors ] && break; done
pkill -9 -n -f "$bin/lvrun train $model .*--out killed"
wait $!; status=$?
sed -i '/^\[/d' err  # what MPI has to say of a neighbour that is gone
said ranks_killed
two --batch-size 2 --steps $(($(grep -c '"loss"' killed/log.jsonl) + 4)) --out killed; succeeds goes_on_after_kill

# One that is stuck is noticed by those that wait for it
LV_COMM_TIMEOUT=1 "$bin/lvrun" train "$model" --train-dir train "${quick[@]}" --batch-size 2 --steps 100000 --ranks 2 --out stuck >out 2>err &
for ((i = 0; i < 300; i++)); do sleep 0.1; grep -qs '"step": 2,' stuck/log.jsonl && break; done
run=$! stuck=$(pgrep -n -f "$bin/lvrun train $model .*--out stuck")
kill -STOP "$stuck"
(sleep 30; kill -KILL "$stuck") >/dev/null 2>&1 &  # should nobody notice, the test fails and does not hang
guard=$!
wait $run; status=$?
kill $guard; is stuck "$status" 1
holds stuck_said grep -qE 'error: (rank 1: )?(step [0-9]+, all_reduce .*: )?rank [01] has waited 1 s for the other ranks' err
