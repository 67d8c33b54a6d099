# A model of text and pictures: pairs from every kind of source, codes kept in a file, checkpoints that suffice by themselves.
pairs() {  # folder count
    pictures "$1" "$2"
    for ((i = 1; i <= $2; i++)); do printf 'a picture called %d\n\nalso number %d of %s\n' $i $i "$1" >"$1/p$i.txt"; done
}
pairs train 12 && pairs val 5
lvrun train "$model" --train-dir train --val-dir val "${quick[@]}" --out vae; succeeds vae || return 0
vae=vae/checkpoints/best.safetensors tokenizer=$here/tokenizer.json
tiny=(--n-layer 1 --n-head 2 --n-embd 32 --text-len 12 --image-vocab 32)
steps=(--steps 30 --batch-size 4 --lr 1e-2 --schedule cosine --warmup 5 --val-every 10 --num-workers 1 --threads 1 --samples 0)
given=(--vae "$vae" --tokenizer "$tokenizer" --cache-dir codes)
pair() { lvrun train "$root/models/biart.lv" "${tiny[@]}" "${steps[@]}" "$@"; }
biart() { pair "${given[@]}" --train-dir train --val-dir val "$@"; }
same() { cmp "$1/checkpoints/last.safetensors" "$2/checkpoints/last.safetensors"; }

biart --no-cache-tokens --crop center --samples 2 --out run; succeeds trains || return 0
last=run/checkpoints/last.safetensors
holds row_of_a_step grep -qE '^\{"step": 1, "epoch": 0, "loss": [0-9.]+, "text_loss": [0-9.]+, "image_loss": [0-9.]+, "lr": [0-9.]+, "tokens_per_s": [0-9.e+]+, "peak_share": [0-9.e-]+\}$' run/log.jsonl
holds row_of_validation grep -qE '^\{"step": 30, .*"val_loss": [0-9.]+, "val_text_loss": [0-9.]+, "val_image_loss": [0-9.]+\}$' run/log.jsonl
holds learns awk -F'"val_loss": ' 'NF > 1 { split($2, a, ","); if (!n++) first = a[1]; last = a[1] } END { exit !(n == 3 && last < 0.8 * first) }' run/log.jsonl
holds parameters_follow grep -qE '^(text_vocab: 110|end_id: 109|image_len: 16)$' run/config.yaml
holds samples test -s run/images/step-000030-samples.png
is samples_logged "$(grep -cE '"picture": "p[0-9].ppm", "caption": "a picture called [0-9]", "written": ".*"}' run/log.jsonl)" 6
biart --no-cache-tokens --crop center --text-to-image-share 1 --steps 1 --out draws; succeeds only_draws
holds only_draws_no_text grep -q '"text_loss": 0, ' draws/log.jsonl

# The checkpoint alone suffices
mkdir alone && cp $last alone/it.safetensors
(cd alone && lvrun eval it.safetensors --val-dir ../val --threads 1; echo $status >code); status=$(cat alone/code); succeeds eval
scores() { grep -oE '"val_[a-z_]*loss": [0-9.]+' "$1" | tail -3; }
is eval_as_logged "$(scores alone/out)" "$(scores run/log.jsonl)"
lvrun info $last; succeeds info
holds info_tokenizer grep -qE '^tokenizer +110 tokens, 109 ends a text' out
holds info_vae grep -qE '^vae +Small' out
lvrun train $last --train-dir val --steps 2 --batch-size 4 --lr 1e-3 --num-workers 1 --threads 1 --out more; succeeds trains_on
biart --steps 2 --init $last --out init; succeeds init
holds init_report grep -qE 'last.safetensors: [0-9]+ tensors taken$' out

