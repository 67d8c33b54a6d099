# The commands on a GPU that the stand-ins of tests/cuda_sim are: a run beside the CPU's, resumed to the same bits, pictures drawn and described.
if [ ! -e "$bin/../cuda_sim/libcuda.so.1" ] || ! command -v g++ >/dev/null; then
    echo "skip cuda: the stand-ins for CUDA's libraries are not built, or there is no g++"
    return 0
fi
case $bin in */asan/*) return 0 ;; esac  # the programs test_cuda* run the same under sanitizers
export LV_BUILD=$bin/..
on_gpu() {  # as lvrun
    timeout "${limit:-200}" "$root/tests/cuda_sim/run" "$bin/lvrun" "$@" --device cuda >out 2>err
    status=$?
}
losses() { grep -oE '"loss": [0-9.]+' "$1/log.jsonl" | cut -d' ' -f2; }
# Two runs' losses, step by step, no further apart than one part in 10,000.
agree() { paste <(losses "$1") <(losses "$2") | awk -v n="$3" '{ d = $1 - $2; if (d < 0) d = -d; if (!(d <= 1e-4 * $1)) exit 1; k++ } END { exit k != n }'; }
# The same to two parts in 1,000, as f16 has them; and that the loss is less in the last step than in the first.
near() { paste <(losses "$1") <(losses "$2") | awk -v n="$3" '{ d = $1 / $2; if (d < 0.998 || d > 1.002) exit 1; k++ } END { exit k != n }'; }
falls() { losses "$1" | awk 'NR == 1 { first = $1 } { last = $1 } END { exit !(last < first) }'; }

# Training: f32 beside the CPU's, and one with bf16; stopped and run on, the same bits as at one go
data
steps=(--batch-size 4 --lr 1e-3 --val-every 4 --save-every 2 --num-workers 1 --threads 1)
train "${steps[@]}" --steps 4 --out cpu; succeeds on_the_cpu || return 0
on_gpu train "$model" --train-dir train --val-dir val "${steps[@]}" --steps 4 --out whole; succeeds trains || return 0
holds losses_as_on_the_cpu agree cpu whole 4
holds names_the_device grep -qE '^cuda|^.*sm_[0-9]+' out
on_gpu train "$model" --train-dir train --val-dir val "${steps[@]}" --steps 2 --out parts; succeeds half
on_gpu train "$model" --train-dir train --val-dir val "${steps[@]}" --steps 4 --out parts; succeeds other_half
holds same_bits cmp whole/checkpoints/last.safetensors parts/checkpoints/last.safetensors
on_gpu train "$model" --train-dir train --val-dir val "${steps[@]}" --steps 2 --precision bf16 --out narrow; succeeds bf16
holds bf16_losses bash -c "$(declare -f losses); paste <(losses cpu) <(losses narrow) | head -2 | awk '{ d = \$1 / \$2; if (d < 0.98 || d > 1.02) exit 1 }'"

# An update in parts: the bits of one that has all gradients at once
on_gpu call "$root/tests/cli/parts.lv" train --steps 2 --lr 1e-3 --weights-out parts.safetensors; succeeds update_in_parts
on_gpu call "$root/tests/cli/parts.lv" train --steps 2 --lr 1e-3 --weights-out whole.safetensors --grads gradients.safetensors; succeeds update_of_all
holds parts_same_bits cmp parts.safetensors whole.safetensors

# Two ranks, a GPU each, whose sums go by NCCL: the losses of one at twice the batch; replayed, with sums beside the steps, as step by step
if command -v mpirun >/dev/null; then
    ranks=(--batch-size 2 --gpus 2 --lr 1e-3 --val-every 4 --save-every 2 --num-workers 1 --threads 1 --steps 4)
    LV_CUDA_SIM_DEVICES=2 on_gpu train "$model" --train-dir train --val-dir val "${ranks[@]}" --out ranks; succeeds ranks
    holds ranks_as_one agree cpu ranks 4
    LV_CUDA_SYNC=1 LV_CUDA_SIM_DEVICES=2 on_gpu train "$model" --train-dir train --val-dir val "${ranks[@]}" --out ranks_walked; succeeds ranks_walked
    holds ranks_same_bits cmp ranks/checkpoints/last.safetensors ranks_walked/checkpoints/last.safetensors
else
    echo "skip ranks: there is no mpirun (apt install openmpi-bin)"
fi
holds finds_nccl bash -c '"$0" "$1" doctor | grep -qE "^NCCL +2.28.9, .*/libnccl.so.2, for several GPUs"' "$root/tests/cuda_sim/run" "$bin/lvrun"

