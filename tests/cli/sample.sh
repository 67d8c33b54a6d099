# Pictures from text and text from pictures: what the commands write, that a seed is a picture, and what they refuse.
tiled_pairs pairs 12
lvrun train "${tiny_vae[@]}" --train-dir pairs --steps 60 --out vae; succeeds vae || return 0
vae=vae/checkpoints/last.safetensors
lvrun train "${tiny_biart[@]}" --vae $vae --train-dir pairs --batch-size 8 --steps 40 --lr 3e-3 --save-every 40 --out run
succeeds trains || return 0
best=run/checkpoints/last.safetensors
sample() { lvrun sample $best --threads 1 "$@"; }
caption() { lvrun caption $best --threads 1 "$@"; }
field() { sed -nE "s/.*\"$2\": \"?([^,\"}]*).*/\1/p" "$1"; }

# What there is afterwards
sample --prompt "a red heart" "A Blue dog!" --count 2 --out two; succeeds sample || return 0
is files "$(cd two && echo *)" "001-a-red-heart-s42.png 001-a-red-heart-s43.png 002-a-blue-dog-s42.png 002-a-blue-dog-s43.png samples.jsonl sheet.png"
holds log_is_stdout cmp out two/samples.jsonl
is prompts "$(field out prompt | paste -sd,)" "a red heart,a red heart,A Blue dog!,A Blue dog!"
is seeds "$(field out seed | paste -sd,)" 42,43,42,43
is logprobs "$(field out logprob | awk '$1 < -1 && $1 > -100' | wc -l)" 4
holds seeds_differ bash -c '! cmp two/001-a-red-heart-s42.png two/001-a-red-heart-s43.png'
holds sheet_is_a_picture bash -c 'head -c 8 two/sheet.png | grep -q PNG'

# A seed is a picture: alone, beside others, in another order, again
sample --prompt "A Blue dog!" --seed 43 --out one; succeeds alone
holds alone_same cmp one/001-a-blue-dog-s43.png two/002-a-blue-dog-s43.png
is alone_logprob "$(field out logprob | cut -c1-6)" "$(field two/samples.jsonl logprob | tail -1 | cut -c1-6)"
sample --prompt "A Blue dog!" --prompt "a red heart" --count 3 --seed 41 --batch-size 4 --out three; succeeds others
holds others_same cmp three/001-a-blue-dog-s43.png two/002-a-blue-dog-s43.png
holds others_same_too cmp three/002-a-red-heart-s42.png two/001-a-red-heart-s42.png
cp -r two before
sample --prompt "a red heart" "A Blue dog!" --count 2 --out two; succeeds again
holds again_same diff -r before two
sample --prompt "a red heart" --top-k 1 --out top_k; succeeds top_k
sample --prompt "a red heart" --greedy --seed 7 --out greedy; succeeds greedy
holds top_k_1_is_greedy cmp top_k/001-a-red-heart-s42.png greedy/001-a-red-heart-s7.png
sample --prompt "a red heart" --top-p 1e-6 --out top_p; succeeds top_p
holds small_top_p_is_greedy cmp top_p/001-a-red-heart-s42.png greedy/001-a-red-heart-s7.png
sample --prompt "a red heart" --precision bf16 --out bf16; succeeds bf16

# The best of several, by the other direction
sample --prompt "a red heart" --count 4 --out four
sample --prompt "a red heart" --count 2 --rerank 4 --out ranked; succeeds rerank
is rerank_keeps "$(grep -c . out)" 2
holds rerank_in_order awk 'NR > 1 && $1 > last { exit 1 } { last = $1 }' <(field out rerank_logprob)
holds rerank_same_pictures bash -c 'for f in ranked/001*; do cmp $f four/${f#*/} || exit 1; done'
lvrun encode $vae four/0*.png --threads 1; succeeds reads_own_pictures

# Prompts from a file: empty lines, carriage returns, too long, no UTF-8
printf 'a red heart\r\n\n\na cat that is by far too long for what the model reads\nno \xff here\na red heart' >prompts.txt
sample --prompts prompts.txt --out from_file; succeeds prompts; sed -i 's/[0-9]* tokens.s/N tokens\/s/' err; said prompts
is prompts_lines "$(cd from_file && echo 0*)" "001-a-red-heart-s42.png 004-a-cat-that-is-by-far-too-long-for-what-t-s42.png 005-no-here-s42.png 006-a-red-heart-s42.png"
holds prompts_left_out grep -q '"left_out": "' out
holds prompts_replaced grep -q '"prompt": "no \\ufffd here"\|"prompt": "no � here"' out
holds prompts_same cmp from_file/001-a-red-heart-s42.png two/001-a-red-heart-s42.png
holds prompts_same_twice cmp from_file/001-a-red-heart-s42.png from_file/006-a-red-heart-s42.png
: >none.txt
sample --prompts none.txt --out none; said no_prompts
sample --prompt "a cat" "" --out none; said empty_prompt
sample --prompt "猫" --out none; said unknown_prompt
sample --prompt "a 猫cat猫 🐱" --out unknown; succeeds unknown; sed -i 's/[0-9]* tokens.s/N tokens\/s/' err; said unknown_characters

