# Killed at any moment and run again: the same bits as never killed. SIGTERM and SIGINT save and stop.
data
steps=(--steps 600 --batch-size 4 --lr 1e-3 --schedule cosine --warmup 20 --val-every 50 --save-every 20 --num-workers 2 --threads 1)
train "${steps[@]}" --out whole; succeeds whole || return 0

# Killed eight times: while it starts, and after some more lines of the log, so between any two writes of steps, validations
# and checkpoints.
lines() { cat killed/log.jsonl 2>/dev/null | wc -l; }
RANDOM=1
kills=0
for ((i = 0; i < 30 && kills < 8; i++)); do
    "$bin/lvrun" train "$model" --train-dir train --val-dir val "${steps[@]}" --out killed >out 2>err &
    pid=$!
    if [ $((i % 4)) = 3 ]; then
        sleep 0.0$((RANDOM % 9))
    else
        goal=$(($(lines) + RANDOM % 120))
        while kill -0 $pid 2>/dev/null && [ "$(lines)" -lt $goal ]; do sleep 0.00$((RANDOM % 9)); done
    fi
    if kill -KILL $pid 2>/dev/null; then kills=$((kills + 1)); fi
    wait $pid 2>/dev/null && break
done
touch killed/config.yaml.tmp.77 killed/curve.png.tmp killed/images/step-000050.png.tmp.78  # what a killed one was writing
train "${steps[@]}" --out killed; succeeds run_to_the_end
holds killed_sometimes test "$kills" -ge 3
holds same_bits cmp whole/checkpoints/last.safetensors killed/checkpoints/last.safetensors
holds same_best cmp whole/checkpoints/best.safetensors killed/checkpoints/best.safetensors
is same_log "$(plain_log killed/log.jsonl | cksum)" "$(plain_log whole/log.jsonl | cksum)"
is no_temporary_files "$(find killed -name '*tmp*' | wc -l)" 0

for name in TERM INT; do
    "$bin/lvrun" train "$model" --train-dir train --val-dir val "${steps[@]}" --steps 100000 --save-every 0 --out "$name" >out 2>err &
    pid=$!
    for ((i = 0; i < 100; i++)); do
        [ "$(grep -c loss "$name/log.jsonl" 2>/dev/null)" -gt 5 ] 2>/dev/null && break
        sleep 0.02
    done
    # a shell without job control starts its children with SIGINT ignored: that is kept, as every program keeps it
    kill -$name $pid
    if wait $pid; then ok "${name}_stops"; else bad "${name}_stops" "exit $?"; fi
    holds "${name}_said" grep -q 'stopped and saved after step' out
    holds "${name}_saved" test -s "$name/checkpoints/last.safetensors"
    step=$(sed -nE "s/.*saved after step ([0-9]+),.*/\1/p" out)
    train "${steps[@]}" --steps $((step + 5)) --out "$name"; succeeds "${name}_goes_on"
    is "${name}_logged_once" "$(grep -c '"loss"' "$name/log.jsonl")" $((step + 5))
done

# Two runs in one folder
"$bin/lvrun" train "$model" --train-dir train --val-dir val "${steps[@]}" --steps 100000 --out both >first 2>&1 &
pid=$!
for ((i = 0; i < 100; i++)); do [ -s both/log.jsonl ] && break; sleep 0.02; done
train "${steps[@]}" --out both; said two_runs
kill -TERM $pid; wait $pid
