"""Counts what torch.compile launches for a training step: the kernels and the library calls in Inductor's output code.

    inductor_launches.py PEER_DIR [--set JSON] [--batch N] [--show] [--json FILE] [--code FILE]
    inductor_launches.py --read FILE [--show]        code that --code or TORCH_LOGS=output_code wrote

PEER_DIR holds the peer's augvae.py. The losses and their gradients go through `torch.compile(model.losses)` as the peer's training
does; the code that Inductor writes, forward and backward, is neither compiled nor run, only read line by line: a call of one of
its own kernels, a call of a library (extern_kernels.*, torch.ops.aten.*; the backward of a convolution is as many as it has
gradients of pictures and weights), a copy. The optimizer is not compiled (the peer uses fused AdamW): its launches on a GPU are
those of multi_tensor_apply, counted by its rule. Without a GPU the code is the CPU's, where a call may hold several loop nests that on
a GPU are kernels of their own: a lower bound. With --triton the kernels are Triton's, cut and fused by the rules of an H100, which
need no GPU either: what a GPU would launch.

The defaults keep the full network's structure (four maps, three stages in the first encoder, the same blocks) at a small width and
picture. `--triton --set '{}' --batch 8` is the network itself, which takes some minutes and no arithmetic: reductions are cut by their
size.
"""

import argparse
import collections
import json
import math
import re
import sys

SMALL = dict(resolution=64, hidden_dim=32, attn_resolutions=[16, 8, 4, 2], num_tokens=64, codebook_dim=32, z_channels=32)

# A call as a statement or the right side of an assignment, in the wrapper that runs the kernels.
CALL = re.compile(r"^\s*(?:[\w, ()\[\]]+ = )?(?P<name>[A-Za-z_][\w.]*)\((?!.*\bdef\b)")
OWN = re.compile(r"^(cpp_fused\w*|triton_\w+|cpp_CppWeightless\w*|cpp_\w*GemmTemplate\w*)(\.run)?$")


def wrapper_lines(code):
    """The lines of the functions that call kernels: `def call(args)`, or `def call(self, args)` and partition_N."""
    inside, depth = False, 0
    for line in code.splitlines():
        indent = len(line) - len(line.lstrip())
        match = re.match(r"^\s*def (call|partition_\d+)\(", line)
        if match:
            inside, depth = True, indent
        elif inside and line.strip() and indent <= depth:
            inside = False
        if inside:
            yield line


def count(code):
    """How often a wrapper launches what, by kind."""
    kernels, libraries, other = collections.Counter(), collections.Counter(), collections.Counter()
    for line in wrapper_lines(code):
        match = CALL.match(line)
        if not match:
            continue
        name = match["name"]
        if OWN.match(name):
            kernels[name] += 1
        elif name.startswith("extern_kernels."):
            libraries[name] += 1
        elif "convolution_backward" in name:  # ..., [dx, dw, db]): db is a sum that is fused or not
            mask = re.findall(r"True|False", line.rsplit("[", 1)[-1])
            libraries[name] += max(1, mask[:2].count("True"))
        elif name.startswith("torch.ops.") and not re.search(r"\.(reshape|view|as_strided|permute)\b", name):
            libraries[name] += 1
        elif re.search(r"\.(copy_|zero_|fill_)$", name):
            other[name.rsplit(".", 1)[-1]] += 1
    return kernels, libraries, other


def fused_adamw_launches(elements):
    """multi_tensor_apply, four lists: at most 36 tensors and 320 pieces of 65,536 elements a launch."""
    launches = tensors = pieces = 0
    for n in elements:
        tensors += 1
        left = math.ceil(n / 65536)
        while left:
            take = min(left, 320 - pieces)
            left, pieces = left - take, pieces + take
            if pieces == 320:
                launches, pieces = launches + 1, 0
                tensors = 1 if left else 0
        if tensors == 36 and not left:
            launches, tensors, pieces = launches + 1, 0, 0
    return launches + (pieces > 0)


def pretend_gpu():
    """Kernels are written by Triton's rules for an H100, for tensors that lie on the CPU. Nothing is compiled or run."""
    import torch._inductor.config
    import triton
    from torch._inductor.runtime.hints import DeviceProperties
    from triton.backends.compiler import GPUTarget

    class Driver:
        def get_current_target(self):
            return GPUTarget("cuda", 90, 32)

        def get_current_device(self):
            return 0

        def get_active_torch_device(self):
            return None

    h100 = DeviceProperties(type="cpu", index=0, multi_processor_count=132, cc=90, major=9, regs_per_multiprocessor=65536,
                            max_threads_per_multi_processor=2048, max_threads_per_block=1024, warp_size=32)
    triton.runtime.driver.set_active(Driver())
    DeviceProperties.create = classmethod(lambda cls, device: h100)
    torch._inductor.config.cpu_backend = "triton"


def compiled(arguments):
    """Inductor's code for a step, the number of elements of each trained tensor, and what it was made with."""
    sys.path.insert(0, arguments.peer)

    import torch
    import torch._functorch.config
    import torch._inductor.config
    from torch._inductor.utils import get_code

    import augvae

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = augvae.AugVAE(augvae.AugVAEConfig.of(json.loads(arguments.set))).to(device).train()
    image = torch.rand(arguments.batch, model.c.in_channels, model.c.resolution, model.c.resolution, device=device) * 2 - 1
    losses = torch.compile(model.losses)

    def forward():
        try:
            losses(image=image)
        except IndexError:
            pass  # the code is there; what should run it was replaced by what returns nothing

    torch._inductor.config.force_disable_caches = True  # what is remembered leaves no code
    torch._functorch.config.force_non_lazy_backward_lowering = True
    if arguments.triton:
        pretend_gpu()
    codes = get_code(forward)
    return codes, [p.numel() for p in model.parameters() if p.requires_grad], {"torch": torch.__version__, "device": device}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", nargs="?")
    parser.add_argument("--set", default=json.dumps(SMALL), help="the network's parameters as a JSON object")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--show", action="store_true", help="every name and how often it is called")
    parser.add_argument("--json", help="the numbers into a file")
    parser.add_argument("--code", help="Inductor's output code into a file")
    parser.add_argument("--triton", action="store_true", help="without a GPU: kernels as Triton's, which fuses by the rules of GPUs")
    parser.add_argument("--read", help="no compiling: the code is in this file")
    arguments = parser.parse_args()
    trained, report = [], {}
    if arguments.read:
        with open(arguments.read) as file:
            codes = [file.read()]
    elif arguments.peer:
        codes, trained, report = compiled(arguments)
    else:
        parser.error("PEER_DIR or --read FILE")
    if arguments.code:
        with open(arguments.code, "w") as file:
            file.write("\n# ----\n".join(codes))
    kernels, libraries, other = collections.Counter(), collections.Counter(), collections.Counter()
    for code in codes:
        for total, part in zip((kernels, libraries, other), count(code)):
            total.update(part)
    counts = {"kernels": sum(kernels.values()), "library_calls": sum(libraries.values()), "copies": sum(other.values())}
    if trained:
        counts["optimizer"] = fused_adamw_launches(trained)
    report.update(counts, in_all=sum(counts.values()))
    if arguments.show:
        for name, number in (kernels + libraries + other).most_common():
            print(f"{number:6d}  {name}")
    print(json.dumps(report))
    if report.get("device") == "cpu":
        print("as Triton would be asked for an H100; a library call is one kernel at least" if arguments.triton
              else "Inductor's code for the CPU; on a GPU at least as many", file=sys.stderr)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(report, file)


if __name__ == "__main__":
    main()
