"""What bench/peers_inference.py and the peers it starts share: posteriors, their data, and how a peer is asked and answers.

A peer is a program of one fit:

    python peers_numpyro.py REQUEST.json ANSWER.npz

The request has the posterior, its data, the guide, seed, steps, particles, rate, how many checkpoints, how many draws are
taken of each, and points at which the log density is wanted. The answer has, for each checkpoint, the seconds since the
peer was started and its processor seconds so far (evaluations not counted), log weights [draws] and draws [draws, columns];
the processor seconds of imports and of compiling, and the log densities at the points.

The posteriors are those of tests/stan. A parameter with a lower bound of 0 is `positive`. Stan does not divide its density
by the half that is left of a Cauchy or normal above 0, so that the others' log densities get -log 2.
"""
import csv
import json
import os
import resource
import sys
import time

import numpy as np

POSTERIORS = ('eight_schools_noncentered', 'eight_schools_centered', 'logistic_regression')
SCHOOLS = {'J': 8, 'y': [28, 8, -3, 7, -1, 1, 18, 12], 'sigma': [15, 10, 16, 11, 9, 11, 10, 18]}


def data_of(name, folder):
    """The data of a posterior; `folder` is where credit/german_credit_numeric.csv lies."""
    if name != 'logistic_regression':
        return SCHOOLS
    with open(os.path.join(folder, 'credit', 'german_credit_numeric.csv'), encoding='utf-8') as f:
        rows = list(csv.reader(f))
    start = 0 if rows[0][0].lstrip('-').replace('.', '', 1).isdigit() else 1
    table = np.array(rows[start:], float)
    x = (table[:, :-1] - table[:, :-1].mean(axis=0)) / table[:, :-1].std(axis=0)
    return {'N': len(x), 'K': x.shape[1], 'x': x.tolist(), 'y': (table[:, -1] > 1.5).astype(float).tolist()}


def sites(name, data):
    """Parameters in the order of Stan's: name, size (0: a scalar), positive."""
    if name == 'logistic_regression':
        return [('alpha', 0, False), ('scale', 0, True), ('beta', data['K'], False)]
    return [('mu', 0, False), ('tau', 0, True), ('eta' if 'noncentered' in name else 'theta', data['J'], False)]


def columns(name, data):
    """Names of the columns that are compared with reference draws."""
    of = [s for s in sites(name, data) if s[0] != 'eta']
    of += [('theta', data['J'], False)] if 'noncentered' in name else []
    return [n if not size else f'{n}.{i + 1}' for n, size, _ in of for i in range(max(size, 1))]


def values_of(name, data, draws):
    """Draws {site: [n] or [n, size]} as a matrix of those columns."""
    d = {k: np.asarray(v, float) for k, v in draws.items()}
    if 'noncentered' in name:
        d['theta'] = d['mu'][:, None] + d['tau'][:, None] * d['eta']
    of = [s[0] for s in sites(name, data) if s[0] != 'eta'] + (['theta'] if 'noncentered' in name else [])
    return np.concatenate([d[s].reshape(len(d[s]), -1) for s in of], axis=1)


class Request:
    def __init__(self):
        with open(sys.argv[1], encoding='utf-8') as f:
            self.__dict__.update(json.load(f))
        self.answer = {'at': [], 'cpu': [], 'log_w': [], 'draws': []}
        self.before = 0.0

    def wall(self):
        return time.time() - self.began

    @staticmethod
    def cpu():
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    def part(self, name):
        """Notes the processor seconds since the part before it ended, or the process began."""
        now = self.cpu()
        self.answer[name] = now - self.before
        self.before = now

    def tell(self, **what):
        self.answer.update(what)

    def checkpoint(self, kept):
        """Notes the times; `kept` is evaluated later, by finish()."""
        self.answer['at'].append(self.wall())
        self.answer['cpu'].append(self.cpu())
        self.answer['draws'].append(kept)

    def finish(self, evaluate):
        """Turns what was kept into log weights and draws by `evaluate`, and writes the answer."""
        self.tell(**dict(zip(('log_w', 'draws'), map(np.stack, zip(*map(evaluate, self.answer['draws']))))))
        np.savez(sys.argv[2], **self.answer)