# Between two steps the device is asked for nothing but what brings the next one's input and this one's results: no launch of its own,
# no memory, no waiting but for the results of the step before, which are logged while this one runs
LV_CUDA_SIM_LOG=$PWD/calls on_gpu train "$model" --train-dir train "${steps[@]}" --save-every 8 --steps 8 --out counted; succeeds counted
between() {  # the calls from each launch of the graph to the next one, a line each
    grep -v '^cuCtxSetCurrent$' calls | awk '/^cuGraphLaunch$/ { if (line) print line; line = "steps"; next } line { line = line " " $0 }' | sed 's/_v2//g'
}
a_step="steps cuMemcpyDtoHAsync cuEventRecord cuEventSynchronize cuStreamWaitEvent \
cuMemcpyHtoDAsync cuEventRecord cuStreamWaitEvent cuMemcpyDtoDAsync cuEventRecord"
is calls_of_a_step "$(between | sed -n 2,6p | sort -u)" "$a_step"
is launches "$(grep -c '^cuGraphLaunch$' calls)" 7  # the first step is walked
# What is logged is what the same run logs where each step is waited for
LV_CUDA_SYNC=1 on_gpu train "$model" --train-dir train "${steps[@]}" --save-every 8 --steps 8 --out waited; succeeds waited
plain_log() { sed -E 's/"images_per_s": [0-9.e+-]+//' "$1/log.jsonl"; }
is logged_late "$(plain_log counted)" "$(plain_log waited)"
holds late_same_bits cmp counted/checkpoints/last.safetensors waited/checkpoints/last.safetensors
# NaN at step 3 stops the run with that step's number, and the log ends before it
lvrun train "$model" --train-dir train "${steps[@]}" --steps 8 --lr 1e30 --out far; is too_fast_on_the_cpu "$status" 1
where_cpu=$(grep -oE 'step [0-9]+: [a-z_]+ is [a-zA-Z]+' err | head -1); logged_cpu=$(grep -c '"loss"' far/log.jsonl)
on_gpu train "$model" --train-dir train "${steps[@]}" --steps 8 --lr 1e30 --out far_gpu; is too_fast "$status" 1
is bad_step "$(grep -oE 'step [0-9]+: [a-z_]+ is [a-zA-Z]+' err | head -1)" "$where_cpu"
is bad_step_log "$(grep -c '"loss"' far_gpu/log.jsonl)" "$logged_cpu"

# f16: nearer than bf16, its loss scaled; the same bits when stopped and run on, from f32 and back to it
half=(--precision f16)
on_gpu train "$model" --train-dir train --val-dir val "${steps[@]}" "${half[@]}" --steps 4 --out f16; succeeds f16
holds f16_losses near cpu f16 4
is f16_scale "$(grep -c '"loss_scale": 65536, "skipped_steps": 0' f16/log.jsonl)" 4
on_gpu train "$model" --train-dir train --val-dir val "${steps[@]}" "${half[@]}" --steps 2 --out f16.parts; succeeds f16_half
on_gpu train "$model" --train-dir train --val-dir val "${steps[@]}" "${half[@]}" --steps 4 --out f16.parts; succeeds f16_other_half
holds f16_same_bits cmp f16/checkpoints/last.safetensors f16.parts/checkpoints/last.safetensors
cp -r cpu mixed
on_gpu train "$model" --train-dir train --val-dir val "${steps[@]}" "${half[@]}" --steps 6 --out mixed; succeeds f16_from_f32
is f16_from_f32_scale "$(grep -c '"loss_scale": 65536, "skipped_steps": 0' mixed/log.jsonl)" 2
train "${steps[@]}" --steps 7 --out mixed; succeeds f32_from_f16
holds f32_without_scale bash -c "tail -n 1 mixed/log.jsonl | grep -v loss_scale && ! grep -iE 'warning|not used' out err"
train "${steps[@]}" --steps 1 --init mixed/checkpoints/step-6.safetensors --out after; succeeds init_from_f16
holds init_takes_all bash -c "! grep -E 'not used|not in it' out"
on_gpu encode f16/checkpoints/last.safetensors val "${half[@]}" --out codes.f16; succeeds f16_encode
lvrun encode f16/checkpoints/last.safetensors val --threads 1 --out codes.cpu; succeeds encode_of_f16_on_the_cpu

