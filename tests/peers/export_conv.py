"""Writes conv2d-torch.h beside this file: a small net of PyTorch's convolutions, its weights, and what it computes.

    ~/nflow-peers/bin/python tests/peers/export_conv.py

The net is conv2d 3 x 3, ELU, conv2d 1 x 1, ELU, conv2d 3 x 3 on an image of 3 channels; then the same with weight norm
(torch.nn.utils.weight_norm) and Glow's last layer (Kingma & Dhariwal 2018). Everything is computed in double precision.
Weights are multiples of 1/128, so that the float build reads them exactly. Weights are written as PyTorch has them,
[out][in][height][width].
"""
import pathlib
import textwrap

import numpy as np
import torch
import torch.nn.functional as F

HERE = pathlib.Path(__file__).resolve().parent
SAMPLES, CHANNELS, HEIGHT, WIDTH, HIDDEN, OUT = 2, 3, 4, 5, (4, 3), 2
SIDES = (3, 1, 3)


def numbers(random, *shape):
    return torch.from_numpy(np.round(random.standard_normal(shape) * 40) / 128).requires_grad_()


def conv(x, weight, bias, side):
    return F.conv2d(x, weight, bias, padding=side // 2)


def plain(x, weight, bias):
    for l, side in enumerate(SIDES):
        x = conv(F.elu(x) if l else x, weight[l], bias[l], side)
    return x


def normed(x, weight, bias, gain):
    """Weight norm in the hidden layers, exp(3 s) (z + b) in the last one."""
    for l, side in enumerate(SIDES[:2]):
        w = torch._weight_norm(weight[l], gain[l].reshape(-1, 1, 1, 1), 0)
        x = F.elu(conv(x, w, bias[l], side))
    return conv(x, weight[2], bias[2], SIDES[2]) * torch.exp(3 * gain[2].reshape(1, -1, 1, 1))


def write(out, name, values):
    text = ", ".join(f"{v:.17g}" for v in np.asarray(values.detach()).ravel())
    out += textwrap.wrap(f"static const double torch_{name}[] = {{{text}}};", 120, subsequent_indent="    ")


def main():
    random = np.random.default_rng(20261127)
    widths = (CHANNELS, *HIDDEN, OUT)
    weight = [numbers(random, widths[l + 1], widths[l], SIDES[l], SIDES[l]) for l in range(3)]
    bias = [numbers(random, widths[l + 1]) for l in range(3)]
    gain = [numbers(random, widths[l + 1]) for l in range(3)]
    x, gy = numbers(random, SAMPLES, CHANNELS, HEIGHT, WIDTH), numbers(random, SAMPLES, OUT, HEIGHT, WIDTH)
    out = [f"/* Made by export_conv.py with PyTorch {torch.__version__.split('+')[0]}. */",
           "/* clang-format off */"]
    for l in range(3):
        write(out, f"weight_{l}", weight[l])
        write(out, f"bias_{l}", bias[l])
        write(out, f"gain_{l}", gain[l])
    write(out, "x", x)
    write(out, "gy", gy)
    for name, y, of in (("plain", plain(x, weight, bias), weight + bias),
                        ("normed", normed(x, weight, bias, gain), weight + bias + gain)):
        g = torch.autograd.grad((y * gy).sum(), [x, *of])
        write(out, f"{name}_y", y)
        write(out, f"{name}_gx", g[0])
        for l in range(3):
            write(out, f"{name}_g_weight_{l}", g[1 + l])
            write(out, f"{name}_g_bias_{l}", g[4 + l])
            if name == "normed":
                write(out, f"{name}_g_gain_{l}", g[7 + l])
    (HERE / "conv2d-torch.h").write_text("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
