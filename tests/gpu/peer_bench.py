"""Times the peer's PyTorch networks on a GPU and prints one JSON line.

    peer_bench.py PEER_DIR augvae|biart --config NAME --entry train|draw_next --batch N --precision f32|tf32|bf16|f16 --mode eager|compile

A training step is forward, backward, fused AdamW and the codebook's update; bf16 and f16 are torch.autocast, f16 with torch.amp.GradScaler. draw_next is a picture's tokens
drawn one by one through the key/value cache, by token. Channels last where there are convolutions. step_ms is the median of the
steps after the warm-up, each between two events of the device.
"""

import argparse
import contextlib
import json
import statistics
import sys


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer")
    parser.add_argument("model", choices=["augvae", "biart"])
    parser.add_argument("--config", required=True)
    parser.add_argument("--entry", default="train", choices=["train", "draw_next"])
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--precision", default="f32", choices=["f32", "tf32", "bf16", "f16"])
    parser.add_argument("--mode", default="eager", choices=["eager", "compile"])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=3)
    arguments = parser.parse_args()
    sys.path.insert(0, arguments.peer)

    import torch

    import bench

    device = torch.device("cuda")
    tf32 = arguments.precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(42)
    model, module = bench.build(arguments.model, dict(bench.CONFIGS[arguments.model][arguments.config]))
    model = model.to(device)
    data = {name: tensor.to(device) for name, tensor in bench.batch_of(arguments.model, model.c, arguments.batch).items()}
    if arguments.model == "augvae":
        model = model.to(memory_format=torch.channels_last)
        data["image"] = data["image"].to(memory_format=torch.channels_last)
    narrow = {"bf16": torch.bfloat16, "f16": torch.float16}.get(arguments.precision)
    scaler = torch.amp.GradScaler("cuda", enabled=narrow == torch.float16)
    tokens = 1
    if arguments.entry == "train":
        model.train()
        optimizer = module.optimizer(model, 1e-4, fused=True)
        losses = torch.compile(model.losses) if arguments.mode == "compile" else model.losses

        def step():
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cuda", narrow) if narrow else contextlib.nullcontext():
                loss = losses(**data)["loss"]
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    else:
        model.eval()
        if narrow:
            model.to(narrow)
        tokens = model.c.image_len

        def step():
            with torch.no_grad(), device:  # its caches are made where tensors are made by default
                model.sample_image(data["text"], next(model.parameters()).dtype)

    steps, warmup = (arguments.steps, arguments.warmup) if tokens == 1 else (2, 1)
    times = []
    for i in range(warmup + steps):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        step()
        end.record()
        end.synchronize()
        if i >= warmup:
            times.append(begin.elapsed_time(end) / tokens)
    print(json.dumps({"model": arguments.model, "config": arguments.config, "entry": arguments.entry, "batch": arguments.batch,
                      "precision": arguments.precision, "mode": arguments.mode, "torch": torch.__version__,
                      "step_ms": round(statistics.median(times), 4), "peak_bytes": torch.cuda.max_memory_allocated()}))


if __name__ == "__main__":
    main()
