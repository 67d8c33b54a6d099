# Configuration files: the original's as they are; flags beat YAML beat defaults; unknown keys.
data
cat >train.yaml <<'Y'
# as the original's files
resolution: 16
hidden: 4
epochs: 2
batch_size: 4
learning_rate: 2.0e-4
num_workers: 1
train_dir: train
val_dir: val
seed: 7
lr_decay: false
Y
lvrun train "$model" --config train.yaml --out yaml; succeeds yaml || return 0
holds yaml_parameter grep -qx 'hidden: 4' yaml/config.yaml
is yaml_epochs "$(grep -c '"loss"' yaml/log.jsonl)" 8
holds yaml_rate grep -q '"lr": 0.0008,' yaml/log.jsonl
lvrun train "$model" --train_dir train --val_dir val --hidden 4 --epochs 2 --batch_size 4 --learning_rate 2e-4 --num_workers 1 --seed 7 --out flags
succeeds flags
holds yaml_same_bits cmp yaml/checkpoints/last.safetensors flags/checkpoints/last.safetensors
lvrun train "$model" --config train.yaml --hidden 8 --lr 1e-3 --epochs 1 --out over; succeeds flags_beat_yaml
holds over_parameter grep -qx 'hidden: 8' over/config.yaml
holds over_rate grep -q '"lr": 0.001,' over/log.jsonl
is over_epochs "$(grep -c '"loss"' over/log.jsonl)" 4
lvrun train "$model" --config over/config.yaml --out twice; succeeds resolved_again
holds resolved_same_bits cmp over/checkpoints/last.safetensors twice/checkpoints/last.safetensors
lvrun train "$model" --config train.yaml --gpus 0 --epochs 1 --out zero; succeeds no_gpus

echo 'batchsize: 4' >unknown.yaml
lvrun train "$model" --config unknown.yaml --fake-data --out none; said unknown_key
printf 'batch_size: 4\nbatch_size: 8\n' >twice.yaml
lvrun train "$model" --config twice.yaml --fake-data --out none; said twice_given
printf 'model:\n  hidden: 4\n' >nested.yaml
lvrun train "$model" --config nested.yaml --fake-data --out none; said nested
printf 'hidden: [1, 2\n' >broken.yaml
lvrun train "$model" --config broken.yaml --fake-data --out none; said broken
printf 'hidden: many\n' >type.yaml
lvrun train "$model" --config type.yaml --fake-data --steps 1 --out none; said wrong_type
printf 'batch_size: many\n' >number.yaml
lvrun train "$model" --config number.yaml --fake-data --steps 1 --out none; said wrong_number
lvrun train "$model" --config nowhere.yaml --fake-data --out none; said missing_file

# lines as they stand in the original's files
cat >original.yaml <<'Y'
epochs: 1
batch_size: 4
backup: True
log_images: True
num_workers: 16
image_log_steps: 1000
lr_decay: True
learning_rate: 4.5e-6
Y
lvrun train "$model" --config original.yaml --train_dir train --val_dir val --out original; succeeds original_file