# Codes in a file: the same bits, and pictures are not looked at again
biart --cache-tokens --out kept; succeeds cached
holds cached_same_bits same run kept
for file in train/*.ppm; do touch -r "$file" when && head -c "$(stat -c %s "$file")" /dev/zero >"$file" && touch -r when "$file"; done
biart --cache-tokens --out again; succeeds cached_again
holds cached_no_decoding same run again
holds cached_said grep -qE '^train: codes of 12 pictures from codes/' out
file=$(grep -oE 'codes/[0-9a-f]+.codes' out | head -1) other=$(ls codes/*.codes | grep -v "$file" | head -1)
pictures train 12
for change in 'truncate -s -5 $file' 'cp $other $file' 'printf x | dd of=$file bs=1 seek=100 conv=notrunc status=none' 'truncate -s 0 $file'; do
    biart --cache-tokens --out mended --steps 2 --fresh; succeeds cached_mended
    file=$(grep -oE 'codes/[0-9a-f]+.codes' out | head -1)
    eval "$change"
    biart --cache-tokens --out mended; succeeds cached_mended
    holds cached_mended_said grep -q 'it is made anew' out
    holds cached_mended_bits same run mended
done
biart --cache-variants 2 --flip --steps 4 --out variants; succeeds cached_variants
holds cached_variants_said grep -q 'encoding 24 pictures' out

# Killed at any moment: the same bits
long=(--steps 300 --save-every 10 --val-every 50 --cache-tokens)
biart "${long[@]}" --out whole; succeeds whole
lines() { cat killed/log.jsonl 2>/dev/null | wc -l; }
RANDOM=3 kills=0
for ((i = 0; i < 12 && kills < 5; i++)); do
    "$bin/lvrun" train "$root/models/biart.lv" "${tiny[@]}" "${steps[@]}" "${given[@]}" --train-dir train --val-dir val "${long[@]}" --out killed >out 2>err &
    pid=$! goal=$(($(lines) + RANDOM % 100))
    while kill -0 $pid 2>/dev/null && [ "$(lines)" -lt $goal ]; do sleep 0.01; done
    if kill -KILL $pid 2>/dev/null; then kills=$((kills + 1)); fi
    wait $pid 2>/dev/null || continue
    [ $kills -ge 2 ] && break
    rm -rf killed; kills=0  # it was done before we looked: once more
done
biart "${long[@]}" --out killed; succeeds run_to_the_end
holds killed_sometimes test "$kills" -ge 2
holds killed_same_bits same whole killed
is killed_same_log "$(plain_log killed/log.jsonl | cksum)" "$(plain_log whole/log.jsonl | cksum)"

# Sources of pairs
{
    printf '{"images": ['; for ((i = 1; i <= 12; i++)); do printf '%s{"id": %d, "file_name": "p%d.ppm"}' "${comma-}" $i $i; comma=', '; done
    printf '], "annotations": ['; comma=
    for ((i = 1; i <= 8; i++)); do printf '%s{"image_id": %d, "caption": "number %d"}' "$comma" $i $i; comma=', '; done
    printf ']}'
} >coco.json
for ((i = 1; i <= 8; i++)); do printf 'train/p%d.ppm\tnumber %d\n' $i $i; done >list.tsv
tar cf shard.tar train
for source in coco.json:train list.tsv shard.tar; do
    pair "${given[@]}" --train-dir $source --steps 3 --out "from_${source%%.*}"; succeeds "from_${source%%.*}"
done
pair "${given[@]}" --train-dir coco.json:train --steps 3 --out from_coco --fresh
holds left_out grep -qF "4 of 12 pictures have no caption and are left out: 'p9.ppm', 'p10.ppm', 'p11.ppm', ..." out
cp -r train gaps && : >gaps/p3.txt && printf ' \n\n' >gaps/p5.txt && rm gaps/p7.txt
pair "${given[@]}" --train-dir gaps --val-dir gaps --steps 6 --val-every 6 --out gaps_run; succeeds gaps
is gaps_named "$(grep -cE "warning: picture 'p[35].ppm' is passed over: it has no caption" out)" 2
holds gaps_counted grep -q '^2 pictures without a caption were passed over' out

# What is refused
mkdir bare && cp train/*.ppm bare
pair "${given[@]}" --train-dir bare --out no; said pairs_without_captions
for ((i = 1; i <= 12; i++)); do : >bare/p$i.txt; done
pair "${given[@]}" --train-dir bare --out no2; { grep -v warning err; } >err.new; mv err.new err; said pairs_with_empty_captions
pair --vae $vae --train-dir train --out no; said no_tokenizer
pair --tokenizer "$tokenizer" --train-dir train --out no; said no_vae
pair --tokenizer "$tokenizer" --vae $last --train-dir train --out no; said vae_is_none
pair --tokenizer "$tokenizer" --vae "$root/models/augvae.lv" --train-dir train --out no; said vae_without_weights
pair --tokenizer train/p1.txt --vae $vae --train-dir train --out no; said tokenizer_is_none
biart --image-len 15 --out no; said image_len
biart --text-vocab 100 --out no; said text_vocab
biart --end-id 5 --out no; said end_id
biart --cache-tokens --flip --out no; said cached_flip
lvrun train "$model" --train-dir train --tokenizer "$tokenizer" --out no; said tokenizer_of_no_use
holds nothing_made test ! -e no
sed 's/"dropout": null, //' "$tokenizer" >other.json
pair --vae $vae --tokenizer other.json --train-dir train --val-dir val --crop center --out run; said other_tokenizer
lvrun train "$model" --train-dir train --val-dir val "${quick[@]}" --seed 5 --out vae2
pair --vae vae2/checkpoints/best.safetensors --tokenizer "$tokenizer" --train-dir train --val-dir val --crop center --out run; said other_vae
holds other_nothing_lost same run kept
