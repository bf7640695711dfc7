"""Glow on images in normflows, float32: what bench_images does.

Blocks are normflows' GlowBlock with its defaults: actnorm, invertible 1x1 convolution by LU, affine coupling with a
sigmoid and a net 3x3, 1x1, 3x3; the nets have no actnorm, which our nets have at no cost. Bases are standard normal.
Images stay in PyTorch's usual order of memory; -channels-last has them in the other one. Samples are taken in
torch.inference_mode (compiled: torch.no_grad, since torch.compile refuses the other), training uses fused Adam.
"""
import torch

from peers_flows import training_step

BATCH, LEVELS, DEPTH, HIDDEN = 64, 2, 8, 64
IMAGES = {"28": (1, 28, 28), "16": (3, 16, 16)}
WORKLOADS = {f"glow-{image}-{what}" for image in IMAGES for what in ("train", "sample")}


def model(channels, height, width):
    import normflows as nf
    bases, flows, merges = [], [], []
    for i in range(LEVELS):  # from the last scale on
        c, half = channels * 2 ** (LEVELS + 1 - i), 2 ** (LEVELS - i)
        flows.append([nf.flows.GlowBlock(c, HIDDEN) for _ in range(DEPTH)] + [nf.flows.Squeeze()])
        if i > 0:
            merges.append(nf.flows.Merge())
            c //= 2
        bases.append(nf.distributions.DiagGaussian((c, height // half, width // half), trainable=False))
    return nf.MultiscaleFlow(bases, flows, merges, class_cond=False)


def build(peer, workload):
    _, image, what = workload.split("-")
    torch.set_flush_denormal(True)
    flow = model(*IMAGES[image])
    x = torch.randn(BATCH, *IMAGES[image])
    flow.log_prob(x, None)  # actnorms begin from data
    if "channels-last" in peer:
        flow, x = flow.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    call = (lambda: -flow.log_prob(x, None).mean()) if what == "train" else (lambda: flow.sample(BATCH)[0])
    compiled = peer.endswith("-compiled")
    if compiled:
        call = torch.compile(call)
    if what == "sample":
        return (torch.no_grad if compiled else torch.inference_mode)()(call)
    return training_step(flow, call)
