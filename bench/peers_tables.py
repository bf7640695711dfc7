"""Densities of tables of numbers beside zuko and nflows: log-likelihoods of test rows under one protocol.

    ~/nflow-peers/bin/python bench/peers_tables.py --tool build/tools/nflow gas.npy protein.npy

Every program gets the same rows (80 % to train, 10 % to validate, 10 % to test, shuffled by --seed), standardised by the
training rows, and makes the same number of steps of Adam with the same batch, rate (a warm-up, then a cosine to 0) and
clipping. The parameters that validate best are kept; all are validated equally often. Architectures are the same: the
same number of layers, hidden layers and units, and splines of 8 bins in [-5, 5]; nflows' and ours have LU-linear layers
between the splines, zuko's reverse the order of columns. Log-likelihoods are in nats a row and in the data's own units.
The last column is the time until a program validates as well as the weakest of the three does at its best.
"""
import argparse
import json
import math
import os
import subprocess
import tempfile
import time

import numpy as np
import torch
import zuko
from nflows.distributions.normal import StandardNormal
from nflows.flows.base import Flow
from nflows.transforms import (CompositeTransform, LULinear,
                               MaskedAffineAutoregressiveTransform,
                               MaskedPiecewiseRationalQuadraticAutoregressiveTransform, RandomPermutation,
                               ReversePermutation)

a = argparse.ArgumentParser(description='Log-likelihoods of tables beside zuko and nflows.')
a.add_argument('data', nargs='+', help='npy files [rows, columns]')
a.add_argument('--tool', default='build/tools/nflow', help='the command line tool')
a.add_argument('--steps', type=int, default=10000)
a.add_argument('--batch', type=int, default=256)
a.add_argument('--rate', type=float, default=1e-3)
a.add_argument('--layers', type=int, default=5)
a.add_argument('--width', type=int, default=128)
a.add_argument('--dropout', type=float, default=0.0, help='of nflows and nflow; zuko has none')
a.add_argument('--validations', type=int, default=40, help='during the fit')
a.add_argument('--flow', choices=['nsf', 'maf', 'both'], default='both')
a.add_argument('--threads', type=int, default=2)
a.add_argument('--seed', type=int, default=1)
a.add_argument('--json', help='write the results there')
o = a.parse_args()
torch.set_num_threads(o.threads)


def split(path):
    x = np.load(path).astype(np.float64)
    x = x[:, x.std(axis=0) > 0]
    x = x[np.random.default_rng(o.seed).permutation(len(x))]
    n = len(x) // 10
    return x[:-2 * n], x[-2 * n:-n], x[-n:]


def zuko_flow(kind, dim):
    hidden = (o.width, o.width)
    if kind == 'maf':
        return zuko.flows.MAF(dim, transforms=o.layers, hidden_features=hidden)
    return zuko.flows.NSF(dim, bins=8, transforms=o.layers, hidden_features=hidden)


def nflows_flow(kind, dim):
    layers = []
    for _ in range(o.layers):
        if kind == 'maf':
            layers += [ReversePermutation(dim), MaskedAffineAutoregressiveTransform(
                dim, o.width, num_blocks=2, use_residual_blocks=False, dropout_probability=o.dropout)]
        else:
            layers += [RandomPermutation(dim), LULinear(dim, identity_init=True),
                       MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
                           dim, o.width, num_bins=8, tails='linear', tail_bound=5, num_blocks=2,
                           dropout_probability=o.dropout)]
    return Flow(CompositeTransform(layers), StandardNormal([dim]))


