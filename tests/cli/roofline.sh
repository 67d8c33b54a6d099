# What the roofline of a GPU allows: lvc --gpu, numbers checked by hand.
cat >cost.lv <<'END'
import optim

model Cost() {
    param weight: [8192, 4096] = 0.5
    param first: [1024, 2048] = 0.5
    param second: [2048, 512] = 0.5

    entry product(x: f32[B, 8192]) { return {y: matmul(x, weight)} }

    entry pass(x: f32[B, 4194304]) { return {y: exp(x)} }

    entry train(x: f32[B, 1024]) {
        y = matmul(maximum(matmul(x, first), 0.0), second)
        loss = mean(y * y)
        minimize(loss, optim.AdamW())
        return {loss}
    }
}
END
cost() {  # entry batch gpu [options...]
    local entry=$1 batch=$2 gpu=$3
    shift 3
    "$bin/lvc" cost.lv --entry "$entry" --batch "$batch" --gpu "$gpu" -o cost.lvm "$@" >out 2>err
    status=$?
}
line() { sed -nE "s/ +/ /g; s/^ $1 ([0-9].*)/\1/p" out; }  # of the table

# 2 x 1024 x 8192 x 4096 FLOP by 67 TFLOP/s; 4 x (1024 x 8192 + 8192 x 4096 + 1024 x 4096) bytes
cost product 1024 h100; succeeds product || return 0
is product_by_arithmetic "$(line matmuls)" "1 176.00 MiB 68.72 G 1025.664 100.0 % 0.0 %"
is product_moves_all_once "$(line 'at the least')" "176.00 MiB, moved 1.00 times: variables 128.00 MiB, inputs, results 48.00 MiB"
cost product 1024 a100; is product_on_a100 "$(line matmuls)" "1 176.00 MiB 68.72 G 3524.076 100.0 % 0.0 %"   # 19.5 TFLOP/s
cost product 1 h200; is product_by_memory "$(line matmuls)" "1 128.05 MiB 67.11 M 27.972 100.0 % 100.0 %"      # 4.8 TB/s

# 2 x 4 x 16 x 4194304 bytes by 3.35 and by 8 TB/s
cost pass 16 h100; is pass "$(line 'other kernels' | cut -d' ' -f 1-3,6)" "1 512.00 MiB 160.260"
cost pass 16 b200; is pass_on_b200 "$(line 'other kernels' | cut -d' ' -f 1-3,6)" "1 512.00 MiB 67.109"
is launch "$(line launches)" "1 at about 2 us: 2.000 us more where nothing overlaps them"

is arithmetic "$(line arithmetic)" "15.0 % of the peak, 14.6 % with the launches"  # an exponential counts as 12 FLOP

# 36700160 parameters of 4 bytes: read and written, the moments too, the gradients written and read; kept are 4096 x 2048 after
# the rectifier and the 4096 x 512 of y, each written and read. Products: 2 x 4096 x (2 x 1024 x 2048 + 3 x 2048 x 512)
cost train 4096 h100 --explain; succeeds train
is train_ideal "$(line 'at the least')" \
    "1.19 GiB, moved 1.20 times: variables 840.00 MiB, gradients 280.00 MiB, kept activations 80.00 MiB, inputs, results 16.00 MiB"
is train_products "$(line matmuls)" "5 244.00 MiB 60.13 G 897.456 70.2 % 0.0 %"
holds train_explained grep -qE '^ +0 +256\.416 us f +56\.00 MiB +17\.18 G f32 +1  matmul 4096x2048x1024  cost.lv:13' out
is train_explained_whole "$(grep -cE '^ *[0-9]+ +[0-9.]+ us [mf] ' out)" "$(line 'in all' | cut -d' ' -f1)"

# The sums that a normalization's backward pass asks for are made by the data gradient: beside dy, the weight and dx, 4 MiB each and
# 72 KiB, it reads the map before the normalization, 4 MiB, and two numbers for each picture and channel, and leaves two sums of each
# of 32 strips. Of products alone that is no part.
cat >norm.lv <<'END'
import nn
import optim

