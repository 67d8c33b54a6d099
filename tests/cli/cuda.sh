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
on_gpu sample $both --greedy --prompt "a red heart" "a blue dog" --out drawn; succeeds draws
holds same_pictures cmp drawn/001-a-red-heart-s42.png drawn.cpu/001-a-red-heart-s42.png
lvrun caption $both --threads 1 pairs/p10.ppm; cp out said.cpu
on_gpu caption $both pairs/p10.ppm; succeeds describes
holds same_words cmp out said.cpu
on_gpu train "${tiny_biart[@]}" --vae cpu/checkpoints/last.safetensors --train-dir pairs --batch-size 4 --steps 2 --lr 3e-3 --samples 0 --out gpu; succeeds trains_pairs
lvrun train "${tiny_biart[@]}" --vae cpu/checkpoints/last.safetensors --train-dir pairs --batch-size 4 --steps 2 --lr 3e-3 --threads 1 --samples 0 --out two
holds pair_losses agree two gpu 2