# Line by line: each is answered before the next is sent
mkfifo ask
"$bin/lvrun" sample $best --prompts - --threads 1 --out asked <ask >answers 2>err &
pid=$!
exec 7>ask
answered=1
for line in "a red heart" "" "a blue cat"; do
    echo "$line" >&7
    for ((i = 0; i < 600; i++)); do [ "$(wc -l <answers)" -ge $answered ] && break; sleep 0.05; done
    is "stream_answer_$answered" "$(wc -l <answers)" $answered
    answered=$((answered + 1))
done
exec 7>&-
wait $pid; status=$?
cp answers out; sed -i 's/[0-9]* tokens.s/N tokens\/s/' err; said stream
holds stream_refused grep -q '^{"prompt": "", "error": "prompt 2: the prompt is empty"}$' answers
holds stream_same cmp asked/001-a-red-heart-s42.png two/001-a-red-heart-s42.png
holds stream_sheet test -s asked/sheet.png

# Captions
caption pairs/p10.ppm; succeeds caption
is caption_alone "$(grep -c '' out) $(grep -c p10 out)" "1 0"
caption pairs --batch-size 4 --greedy; succeeds captions
is captions_names "$(cut -d: -f1 out | paste -sd' ')" "$(cd pairs && echo *.ppm)"
cp out greedy_captions
caption pairs --batch-size 4 --beams 1; succeeds beams_1
holds beams_1_is_greedy cmp out greedy_captions
caption pairs/p10.ppm pairs/p12.ppm --json --batch-size 4; succeeds json
holds json_lines grep -qE '^\{"file": "pairs/p12.ppm", "caption": ".*", "logprob": -[0-9.]+\}$' out
caption pairs --temperature 0.8 --batch-size 4; succeeds temperature
cp out warm
caption pairs/p2*.ppm pairs/p15.ppm pairs/p10.ppm --temperature 0.8 --batch-size 4; succeeds temperature_beside_others
is temperature_same "$(sed -n 's/.*p15.ppm: //p' out)" "$(sed -n 's/^p15.ppm: //p' warm)"
picture wide.ppm 50 20 1000 && head -c 100 wide.ppm >torn.ppm
caption pairs/p10.ppm pairs/p11.ppm torn.ppm pairs/p12.ppm wide.ppm --greedy --batch-size 4; succeeds broken_one
holds broken_one_said grep -q "warning: 'torn.ppm' is passed over" err
is broken_one_left_out "$(cut -d: -f1 out | paste -sd' ')" "pairs/p10.ppm pairs/p11.ppm pairs/p12.ppm wide.ppm"
caption torn.ppm; is broken_all "$status" 1
caption nowhere.ppm; is no_such_picture "$status" 1
caption pairs/p10.ppm --beams 9; succeeds wide_beam
caption pairs pairs/p10.ppm --greedy --sheet said.png; succeeds caption_sheet
holds caption_sheet_is_a_picture bash -c 'head -c 8 said.png | grep -q PNG'
caption pairs/p10.ppm --sheet nowhere/said.png; is caption_sheet_nowhere "$status" 1

# Companions: the checkpoint's own, or named
weights=("$root/models/biart.lv" --weights $best --n-layer 2 --n-head 2 --n-embd 64 --text-len 20 --text-vocab 110 --image-vocab 32
    --image-len 16 --end-id 109 --threads 1 --prompt "a red heart")
lvrun sample "${weights[@]}" --out none; said sample_without_tokenizer
lvrun sample "${weights[@]}" --tokenizer "$here/tokenizer.json" --out none; said sample_without_vae
lvrun sample "${weights[@]}" --tokenizer "$here/tokenizer.json" --vae $vae --out named; succeeds companions_named
holds companions_named_same cmp named/001-a-red-heart-s42.png two/001-a-red-heart-s42.png
lvrun sample $best --prompt x --vae "$here/small.lv" --out none; said sample_vae_without_weights
sed 's/: 109/: 209/' "$here/tokenizer.json" >larger.json
lvrun sample $best --prompt x --tokenizer larger.json --out none; said sample_larger_tokenizer
lvrun sample $vae --prompt x --out none; said sample_from_vae
lvrun caption $vae pairs; said caption_from_vae
lvrun sample "$root/models/biart.lv" --prompt x --out none; said sample_without_weights

# Wrong words
lvrun sample $best; said sample_no_prompt
sample --prompt x --prompts prompts.txt; said sample_both_prompts
lvrun sample $best "a red heart" --prompt x; said sample_stray_word
sample --prompt x --greedy --temperature 1; said sample_greedy_temperature
sample --prompt x --greedy --count 2; said sample_greedy_count
sample --prompt x --count 3 --rerank 2; said sample_rerank_less
sample --prompt x --temperature -1; said sample_temperature
sample --prompt x --top-p 0; said sample_top_p
sample --prompt x --count 0; said sample_count
sample --prompt x --seed later; said sample_seed
sample --prompts nowhere.txt; said sample_no_file
sample --promt x; said sample_misspelt
caption pairs --beams 4 --greedy; said caption_beams_greedy
caption pairs --beams 0; said caption_beams
lvrun caption $best; said caption_of_nothing
: >file
sample --prompt x --out file; said sample_out_is_a_file
sample --prompt x --out file/in; said sample_out_in_a_file
holds nothing_made test ! -e none
