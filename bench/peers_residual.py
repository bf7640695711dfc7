"""Residual flows in D = 2, ten blocks of nets 128-128-128, in normflows and in residual-flows, the code of Chen et al.
(2019): the residual workloads of bench_flows.

residual-flows is no package: its checkout is named by NFLOW_RESIDUAL_FLOWS. Blocks, nets and options are those of its
train_toy.py without normalisation between the blocks. A peer is a package, or with -exact the package with the log-det
from the dense Jacobian (`brute_force`) in training as well. Without it training has the package's own estimator: three
terms, and each further one with probability 1/2, one number of terms for the whole batch, one probe. Outside training
both compute the dense Jacobian in two dimensions. Power iteration goes on until a vector moves by less than 1e-3, once a
step, as ours; the bound of each layer is 0.97.

Products with all weights a step and block, where an autograd node with a graph of its own costs two on the way back and
so does the net: exact 1 + 2, and 6 back; normflows' estimator 1 + 4 (in the mean) + 1, and 6 back; that of
residual-flows' toys, which keeps the graph of every term, 1 + 4, and 10 back.
"""
import os
import sys

import torch

DIM, LAYERS, HIDDEN, BOUND, TOLERANCE, BATCH = 2, 10, (128, 128, 128), 0.97, 1e-3, 512
WORKLOADS = {"residual-train", "residual-density", "roulette-train"}


def normflows_model(exact):
    import normflows as nf
    blocks = [nf.flows.Residual(nf.nets.LipschitzMLP([DIM, *HIDDEN, DIM], lipschitz_const=BOUND, max_lipschitz_iter=None,
                                                     lipschitz_tolerance=TOLERANCE), brute_force=exact)
              for _ in range(LAYERS)]
    flow = nf.NormalizingFlow(nf.distributions.DiagGaussian(DIM, trainable=False), blocks)
    return flow, flow.log_prob


def residual_flows_model(exact):
    sys.path.insert(0, os.environ["NFLOW_RESIDUAL_FLOWS"])
    import resflows.layers as layers
    import resflows.layers.base as base

    def net():
        widths, parts = [DIM, *HIDDEN, DIM], []
        for a, b in zip(widths, widths[1:]):
            parts += [base.Swish(), base.get_linear(a, b, coeff=BOUND, n_iterations=None, atol=TOLERANCE, rtol=TOLERANCE,
                                                    domain=2.0, codomain=2.0, zero_init=b == DIM)]
        return torch.nn.Sequential(*parts)

    flow = layers.SequentialFlow([layers.iResBlock(net(), n_dist="geometric", brute_force=exact, neumann_grad=False,
                                                   grad_in_forward=False) for _ in range(LAYERS)])
    normal = torch.distributions.Normal(0.0, 1.0)

    def log_prob(x):
        z, delta = flow(x, torch.zeros(len(x), 1))
        return normal.log_prob(z).sum(1) - delta.view(-1)

    return flow, log_prob


def build(peer, workload):
    package = peer.removesuffix("-exact")
    torch.set_flush_denormal(True)
    flow, log_prob = {"normflows": normflows_model, "residual-flows": residual_flows_model}[package](peer != package)
    x = torch.randn(BATCH, DIM)
    if workload == "residual-density":
        flow.eval()
        flow.requires_grad_(False)
        return torch.no_grad()(lambda: log_prob(x.clone()))
    bounded = [m for m in flow.modules() if hasattr(m, "compute_weight")]
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-4, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        (-log_prob(x.clone()).mean()).backward()
        optimizer.step()
        for m in bounded:
            m.compute_weight(update=True)

    return step
