# The complete models: AugVAE trained, fine-tuned to one map, run from an artifact; sums of several batches, clipping, bf16.
pictures train 8 && pictures val 4
small=(--num-tokens 16 --hidden-dim 8 --norm-groups 4 --num-res-blocks 1 --z-channels 8 --codebook-dim 8)
ml=(--resolution 32 --ch-mult "[1, 2]" --attn-resolutions "[16, 8]" "${small[@]}")
quick=(--steps 2 --batch-size 2 --lr 1e-4 --val-every 2 --num-workers 1 --threads 1)
models=$root/models

lvrun train "$models/augvae.lv" "${ml[@]}" --train-dir train --val-dir val "${quick[@]}" --out ml; succeeds augvae || return 0
holds augvae_results grep -q '"perplexity"' ml/log.jsonl
lvrun train "$models/augvae.lv" "${ml[@]}" --train-dir train --val-dir val "${quick[@]}" --out frozen --loss-type lpips_l1
said lpips_without_weights

"$bin/lvc" "$models/augvae.lv" "${ml[@]}" --batch 2 -o small.lvm >out 2>err; status=$?; succeeds artifact
rm -rf elsewhere && mkdir elsewhere && mv small.lvm elsewhere
# Its own plan is taken: none of `train` is compiled
plans() { find cached -name '*.plan' 2>/dev/null | wc -l; }
rm -rf cached
LV_CACHE_DIR=$PWD/cached lvrun train elsewhere/small.lvm --train-dir train "${quick[@]}" --val-every 0 --out taken; succeeds artifact_alone
is artifact_is_taken "$(plans)" 1  # of init
(unset LV_ROOT; cd elsewhere && lvrun train small.lvm --train-dir ../train --val-dir ../val "${quick[@]}" --out ../lvm; echo $status >../code)
status=$(cat code); succeeds artifact_trains
holds artifact_same_bits bash -c 'diff <(tail -c 5000 ml/checkpoints/last.safetensors) <(tail -c 5000 lvm/checkpoints/last.safetensors)'

# Sums over batches: two of 2 are one of 4 where nothing depends on the batch as a whole
train --steps 3 --batch-size 4 --lr 1e-3 --crop center --num-workers 1 --threads 1 --out one; succeeds batch_of_four
train --steps 3 --batch-size 2 --accumulate 2 --lr 1e-3 --crop center --num-workers 1 --threads 1 --out two; succeeds two_of_two
losses() { sed -nE 's/.*"rec_loss": ([0-9.e+-]+).*/\1/p' "$1/log.jsonl"; }
holds accumulated_alike awk 'NR == FNR { a[FNR] = $1; next } { d = a[FNR] - $1; if (d < 0) d = -d; if (d > 0.02 * a[FNR]) bad = 1; n++ } END { exit bad || n < 3 }' \
    <(losses one) <(losses two)
train --steps 4 --batch-size 4 --lr 1e-3 --crop center --num-workers 1 --threads 1 --out two; succeeds summed_no_more
# and draw other numbers: were the two the same, the mean of the squares would be the square of the mean
cat >draws.lv <<'END'
import optim
model Draws(resolution: int = 8) {
    param scale: [1] = 1.0
    entry train(image: f32[B, 3, 8, 8]) {
        draw = mean(random_uniform([1]))
        loss = mean(image) * mean(scale) + draw
        minimize(loss, optim.SGD())
        return {loss, draw, square: draw * draw}
    }
}
END
lvrun train draws.lv --train-dir train --steps 3 --batch-size 2 --accumulate 2 --lr 1e-3 --out draws; succeeds draws
holds parts_draw_apart awk -F'[:,]' '/"draw"/ { for (i = 1; i < NF; i += 2) { if ($i ~ /draw/) m = $(i + 1); if ($i ~ /square/) s = $(i + 1) }
    if (s - m * m < 1e-6) bad = 1; n++ } END { exit bad || n < 3 }' draws/log.jsonl
train --steps 3 --batch-size 4 --lr 1e-3 --clip 1e-3 --num-workers 1 --threads 1 --out clip; succeeds clipped
train --steps 3 --batch-size 4 --lr 1e-3 --precision bf16 --num-workers 1 --threads 1 --out bf16; succeeds bf16

