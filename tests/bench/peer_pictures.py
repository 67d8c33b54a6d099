"""Times PyTorch's `encode` or `reconstruct` of an AugVAE on random pictures and prints one JSON line, in the form of the peer's bench.py.

    PEER_DIR=... peer_pictures.py augvae --config NAME --batch N --mode-op encode|reconstruct [--precision f32|bf16]
                 [--layout nchw|nhwc] [--steps K] [--warmup W]

PEER_DIR is the folder of bench.py, whose models and configs these are. No gradients are kept; bf16 is torch.autocast.
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import sys
import time

sys.path.insert(0, os.environ["PEER_DIR"])
import torch  # noqa: E402

import bench  # noqa: E402


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("kind", choices=["augvae", "augvae_sl"])
    ap.add_argument("--config", required=True)
    ap.add_argument("--batch", type=int, required=True)
    ap.add_argument("--mode-op", choices=["encode", "reconstruct"], required=True)
    ap.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    ap.add_argument("--layout", choices=["nchw", "nhwc"], default="nchw")
    ap.add_argument("--steps", type=int, default=5)
    ap.add_argument("--warmup", type=int, default=1)
    a = ap.parse_args()
    torch.manual_seed(42)
    base = bench.resident()
    model, _ = bench.build(a.kind, bench.CONFIGS[a.kind][a.config])
    image = bench.batch_of(a.kind, model.c, a.batch)["image"]
    if a.layout == "nhwc":
        model, image = model.to(memory_format=torch.channels_last), image.to(memory_format=torch.channels_last)
    model.eval()
    autocast = torch.autocast("cpu", torch.bfloat16) if a.precision == "bf16" else contextlib.nullcontext()
    run, times = getattr(model, a.mode_op), []
    with torch.inference_mode(), autocast:
        for _ in range(a.warmup + a.steps):
            start = time.perf_counter()
            run(image)
            times.append(time.perf_counter() - start)
    times = times[a.warmup :]
    print(json.dumps({"kind": a.kind, "op": a.mode_op, "config": a.config, "batch": a.batch, "precision": a.precision, "layout": a.layout,
                      "step_ms": statistics.median(times) * 1e3, "least_ms": min(times) * 1e3,
                      "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "base_bytes": base}))


if __name__ == "__main__":
    main()
