# Where the time goes: a table of bench and of train, a Chrome trace; what the doctor measures.
data
lvrun bench "$model" train --batch 2 --steps 2 --threads 1 --profile --trace trace.json; succeeds bench
holds bench_report grep -q '"step_ms"' out
steps=$(grep -cE "\.lv:[0-9]+" err)
holds table_has_sources test "$steps" -gt 10
holds table_has_sums grep -qE '^ +[0-9.]+ +[0-9.]+ .* [0-9]+  convolutions$' err
holds table_sums_up awk '/in all/ { all = $1 } / (kernels|convolutions|matmuls|copies|zeroes)$/ { sum += $1 } END { d = all - sum; exit !(all > 0 && d * d < 1e-4) }' err
events=$(grep -o '"ph": "X"' trace.json | wc -l)
is trace_has_all_steps "$events" "$(awk '/^$/ { exit } NR > 1' err | wc -l)"
lvrun bench "$model" train --batch 2 --steps 1 --threads 1 --trace no/such/folder.json; is trace_nowhere "$status" 1
holds trace_nowhere_says grep -q "no/such/folder.json" err

train "${quick[@]}" --steps 4 --profile 2 --out profiled; succeeds train
is train_table_once "$(grep -c 'of best  step  what' err)" 1
lvrun train "$model" --train-dir train --profile -1; is profile_of_nothing "$status" 2
train "${quick[@]}" --steps 4 --out plain; succeeds plain
holds same_bits cmp profiled/checkpoints/last.safetensors plain/checkpoints/last.safetensors

lvrun doctor; succeeds doctor
holds doctor_measures grep -qE '^at best +[1-9][0-9]* GFLOP/s in f32, [1-9][0-9]* in bf16; [0-9.]+ GB/s' out
LV_CACHE_SIZE=much lvrun doctor
holds doctor_names_the_size grep -q "LV_CACHE_SIZE is no number of bytes (512M, 2G): 'much'" out