# A wrong word in a command that starts anew throws nothing away
before=$(cksum <one/checkpoints/last.safetensors)
lvrun train "$model" --train-dir nowhere --fresh --out one; is fresh_of_nothing "$status $(cksum <one/checkpoints/last.safetensors)" "1 $before"
lvrun train "$model" --train-dir nowhere --out new; holds nothing_made test ! -e new

# The one-map network from the many-map one's checkpoint: its decoders' numbers differ, and so do what is kept and what is new
lvrun train "$models/augvae_sl.lv" --resolution 32 --ch-mult "[1, 2]" --attn-resolutions "[8]" "${small[@]}" --init ml/checkpoints/best.safetensors \
    --train-dir train --val-dir val "${quick[@]}" --out sl
succeeds sl
grep 'best.safetensors: ' out | sed "s#$work/##g" >sl.report
holds sl_report grep -qE 'best.safetensors: [0-9]+ ' sl.report
lvrun eval sl/checkpoints/last.safetensors --val-dir val; succeeds sl_eval
lvrun reconstruct sl/checkpoints/last.safetensors val --out sl_pictures; succeeds sl_reconstruct
cat sl.report | sed 's/^/# /'

# What --emit shows is what runs, also where values are made again to save memory; and what is made again is not kept by whom
# it was made again for: no loop writes one value to the same place of two buffers
lvc() { "$bin/lvc" "$models/biart.lv" --config small --batch 8 "$@"; }
lvc --emit c >kernels.c && lvc --emit plan >plan
names() { grep -oE '\bk_[0-9a-f]{8,}' "$1" | sort -u; }
holds emit_is_the_plan test "$(names plan | wc -l)" -gt 20 -a -z "$(comm -13 <(names kernels.c) <(names plan))"
lvc --emit memory >memory
is memory_is_the_plans "$(sed -nE 's/^activations: an arena of ([0-9]+) bytes.*/\1/p' memory)" "$(sed -n 's/^arena activations //p' plan)"
holds memory_held awk 'NR == 1 { most = $(NF - 1) } NR > 1 { held += $1 } END { exit !(most > 0 && held >= most) }' memory
is nothing_written_twice "$(awk '
    /^void / { kernel = $2 }
    /for \(|}/ { delete at }
    { rest = $0
      while (match(rest, /b[0-9]+\[[^]]*\] = v[0-9]+;/)) {
          store = substr(rest, RSTART, RLENGTH); rest = substr(rest, RSTART + RLENGTH)
          place = store; sub(/^b[0-9]+/, "", place)
          if (place in at) print kernel, at[place], store
          at[place] = store; stores++ } }
    END { print (stores > 50 ? "all read" : "few stores") }' kernels.c)" "all read"

# GELU's error function is made once a block forward and once backward, where its gradient, the bias's and GELU made again are one pass
# though they are written in two shapes; and a search by sums of masked weights stores none of the weights
fused() { "$bin/lvc" "$models/biart.lv" --config tiny --emit fused "$@"; }
is gradients_share_a_pass "$(fused --entry train --batch 2 --precision bf16 | grep -c ' = erf ')" 4
is search_stores_nothing "$(fused --entry draw_next --batch 1 | grep -cE '\[256\] written')" 1  # but the weights themselves

# On a GPU the gradient of the biases of queries, keys and values, which an attention leaves, comes with that of their weights: a product a
# block. In f32 such sums are our own
sums() { "$bin/lvc" "$models/biart.lv" --config tiny --entry train --batch 2 --device cuda:sm_90 --emit plan "$@" | grep -cE '^step .* matmul .* sums$'; }
is bias_sums "$(sums --precision bf16)" 2
is bias_sums_in_f32 "$(sums)" 0

# An update in parts gives the bits of one that has all gradients at once, and takes their memory no more
lvrun call "$root/tests/cli/parts.lv" train --steps 3 --lr 1e-3 --weights-out parts.safetensors; succeeds update_in_parts
lvrun call "$root/tests/cli/parts.lv" train --steps 3 --lr 1e-3 --weights-out whole.safetensors --grads gradients.safetensors; succeeds update_of_all
holds parts_same_bits cmp parts.safetensors whole.safetensors
"$bin/lvc" "$root/tests/cli/parts.lv" --emit plan >parts.plan 2>err; status=$?; succeeds parts_plan
holds parts_keep_no_gradients grep -q '^arena gradients 0$' parts.plan