model Norm() {
    first = nn.Conv2d(64, 64, kernel = 3, padding = 1)
    norm = nn.GroupNorm(64, groups = 32, eps = 1e-6)
    second = nn.Conv2d(64, 64, kernel = 3, padding = 1)

    entry train(x: f32[B, 64, 64, 64]) {
        y = second(swish(norm(first(x))))
        loss = mean(y * y)
        minimize(loss, optim.AdamW())
        return {loss}
    }
}
END
"$bin/lvc" norm.lv --batch 8 --device cuda:sm_90 --gpu h100 --precision bf16 --explain -o norm.lvm >out 2>err; status=$?; succeeds sums
holds sums_with_their_map grep -qE '^ +[0-9]+ +3\.818 us m +12\.20 MiB +2\.42 G bf16 +1  conv2d_data_grad_sums ' out
is sums_among_convolutions "$(line convolutions | cut -d' ' -f 1-3)" "5 61.06 MiB"
is sums_are_no_product "$(line 'products alone' | cut -d' ' -f 1,2)" "42.59 MiB,"

# For a GPU: TF32 by 494.5 TFLOP/s where it may be, bf16 by 989.5; x cast before, y after, the weight once and for all.
cost product 1024 h100 --device cuda:sm_90 --tf32; is tf32 "$(line matmuls)" "1 176.00 MiB 68.72 G 138.968 100.0 % 0.0 %"
cost product 1024 h100 --device cuda:sm_90 --precision bf16; is bf16 "$(line matmuls | cut -d' ' -f 1-6)" "1 88.00 MiB 68.72 G 69.449"
cost product 1024 h100 --device cuda:sm_90 --precision f16; is f16 "$(line matmuls | cut -d' ' -f 1-6)" "1 88.00 MiB 68.72 G 69.449"
holds f16_unit grep -qE '^ +launches +bytes +f16 FLOP +least us' out
cost product 1024 h100 --device cuda:sm_90 --precision bf16
is bf16_casts "$(line 'other kernels' | cut -d' ' -f 2,3)" "72.00 MiB"
is bf16_weight "$(line 'at the least' | sed 's/.*: //')" "variables 64.00 MiB, inputs, results 48.00 MiB"
cost product 1024 h100 --device cuda:sm_100; said gpu_too_old

# A residual stream of f32 [64, 64, 1024], 16 MiB, whose products are of bf16 [4096, 1024], 8 MiB: everything between two of them is one
# pass, though the shapes differ, and nothing is kept of a norm but the stream and two numbers a row.
cat >stream.lv <<'END'
import nn
import optim

model Stream() {
    norms = [nn.LayerNorm(1024) for i in range(4)]
    layers = [nn.Linear(1024, 1024) for i in range(4)]

    entry train(x: f32[B, 64, 1024]) {
        h = x
        for i in range(4) { h = h + layers[i](norms[i](h)) }
        loss = mean(h * h)
        minimize(loss, optim.SGD())
        return {loss}
    }
}
END
"$bin/lvc" stream.lv --entry train --batch 64 --precision bf16 --device cuda:sm_90 --gpu h100 --explain -o stream.lvm >out 2>err; status=$?
succeeds stream
moving() { grep -cE "^ +[0-9]+ +[0-9.]+ us m +$1 " out; }  # kernels that move so much
is stream_forward "$(moving '48.04 MiB')" 3   # reads stream and product, writes the sum and its norm
# of a norm's gradient: reads stream, product's and stream's gradients; writes that anew, its cast, and parts of the sums over rows for scale,
# shift and the bias before, which are read again. The norm lies there still for the next product
is stream_backward "$(moving '76.42 MiB')" 3
is stream_update "$(moving '96.01 KiB')" 1     # of the norms: after the last gradient, whose pack nobody makes but those who make its members

# What waits is made again where no product reads it late: the last sum reads x, 16 MiB, and not exp(x s) as well
cat >again.lv <<'END'
import optim

module Fixed(width: int) {
    param weight: [width, width] = 0.5
    fn forward(x: [B, width]) -> [B, width] { return matmul(x, weight) }
}

model Again() {
    param s: [1024] = 0.5
    frozen fixed = [Fixed(1024) for i in range(4)]

    entry train(x: f32[B, 1024]) {
        h = exp(x * s)
        y = h
        for i in range(4) { y = fixed[i](y) }
        loss = mean(y * y)
        minimize(loss, optim.SGD())
        return {loss}
    }
}
END
"$bin/lvc" again.lv --entry train --batch 4096 --device cuda:sm_90 --gpu h100 --explain -o again.lvm >out 2>err; status=$?
succeeds again
is again_free "$(moving '32.52 MiB')" 1   # x, the gradient of exp(x s), and what its blocks have in common
is again_memory "$(sed -nE 's/^ +activations +([0-9.]+) MiB/\1/p' out)" 32.0

cost train 4096 h200x; said no_such_gpu
cost train 4096 tpu; said gpu_unknown
