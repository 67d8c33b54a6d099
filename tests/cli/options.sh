# Options, help, and what is said about wrong ones.
pictures train 2

lvrun; is no_command "$status" 2
lvrun --help; succeeds help
for command in $(sed -nE 's/^  ([a-z]+) +[a-z].*/\1/p' out); do
    lvrun "$command" --help
    succeeds "help_$command"
    is "help_${command}_quiet" "$(wc -c <err)" 0
    lvrun help "$command"
    succeeds "help_of_$command"
done
lvrun trian; said unknown_command
lvrun train; said no_model
lvrun train "$model"; said no_train_dir
lvrun train nowhere.lv --fake-data; said no_such_model
lvrun train "$model" other.lv --fake-data; said two_models
lvrun train "$model" --fake-data --batchsize 4 --steps 1; said unknown_option
lvrun train "$model" --fake-data --hiden 4 --steps 1; said unknown_parameter
lvrun train "$model" --fake-data --set hiden=4 --steps 1; said unknown_setting
lvrun train "$model" --fake-data --hidden many --steps 1; said parameter_type
lvrun train "$model" --fake-data --steps zero; said not_a_number
lvrun train "$model" --fake-data --steps 0; said out_of_range
lvrun train "$model" --fake-data --steps; said no_value
lvrun train "$model" --fake-data --steps 1 --lr fast; said no_rate
lvrun train "$model" --fake-data --steps 1 --schedule cosin; said schedule
lvrun train "$model" --fake-data --steps 1 --crop left; said crop
lvrun train "$model" --fake-data --steps 1 --config wid; said no_such_config
lvrun train "$model" --fake-data --steps 1 --gpus 4; said gpus
lvrun train "$model" --fake-data --steps 1 --device tpu; said device
lvrun train "$model" --fake-data --steps 1 --precision f8; said precision
lvrun train "$model" --fake-data --steps 1 --precision f16; said f16_on_the_cpu
"$bin/lvc" "$model" --precision f16 >out 2>err; status=$?; said f16_for_the_cpu
lvrun call "$model" train --loss-scale 8; said loss_scale_of_f32
lvrun call "$model" train --precision f16 --loss-scale 0.5; said loss_scale_range
lvrun train "$model" --train-dir train --batch-size 4 --steps 1 --out out.d; said too_few_pictures

# `-` and `_` are alike, `=` and a space too; a parameter of the model is an option of its own name
lvrun train "$model" --fake_data --batch_size=4 --steps 2 --lr=1e-3 --num-workers=1 --threads 1 --hidden 4 --out a; succeeds spelling
lvrun train "$model" --fake-data --batch-size 4 --steps 2 --lr 1e-3 --num_workers 1 --threads 1 --set hidden=4 --out b; succeeds other_spelling
holds spelling_same cmp a/checkpoints/last.safetensors b/checkpoints/last.safetensors
holds config_resolved grep -qx 'hidden: 4' a/config.yaml

# the original's command line: numbers of a list as words, -c, what has no effect here, its names of things
lvrun train "$model" --fake_data --batch_size 4 --steps 1 --lr 1e-3 --log_images --image_log_steps 1000 --backup --backup_steps 1 \
    --precision 32 --num_sanity_val_steps 0 --dataset_size 10 20 --threads 1 --out original
succeeds original_options
holds backup_steps test -e original/checkpoints/step-1.safetensors
lvrun train "$model" --fake-data --batch-size 4 --steps 1 --lr 1e-3 --threads 1 --pretrained_path a/checkpoints/last.safetensors \
    --hidden 4 --out pretrained
succeeds pretrained_path
lvrun train "$model" --fake-data --steps 1 --codebook_weight 2; said codebook_weight
if "$bin/lvc" "$root/models/augvae.lv" --emit ast --entry encode --config tiny --ch_mult 1 1 >/dev/null 2>err; then ok list_of_words; else bad list_of_words "$(head -1 err)"; fi
"$bin/lvc" "$root/models/augvae.lv" --emit lop >out 2>err; status=$?; said emit_unknown
lvrun info "$root/models/augvae.lv"; holds shortest_number grep -q 'float *4.5e-6 ' out

# what is no file is written to, and stays what it is
mkfifo pipe; cat pipe >from_pipe &
"$bin/lvc" "$model" -o pipe >out 2>err; status=$?; wait; succeeds artifact_to_pipe
holds pipe_stays test -p pipe -a -s from_pipe
"$bin/lvc" "$model" --precisoin bf16 >out 2>err; status=$?; said option_of_lvc