# Losses too loud for f16: the updates are left out, and say so, until the scale is small enough
cat >loud.lv <<'END'
import init
import optim

model Loud(loudness: float = 1e3, root: float = 0.0, infinite: float = 0.0) {
    param w: [768, 8] = init.normal([768, 8], 0.0, 0.05)
    param c: [4] = 0.0

    entry train(image: f32[B, 3, 16, 16]) {
        y = matmul(reshape(image, [B, 768]), w)
        loss = mean(y * y)
        if root > 0.0 { loss = loss + root * reduce_sum(sqrt(c * c)) }
        if infinite > 0.0 { loss = loss + exp(1000.0 + reduce_sum(c)) }
        minimize(loss * loudness, optim.AdamW(weight_decay = 0.0))
        return {loss}
    }
}
END
loud=(loud.lv --train-dir train --crop center --batch-size 4 --lr 1e-3 --save-every 4 --num-workers 1 "${half[@]}")
loud+=(--loss-scale 16777216)
on_gpu train "${loud[@]}" --steps 24 --out loud; succeeds loud
skipped=$(sed -nE 's/^([0-9]+) steps? made no update, .*scale is ([0-9.e+]+) now$/\1 \2/p' out)
read -r skipped scale <<<"$skipped"
holds loud_skips_some test "${skipped:-0}" -ge 2 -a "${skipped:-0}" -lt 24
is loud_scale "$(awk -v n="${skipped:-0}" 'BEGIN { print 2 ^ (24 - n) }')" "$(awk -v s="${scale:-0}" 'BEGIN { print s + 0 }')"
holds loud_learns falls loud
on_gpu train "${loud[@]}" --steps 3 --out loud.parts; succeeds loud_part
on_gpu train "${loud[@]}" --steps 24 --out loud.parts; succeeds loud_other_part
holds loud_same_bits cmp loud/checkpoints/last.safetensors loud.parts/checkpoints/last.safetensors
on_gpu train "${loud[@]}" --accumulate 2 --clip 1 --steps 24 --out loud.sums; succeeds loud_sums
holds loud_sums_said grep -qE '^[0-9]+ steps? made no update' out
holds loud_sums_learn falls loud.sums
on_gpu train "${loud[@]}" --loss-scale 4 --set loudness=1.0 --set root=1.0 --steps 16 --out rooted; said scale_falls
is scale_falls_late "$(grep -c loss_scale rooted/log.jsonl)" 2
on_gpu train "${loud[@]}" --set loudness=1.0 --set infinite=1.0 --steps 16 --out infinite; said loss_infinite_in_f16

# A step that keeps more than the GPU has free is one that recomputes, unasked, to the same bits; where none fits it says so
cat >deep.lv <<'END'
import nn
import optim

