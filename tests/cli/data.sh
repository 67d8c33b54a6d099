# Pictures that are bad, folders that are missing or empty, pictures in tar shards, class folders of any depth.
data
pictures train/deep/er/class 4
cp -r train broken
head -c 40 train/p1.ppm >broken/cut.ppm
printf 'P6\n60000 60000\n255\nx' >broken/huge.ppm
echo 'this is no picture' >broken/text.png
: >broken/empty.jpg
printf '\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\x02\0\0\0' >broken/bomb.png
head -c 300 /dev/urandom >broken/noise.webp
chmod 000 broken/p3.ppm

lvrun train "$model" --train-dir broken --val-dir broken "${quick[@]}" --steps 24 --out run; succeeds broken_pictures || return 0
for file in cut.ppm huge.ppm text.png empty.jpg bomb.png noise.webp; do holds "named_$file" grep -q "$file" out; done
holds counted grep -qE '[0-9]+ broken pictures' out

lvrun train "$model" --train-dir nowhere --steps 1 --out none; said missing_folder
mkdir empty
lvrun train "$model" --train-dir empty --steps 1 --out none; said empty_folder
lvrun train "$model" --train-dir train --val-dir nowhere --batch-size 4 --steps 1 --out none; said missing_val_folder
mkdir bad && cp broken/text.png broken/empty.jpg bad/
lvrun train "$model" --train-dir bad --batch-size 2 --steps 1 --out none; said only_broken

tar cf shard.tar -C train .
lvrun train "$model" --train-dir shard.tar --val-dir val "${quick[@]}" --out tar; succeeds tar_shard
touch file
lvrun train "$model" --train-dir train --batch-size 4 --steps 1 --out file; said out_is_a_file
lvrun train "$model" --train-dir train --batch-size 4 --steps 1 --out file/run; said out_in_a_file
