# Checkpoints: torn, altered, of another model; full disks; where a run starts from.
data
train "${quick[@]}" --out run; succeeds trains || return 0
last=run/checkpoints/last.safetensors
whole=$(cksum <$last)

tear() { cp --remove-destination "$1" torn.tmp && head -c "$2" torn.tmp >torn && rm -f "$1" torn.tmp && mv torn "$1"; }
flip() {  # file: turns one byte in its middle
    local at=$(($(stat -c %s "$1") / 2)) byte
    cp "$1" flipped && rm -f "$1"
    byte=$(od -An -tu1 -j $at -N 1 flipped)
    printf "\\x$(printf %x $((byte ^ 1)))" | dd of=flipped bs=1 seek=$at conv=notrunc status=none
    mv flipped "$1"
}

# The newest is torn: the one before is used, and the run ends with the same bits
cp -r run torn_last
tear torn_last/checkpoints/last.safetensors 1000
tear torn_last/checkpoints/step-12.safetensors 0
train "${quick[@]}" --out torn_last; succeeds torn_goes_on
holds torn_said grep -q 'last.safetensors: .*the one before it is used' out
is torn_same_bits "$(cksum <torn_last/checkpoints/last.safetensors)" "$whole"
cp -r run altered
flip altered/checkpoints/last.safetensors
flip altered/checkpoints/step-12.safetensors
train "${quick[@]}" --out altered; succeeds altered_goes_on
holds altered_said grep -q 'altered' out
is altered_same_bits "$(cksum <altered/checkpoints/last.safetensors)" "$whole"
cp -r run gone
for file in gone/checkpoints/*; do tear "$file" 1000; done
train "${quick[@]}" --out gone; said none_is_whole
cp $last torn_alone.safetensors
tear torn_alone.safetensors 2000
lvrun eval torn_alone.safetensors --val-dir val; said eval_of_torn
cp $last altered_alone.safetensors
flip altered_alone.safetensors
lvrun eval altered_alone.safetensors --val-dir val; said eval_of_altered
head -c 4000 /dev/zero >zeros.safetensors
lvrun eval zeros.safetensors --val-dir val; said eval_of_zeros

# Another model's run: which tensors, which shapes
train "${quick[@]}" --hidden 16 --out run; said other_model
is other_model_unchanged "$(cksum <$last)" "$whole"
lvrun eval "$model" --weights $last --hidden 16 --val-dir val; said weights_of_other_model
train "${quick[@]}" --seed 7 --out run; said other_seed

# --init takes what fits, and reports the rest
train "${quick[@]}" --init $last --out init; succeeds init
train "${quick[@]}" --hidden 16 --init $last --out init_other; succeeds init_other
holds init_report grep -qE 'last.safetensors: ' out
train "${quick[@]}" --init nowhere.safetensors --out init_none; said init_missing
holds init_none_left test ! -e init_none

# A full disk: one line, exit 1, nothing lost
cp -r run full
(ulimit -f 20; train "${quick[@]}" --steps 30 --out full; echo $status >code)
status=$(cat code)
sed -i -E "s/step-[0-9]+/step-N/" err
said full_disk
is full_disk_nothing_lost "$(cksum <full/checkpoints/step-12.safetensors)" "$whole"
is full_disk_nothing_half "$(find full -name '*tmp*' | wc -l)" 0
train "${quick[@]}" --steps 30 --out full; succeeds full_disk_goes_on
train "${quick[@]}" --steps 30 --out more; is full_disk_same_bits "$(cksum <full/checkpoints/last.safetensors)" "$(cksum <more/checkpoints/last.safetensors)"

# NaN: a halt that names a tensor, and the checkpoint before stays
cp -r more nan
train "${quick[@]}" --steps 60 --lr 1e30 --out nan
sed -i -E "s/step [0-9]+/step N/; s/'[a-z_.0-9]+'\[[0-9]+\]/'T'[i]/; s/: [a-z_]+ is/: X is/" err
said nan
is nan_code "$status" 1
