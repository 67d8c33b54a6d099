# Other processors and other numbers of threads than this machine's: fewer instruction sets, more threads than cores, one core.
steps=(--steps 6 --batch-size 4 --lr 1e-3 --num-workers 1)
losses() { grep -oE '"loss": [0-9.]+' "$1/log.jsonl" | cut -d' ' -f2; }
# Two runs' losses, step by step, no further apart than one part in 10,000.
agree() { paste <(losses "$1") <(losses "$2") | awk '{ d = $1 - $2; if (d < 0) d = -d; if (!(d <= 1e-4 * $1)) exit 1; k++ } END { exit k != 6 }'; }

data
train "${steps[@]}" --threads 2 --out here; succeeds here || return 0
train "${steps[@]}" --threads 1 --out one_thread; succeeds one_thread
holds one_thread_agrees agree here one_thread
train "${steps[@]}" --threads $(($(nproc) + 3)) --out many_threads; succeeds more_threads_than_cores
holds many_threads_agree agree here many_threads
bin_here=$bin
lvrun_one_core() { timeout 120 taskset -c "$(taskset -pc $$ | sed -E 's/.*: *([0-9]+).*/\1/')" "$bin_here/lvrun" "$@" >out 2>err; status=$?; }
lvrun_one_core doctor; holds counts_its_cores grep -q '^device  *cpu (1 thread[,)]' out
lvrun_one_core train "$model" --train-dir train --val-dir val "${steps[@]}" --out one_core; succeeds one_core
holds one_core_agrees agree here one_core

if grep -qs ' avx2' /proc/cpuinfo; then
    lvrun doctor --cpu avx2; succeeds doctor_as_avx2
    holds says_the_level grep -q '^device .*AVX2 alone' out
    train "${steps[@]}" --cpu avx2 --threads 2 --out avx2; succeeds avx2
    holds avx2_agrees agree here avx2
    train "${steps[@]}" --cpu avx2 --precision bf16 --threads 2 --out avx2_bf16; succeeds avx2_bf16
    (export LV_CPU=avx2; lvrun doctor; cp out level); holds by_the_environment grep -q '^device .*AVX2 alone' level
else
    echo "skip avx2: this processor has none"
fi
lvrun eval here/checkpoints/last.safetensors --val-dir val --cpu sse; is no_such_level "$status" 2
holds names_the_levels grep -q 'avx2, avx512, or native' err
if ! grep -qs ' avx512vl' /proc/cpuinfo; then lvrun doctor --cpu avx512; is not_on_this_processor "$status" 1; fi
