"""The continuous flows of bench_continuous in zuko and in FFJORD's own code with torchdiffeq, float32.

The nets have the same hidden layers and take the time as a feature: of the first layer in zuko, of every layer in
FFJORD's code. zuko steps back through the steps that it took (checkpoints, as we do); FFJORD's code solves the adjoint
equation, or with "ffjord-steps" lets PyTorch go back through the solver. NFLOW_FFJORD names its folder, a checkout of
github.com/rtqichen/ffjord. Everybody trains on the same rows first: see bench/continuous.c, whose numbers these are.
"""
import math
import os
import sys

import torch

WORKLOADS = {f"ffjord-{dim}-{what}" for dim, what in
             ((2, "train"), (2, "density"), (2, "sample"), (43, "train"), (43, "density"))}
BATCH, WARM_UP, CLUSTERS, HIDDEN, TOLERANCE = 512, 500, 8, (64, 64, 64), 1e-5


def clusters(dim):
    quarter = math.pi / 2
    turn = torch.arange(BATCH).remainder(CLUSTERS).unsqueeze(1) / CLUSTERS
    return 0.5 * torch.randn(BATCH, dim) + 3 * torch.cos(quarter * (4 * turn + torch.arange(dim)))


class Zuko(torch.nn.Module):
    def __init__(self, dim):
        import zuko
        super().__init__()
        widths = (dim + 1, *HIDDEN)
        layers = [layer for a, b in zip(widths, widths[1:]) for layer in (torch.nn.Linear(a, b), torch.nn.Tanh())]
        self.net = torch.nn.Sequential(*layers, torch.nn.Linear(HIDDEN[-1], dim))
        self.transform = zuko.transforms.FreeFormJacobianTransform(
            lambda t, x: self.net(torch.cat((x, t.expand(x.shape[:-1] + (1,))), dim=-1)), phi=self.net.parameters(),
            atol=TOLERANCE, rtol=TOLERANCE, exact=dim == 2)

    def to_base(self, x):
        return self.transform.call_and_ladj(x)

    def from_base(self, z):
        return self.transform.inv(z)


class Ffjord(torch.nn.Module):
    def __init__(self, dim, through_steps):
        folder = os.environ.get("NFLOW_FFJORD")
        if not folder:
            sys.exit("where is FFJORD's code? Set NFLOW_FFJORD to a checkout of github.com/rtqichen/ffjord")
        sys.path.insert(0, folder)
        import lib.layers as layers
        import lib.layers.cnf
        super().__init__()
        if through_steps:
            import torchdiffeq
            lib.layers.cnf.odeint = torchdiffeq.odeint
        self.net = layers.ODEnet(hidden_dims=HIDDEN, input_shape=(dim,), strides=None, conv=False, layer_type="concat",
                                 nonlinearity="tanh")
        field = layers.ODEfunc(diffeq=self.net, divergence_fn="brute_force" if dim == 2 else "approximate",
                               rademacher=True)
        self.flow = layers.CNF(odefunc=field, T=1.0, solver="dopri5", atol=TOLERANCE, rtol=TOLERANCE)

    def to_base(self, x):
        z, minus = self.flow(x, torch.zeros(x.shape[0], 1))
        return z, -minus.squeeze(1)

    def from_base(self, z):
        return self.flow(z, reverse=True)


def build(peer, workload):
    import warnings
    warnings.filterwarnings("ignore")  # FFJORD's code copies the time by torch.tensor
    package, _, kind = peer.partition("-")
    _, dim, what = workload.split("-")
    dim = int(dim)
    torch.set_flush_denormal(True)
    flow = Zuko(dim) if package == "zuko" else Ffjord(dim, kind == "steps")
    x = clusters(dim)
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3, fused=True)

    def log_prob(x):
        z, log_det = flow.to_base(x)
        return -0.5 * z.square().sum(-1) - 0.5 * dim * math.log(2 * math.pi) + log_det

    def train():
        optimizer.zero_grad(set_to_none=True)
        (-log_prob(x).mean()).backward()
        optimizer.step()

    for _ in range(WARM_UP):
        train()
    for group in optimizer.param_groups:
        group["lr"] = 1e-12
    def density():
        with torch.no_grad():
            return log_prob(x)

    def sample():
        with torch.no_grad():
            return flow.from_base(torch.randn(BATCH, dim))

    step = {"train": train, "density": density, "sample": sample}[what]
    if what != "train":
        flow.eval()
    calls = []
    hook = flow.net.register_forward_hook(lambda *_: calls.append(1))
    step() if what != "train" else log_prob(x)
    solve = len(calls)
    step()
    hook.remove()
    step.evaluations = solve, len(calls) - solve
    return step
