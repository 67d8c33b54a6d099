# It learns: 32 pairs by heart, and then greedy sampling gives the pictures back from their captions, token by token, and the
# captions from their pictures, letter by letter. Training and sampling agree to the last position, in both directions.
tiled_pairs pairs 32
lvrun train "${tiny_vae[@]}" --train-dir pairs --steps 100 --out vae; succeeds vae || return 0
vae=vae/checkpoints/last.safetensors
lvrun encode $vae pairs --out codes.safetensors; succeeds encode
codes_in codes.safetensors 32 >wanted
is pictures_differ "$(sort -u wanted | wc -l)" 32
lvrun train "${tiny_biart[@]}" --vae $vae --train-dir pairs --batch-size 32 --steps 300 --lr 3e-3 --schedule cosine --warmup 20 \
    --save-every 300 --out run
succeeds trains || return 0
checkpoint=run/checkpoints/last.safetensors

share() { awk -v least="$1" '{ n += $1 == $2 } END { printf "# %d of %d\n", n, NR; exit !(NR > 0 && n >= least * NR) }' FS='\t' "$2"; }

cat pairs/*.txt >prompts
lvrun sample $checkpoint --prompts prompts --greedy --tokens drawn.safetensors --out drawn; succeeds sample
codes_in drawn.safetensors 32 >got
paste <(tr -s ' ' '\n' <wanted) <(tr -s ' ' '\n' <got) | grep '[0-9]' >tokens
is pictures_tokens "$(wc -l <tokens)" 512
share 0.95 tokens
holds pictures_from_captions share 0.95 tokens

for way in greedy beams=4; do
    lvrun caption $checkpoint pairs --$way; succeeds "caption_${way%=*}"
    sed 's/^[^:]*: //' out | paste prompts - >captions
    is "captions_${way%=*}_all" "$(wc -l <captions)" 32
    share 0.95 captions
    holds "captions_from_pictures_${way%=*}" share 0.95 captions
done