def fit(flow, log_prob, parts):
    """Log-likelihoods of the test rows, seconds, and the curve [(seconds, validation), ...]."""
    train, valid, test = (torch.from_numpy(p.astype(np.float32)) for p in parts)
    optimizer = torch.optim.Adam(flow.parameters(), lr=o.rate)
    warm = min(200, o.steps // 50)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda t: min(1, (t + 1) / max(warm, 1)) * 0.5 * (1 + math.cos(math.pi * t / o.steps)))
    best, kept, begin, order = -math.inf, None, time.time(), torch.randperm(len(train))
    at, curve = 0, []
    for step in range(1, o.steps + 1):
        if at + o.batch > len(train):
            order, at = torch.randperm(len(train)), 0
        loss = -log_prob(train[order[at:at + o.batch]]).mean()
        at += o.batch
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 5 * math.sqrt(train.shape[1]))
        optimizer.step()
        schedule.step()
        if step % max(o.steps // o.validations, 1) == 0 or step == o.steps:
            flow.eval()
            with torch.no_grad():
                now = float(torch.cat([log_prob(b) for b in valid.split(4096)]).double().mean())
            flow.train()
            curve.append((time.time() - begin, now))
            if now > best:
                best, kept = now, {k: v.clone() for k, v in flow.state_dict().items()}
    seconds = time.time() - begin
    flow.load_state_dict(kept)
    flow.eval()
    with torch.no_grad():
        return torch.cat([log_prob(b) for b in test.split(4096)]).double().numpy(), seconds, curve


def ours(folder, parts, options):
    paths = []
    for name, rows in zip(('train', 'valid', 'test'), parts):
        paths.append(os.path.join(folder, name + '.npy'))
        np.save(paths[-1], rows)
    model, out, report = (os.path.join(folder, f) for f in ('model', 'scores.npy', 'report.json'))
    subprocess.run([o.tool, 'fit', paths[0], '--valid', paths[1], '--test', paths[2], '-o', model, '--no-baselines',
                    '--threads', str(o.threads), '--seed', str(o.seed), '--json', report, *map(str, options)],
                   check=True, stdout=subprocess.DEVNULL)
    subprocess.run([o.tool, 'score', model, paths[2], '-o', out], check=True, stdout=subprocess.DEVNULL)
    with open(report, encoding='utf-8') as f:
        told = json.load(f)
    return np.load(out)[:, 0], told['seconds'], [(c['seconds'], c['validation']) for c in told['curve']]


def seconds_to(curve, level):
    return next((t for t, v in curve if v >= level), math.nan)


def main():
    results = []
    for path in o.data:
        parts = split(path)
        mean, sd = parts[0].mean(axis=0), parts[0].std(axis=0)
        standard = [(p - mean) / sd for p in parts]
        rows = {}
        for kind in ('nsf', 'maf') if o.flow == 'both' else (o.flow,):
            dim = parts[0].shape[1]
            same = ['--bins', 8, '--steps', o.steps, '--batch', o.batch, '--rate', o.rate, '--layers', o.layers, '--width', o.width,
                    '--validate-every', max(o.steps // o.validations, 1), '--weight-decay', 0, '--dropout', o.dropout,
                    *(['--flow', 'nsf-autoregressive', '--blocks', 2, '--box', 5] if kind == 'nsf' else
                      ['--flow', 'maf', '--depth', 2])]
            with tempfile.TemporaryDirectory() as folder:
                rows[kind, 'nflow'] = ours(folder, parts, same)
            for name, make in (('zuko', zuko_flow), ('nflows', nflows_flow)):
                torch.manual_seed(o.seed)
                flow = make(kind, dim)
                score = (lambda x, f=flow: f().log_prob(x)) if name == 'zuko' else flow.log_prob
                scores, seconds, curve = fit(flow, score, standard)
                scale = np.log(sd).sum()
                rows[kind, name] = scores - scale, seconds, [(t, v - scale) for t, v in curve]
        with tempfile.TemporaryDirectory() as folder:
            rows['default', 'nflow'] = ours(folder, parts, [])
        for (kind, name), (scores, seconds, curve) in rows.items():
            first = rows[kind, 'nflow'][0]
            level = min(max(v for _, v in c) for (k, _), (_, _, c) in rows.items() if k == kind)
            difference, se = (first - scores).mean(), (first - scores).std() / math.sqrt(len(scores))
            results.append({'data': os.path.basename(path), 'flow': kind, 'package': name, 'test': scores.mean(),
                            'se': scores.std() / math.sqrt(len(scores)), 'nflow_less_it': difference,
                            'difference_se': se, 'seconds': seconds, 'level': level,
                            'seconds_to_level': seconds_to(curve, level)})
            print(f'{os.path.basename(path):20} {kind:8} {name:7} {scores.mean():9.4f} +- {results[-1]["se"]:.4f}   '
                  f'nflow less it {difference:8.4f} +- {se:.4f}   {seconds:7.1f} s   '
                  f'{results[-1]["seconds_to_level"]:7.1f} s to {level:.3f}', flush=True)
    if o.json:
        with open(o.json, 'w', encoding='utf-8') as f:
            json.dump(results, f, indent=1)


main()
