# Text for a language model: trained, killed and gone on with, validated, written; what is said about wrong data.
gpt=$root/examples/gpt.lv
tiny=(--context 16 --layers 1 --heads 2 --width 16)
quick=(--batch-size 4 --lr 3e-3 --num-workers 2 --threads 1)
mkdir -p text/deep
for ((i = 0; i < 200; i++)); do printf 'line %d of it\n' $i; done >text/lines.txt
for ((i = 0; i < 200; i++)); do printf 'and %d more\n' $((i * i)); done >text/deep/more
head -c 100 /dev/zero >text/zeros.bin

train_text() { lvrun train "$gpt" "${tiny[@]}" --train-dir text:text:0-90% --val-dir text:text:90-100% "${quick[@]}" "$@"; }
train_text --steps 60 --val-every 20 --save-every 20 --out whole; succeeds trains || return 0
holds row_of_a_step grep -qE '^\{"step": 1, .*"loss": [0-9.e-]+, .*"tokens_per_s": [0-9.e+]+' whole/log.jsonl
holds row_of_validation grep -qE '^\{"step": 60, .*"val_loss": [0-9.e-]+, "val_bits"' whole/log.jsonl
holds loss_falls awk -F'"val_loss": ' '/"val_loss"/ { split($2, a, ","); if (!n++) first = a[1]; last = a[1] } END { exit !(last < first) }' whole/log.jsonl
holds said_windows grep -q 'text:text:0-90%: [0-9]* windows; steps 1 to 60' out

# Stopped in the middle of an epoch and gone on with, by other numbers of workers: the same bits
train_text --steps 20 --val-every 20 --save-every 20 --num-workers 0 --out parts; succeeds first_part
train_text --steps 60 --val-every 20 --save-every 20 --num-workers 3 --out parts; succeeds second_part
holds same_bits cmp whole/checkpoints/last.safetensors parts/checkpoints/last.safetensors
is same_log "$(plain_log parts/log.jsonl | cksum)" "$(plain_log whole/log.jsonl | cksum)"
printf 'one file more, which makes it another text\n' >text/z.txt
train_text --steps 61 --out parts; succeeds other_text
holds other_text_said grep -q 'not those that the run began with' out
rm text/z.txt

trained=whole/checkpoints/last.safetensors
lvrun eval $trained --val-dir text:text:90-100% --batch-size 4 --threads 1; succeeds eval
is eval_as_validation "$(sed -nE 's/.*"val_loss": ([0-9.e-]+).*/\1/p' out)" "$(sed -nE 's/^.*"step": 60,.*"val_loss": ([0-9.e-]+).*/\1/p' whole/log.jsonl)"
holds eval_windows grep -q '^{"windows": [0-9]*, ' out

# Writing: as seeded; what `next` chooses is what `begin` chooses after the same text, also where it goes on over a full cache
write() { lvrun generate $trained --threads 1 "$@"; }
write --prompt 'line ' --length 40 --seed 3; succeeds generates
holds begins_with_prompt grep -q '^line ' out
cp out first
write --prompt 'line ' --length 40 --seed 3; holds same_seed_same_text cmp out first
write --prompt 'line ' --length 40 --seed 4; holds other_seed_other_text bash -c '! cmp -s out first'
write --prompt 'line 1' --length 7 --temperature 0
greedy=$(cat out)
is greedy_length ${#greedy} 13
write --prompt 'line 1' --length 2 --temperature 0; is greedy_again "$(cat out)" "${greedy:0:8}"
write --prompt "${greedy:0:7}" --length 1 --temperature 0; is as_from_prompt "$(cat out)" "${greedy:0:8}"
write --prompt 'line 1' --length 7 --top-k 1; is top_1_is_greedy "$(cat out)" "$greedy"
write --prompt 'line 1' --length 14 --temperature 0
long=$(head -c 18 out; echo .)
write --prompt "${long:9:8}" --length 1 --temperature 0; is over_full_cache "$(head -c 9 out; echo .)" "${long:9:9}."
write --length 5; succeeds without_prompt

# Tokens of a tokenizer, which the checkpoint carries
lvrun train "$gpt" "${tiny[@]}" --train-dir text:text "${quick[@]}" --steps 4 --tokenizer "$here/tokenizer.json" --out ids; succeeds tokens
holds vocab_follows grep -q '^vocab: 110' ids/config.yaml
lvrun generate ids/checkpoints/last.safetensors --prompt 'line' --length 5 --threads 1; succeeds writes_tokens
holds tokens_of_prompt grep -q '^line' out

# What is said about wrong data
wrong() { lvrun train "$gpt" "${tiny[@]}" "${quick[@]}" --steps 1 --out wrong "$@"; }
mkdir none && cp text/zeros.bin none
printf 'ten bytes\n' >short
wrong --train-dir text:none; said text_none
wrong --train-dir text:txet; said text_missing
wrong --train-dir text:text/zeros.bin; said text_no_text
wrong --train-dir text:short; said text_short
wrong --train-dir text:text:90-80%; said text_part
wrong --train-dir text:text --vocab 100; said text_ids
wrong --train-dir text:text --vocab 100 --tokenizer "$here/tokenizer.json"; said text_vocab_tokenizer
pictures pictures 4
wrong --train-dir pictures; said text_of_pictures
lvrun train "$model" --train-dir text:text --steps 1 --out wrong; said pictures_of_text
holds nothing_made test ! -e wrong
lvrun generate "$gpt" --length 1; said generate_without_weights
lvrun generate $trained --temperature -1; said generate_temperature
lvrun generate ids/checkpoints/last.safetensors --tokenizer nowhere.json; said generate_no_tokenizer
train --steps 1 --batch-size 4 --lr 1e-3 --threads 1 --train-dir pictures --val-dir pictures --out small >/dev/null
lvrun generate small/checkpoints/last.safetensors; said generate_no_entry
