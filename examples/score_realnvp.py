"""Scores rows by a RealNVP that nflow wrote, with numpy alone: prints the log-density of each row, in nats.

    python3 score_realnvp.py MODEL.safetensors ROWS.csv

The model is a standard normal pushed through a chain of couplings, as nf_realnvp() makes them, and perhaps nf_actnorm().
docs/format.md describes the file; elementwise.h and combine.h have the formulas.
"""
import json
import sys

import numpy as np

with open(sys.argv[1], "rb") as file:
    header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    data = file.read()
architecture = json.loads(header.pop("__metadata__")["architecture"])
tensors = {name: np.frombuffer(data[slice(*t["data_offsets"])], {"F64": "<f8", "F32": "<f4"}[t["dtype"]])
           .reshape(t["shape"]).astype(float) for name, t in header.items()}
state = tensors.get("state", np.zeros(0))


def layers(flow, name):
    """The layers from the base to the data, with the beginning of the names of their tensors."""
    if flow["type"] != "chain":
        yield flow, name
    else:
        for i, child in enumerate(flow["children"]):
            yield from layers(child, f"{name}{i}.{child['type']}.")


def coupling(flow, name, y):
    """Features whose mask is 1 were scaled and shifted by what the net makes of the others."""
    (transform, net), changed = flow["children"], np.array(flow["fields"]["mask"], dtype=bool)
    h, n = y[:, ~changed], len(net["fields"]["hidden"])
    for i in range(n + 1):
        h = h @ tensors[f"{name}1.mlp.{i}.weight"].T + tensors[f"{name}1.mlp.{i}.bias"]
        h = np.maximum(h, 0) if i < n else h
    m, a = h.reshape(len(y), -1, 2).transpose(2, 0, 1)
    u = transform["fields"]["limit"]
    log_s = u * np.tanh((a + transform["fields"]["bias"]) / u)
    x = y.copy()
    x[:, changed] = (y[:, changed] - m) * np.exp(-log_s)
    return x, -log_s.sum(axis=1)


def actnorm(flow, name, y):
    """Data are standardised by the first batch's mean M and log-deviation S; then come the learnt m and s."""
    mean, log_deviation = state[:y.shape[1]], state[y.shape[1]:2 * y.shape[1]]
    m, s = tensors[name + "m"], tensors[name + "s"]
    return ((y - mean) * np.exp(-log_deviation) - m) * np.exp(-s), -(log_deviation + s).sum()


x = np.loadtxt(sys.argv[2], delimiter=",", ndmin=2)
log_p = np.zeros(len(x))
flow = architecture["children"][1]
for layer, name in reversed(list(layers(flow, f"1.{flow['type']}."))):
    x, log_det = {"coupling": coupling, "actnorm": actnorm}[layer["type"]](layer, name, x)
    log_p += log_det
log_p -= 0.5 * (x ** 2 + np.log(2 * np.pi)).sum(axis=1)
print("\n".join(f"{p:.15g}" for p in log_p))