model Deep() {
    layers = [nn.Linear(64, 64) for i in range(12)]

    entry train() {
        x = random_normal([2048, 64])
        h = x
        for i in range(12) { h = h + layers[i](gelu(h)) }
        loss = mean((h - x) * (h - x))
        minimize(loss, optim.SGD())
        return {loss}
    }
}
END
deep() {  # MiB of the GPU, 44.9 are wanted and 37.4 the least
    LV_CUDA_SIM_MEMORY=$(($1 << 20)) on_gpu call deep.lv train --steps 2 --lr 1e-2 --weights-out "deep$1.safetensors"
}
deep 64; succeeds deep
holds deep_keeps bash -c '! grep note err'
recomputes_said() { grep -qE "^lvrun: note: entry 'train' would take 0.0471 GB, .* takes 0.0[34][0-9]* GB$" err; }
deep 54; succeeds deep_leaves_room  # more than three quarters of it
holds deep_leaves_room_said recomputes_said
holds deep_same_bits cmp deep64.safetensors deep54.safetensors
deep 40; succeeds deep_recomputes   # of which three quarters would not do
holds deep_recomputes_said recomputes_said
holds deep_least_same_bits cmp deep64.safetensors deep40.safetensors
deep 36; is deep_too_large "$status" 1
holds deep_too_large_said grep -q 'out of GPU memory: .* are free' err

# A checkpoint goes from one device to the other
lvrun eval cpu/checkpoints/last.safetensors --val-dir val --threads 1; succeeds eval_on_the_cpu
cp out eval.cpu
on_gpu eval cpu/checkpoints/last.safetensors --val-dir val; succeeds eval
psnr() { grep -oE 'val_psnr"?[: ]+[0-9.]+' "$1" | grep -oE '[0-9]+\.[0-9]{2}'; }
is same_psnr "$(psnr out)" "$(psnr eval.cpu)"

# Text and pictures: the codes that the CPU draws greedily, the words that it says
tiled_pairs pairs 8
lvrun train "${tiny_biart[@]}" --vae cpu/checkpoints/last.safetensors --train-dir pairs --batch-size 4 --steps 12 --lr 3e-3 --threads 1 --samples 0 --out pair
succeeds pair || return 0
both=pair/checkpoints/last.safetensors
lvrun sample $both --threads 1 --greedy --prompt "a red heart" "a blue dog" --out drawn.cpu; succeeds draws_on_the_cpu
rm -f calls
LV_CUDA_SIM_LOG=$PWD/calls on_gpu sample $both --greedy --prompt "a red heart" "a blue dog" --out drawn; succeeds draws
is calls_of_a_token "$(between | sed -n 2,12p | sort -u)" "$a_step"
on_gpu sample $both --greedy --prompt "a red heart" --precision f16 --out drawn.f16; succeeds draws_in_f16
holds same_pictures cmp drawn/001-a-red-heart-s42.png drawn.cpu/001-a-red-heart-s42.png
lvrun caption $both --threads 1 pairs/p10.ppm; cp out said.cpu
on_gpu caption $both pairs/p10.ppm; succeeds describes
holds same_words cmp out said.cpu
on_gpu train "${tiny_biart[@]}" --vae cpu/checkpoints/last.safetensors --train-dir pairs --batch-size 4 --steps 2 --lr 3e-3 --samples 0 --out gpu; succeeds trains_pairs
lvrun train "${tiny_biart[@]}" --vae cpu/checkpoints/last.safetensors --train-dir pairs --batch-size 4 --steps 2 --lr 3e-3 --threads 1 --samples 0 --out two
holds pair_losses agree two gpu 2
pairs=("${tiny_biart[@]}" --vae cpu/checkpoints/last.safetensors --train-dir pairs --batch-size 4 --lr 3e-3 --samples 0 "${half[@]}")
on_gpu train "${pairs[@]}" --steps 2 --out gpu.f16; succeeds pairs_in_f16
holds pair_losses_in_f16 near two gpu.f16 2
on_gpu train "${pairs[@]}" --steps 1 --out gpu.f16.parts
on_gpu train "${pairs[@]}" --steps 2 --out gpu.f16.parts; succeeds pairs_go_on_in_f16
holds pairs_same_bits_in_f16 cmp gpu.f16/checkpoints/last.safetensors gpu.f16.parts/checkpoints/last.safetensors
