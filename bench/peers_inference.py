"""Variational inference beside NumPyro and Pyro: seconds to the same ELBO, and to draws that are as good as reference draws.

    for m in eight_schools_noncentered eight_schools_centered logistic_regression; do
        tests/stan/build $m models/$m.so -O3
    done
    ~/nflow-peers/bin/python bench/peers_inference.py --libraries models --json inference.json

Every posterior is a real Stan model for us, opened through BridgeStan's interface, and the same model written in NumPyro and in
Pyro; all normalising constants are the same, which log densities at draws of ours show (log p differs). Every fit is a
process of its own on one processor. Ours has default options (`nflow vi`), and its time is that of the whole process, until
the draws are written. A peer keeps its parameters at --checkpoints of the fit; afterwards, while its clock stands still, each
of these is judged by --draws fresh draws: ELBO, k-hat, and the gate of examples/bayes/gate.h against reference draws
(posteriordb's; for the regression NumPyro's NUTS). Columns:

    import, compile, steps   processor seconds of the parts of a fit; ours: starting, -, fitting (without judging: "in the fit")
    all                      processor seconds of the whole fit
    to ELBO                  those until the first checkpoint from which on the ELBO is at least the level: the weaker one of
                             its own and our final ELBO, less --gap
    to gate                  those until the first checkpoint that passes the gate
    x ELBO, x gate           these divided by ours of the same seed, all of the process; "run": without import and compile,
                             ours without start

Processor seconds of a fit on one processor are what a clock shows on a machine that has nothing else to do. --json has the
clock's, too. --isa takes an instruction set for all, as bench/compare does.
"""
import argparse
import csv
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from peers_posteriors import POSTERIORS, columns, data_of, sites, values_of
from pyro.ops.stats import fit_generalized_pareto

# program, guide, steps, particles, rate
PEERS = {
    'numpyro-normal': ('peers_numpyro.py', 'normal', 2000, 100, 0.02),
    'numpyro-iaf': ('peers_numpyro.py', 'iaf', 2000, 100, 0.01),
    'numpyro-bnaf': ('peers_numpyro.py', 'bnaf', 2000, 100, 0.01),
    'pyro-affine': ('peers_pyro.py', 'affine', 2000, 100, 0.01),
    'pyro-block': ('peers_pyro.py', 'block', 2000, 100, 0.01),
}
ISA = {'avx2': {'NFLOW_ISA': 'avx2', 'ATEN_CPU_CAPABILITY': 'avx2', 'ONEDNN_MAX_CPU_ISA': 'AVX2',
                'MKL_ENABLE_INSTRUCTIONS': 'AVX2', 'OPENBLAS_CORETYPE': 'Haswell', 'XLA_FLAGS': '--xla_cpu_max_isa=AVX2'}}

a = argparse.ArgumentParser(description='Seconds to the same ELBO beside NumPyro and Pyro.')
a.add_argument('posterior', nargs='*', help=f'of {", ".join(POSTERIORS)}; default: all')
a.add_argument('--tool', default='build/tools/nflow', help='the command line tool')
a.add_argument('--libraries', default='models', help='the folder of POSTERIOR.so')
a.add_argument('--data', default=os.environ.get('NFLOW_DATA'), help='the folder of posteriordb and credit (NFLOW_DATA)')
a.add_argument('--peers', nargs='+', choices=list(PEERS), default=list(PEERS))
a.add_argument('--seeds', type=int, default=1)
a.add_argument('--checkpoints', type=int, default=40)
a.add_argument('--draws', type=int, default=10000, help='of a checkpoint')
a.add_argument('--gap', type=float, default=0.02, help='in nats, below the weaker ELBO')
a.add_argument('--isa', choices=list(ISA), help='default: the best of the processor')
a.add_argument('--json', help='write the results there')
o = a.parse_args()
here = os.path.dirname(os.path.abspath(__file__))


def fail(why):
    sys.exit(f'peers_inference.py: {why}')


def run(command):
    """Wall and processor seconds of a program on one processor."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    one = sorted(os.sched_getaffinity(0))[-1:]
    done = subprocess.run(command, env=os.environ | ISA.get(o.isa, {}), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          preexec_fn=lambda: os.sched_setaffinity(0, one), text=True, check=False)
    if done.returncode:
        fail(f'{command[0]} {os.path.basename(command[1])}: {(done.stderr.strip().splitlines() or ["no message"])[-1]}')
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.time() - begin, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def k_hat(log_w):
    """Pareto's k of the largest ratios (Vehtari et al. 2024)."""
    w = np.sort(np.exp(log_w - log_w.max()))
    tail = int(min(0.2 * len(w), 3 * math.sqrt(len(w))))
    return fit_generalized_pareto(torch.from_numpy(w[-tail:] - w[-tail - 1]))[0]


def gate(x, reference):
    """Median and largest errors of means and deviations, in deviations, and whether they pass."""
    sd = reference.std(axis=0)
    mean, spread = abs(x.mean(axis=0) - reference.mean(axis=0)) / sd, abs(x.std(axis=0) / sd - 1)
    errors = [float(f(e)) for e in (mean, spread) for f in (np.median, np.max)]
    return errors, all(e <= bound for e, bound in zip(errors, (0.05, 0.15, 0.05, 0.15)))


def ours(name, data, reference, seed, folder):
    paths = {f: os.path.join(folder, f) for f in ('data.json', 'draws.csv', 'report.json')}
    with open(paths['data.json'], 'w', encoding='utf-8') as f:
        json.dump(data, f)
    wall, cpu = run([o.tool, 'vi', os.path.join(o.libraries, name + '.so'), paths['data.json'], '--quiet', '--threads', '1',
                     '--seed', str(seed), '-o', paths['draws.csv'], '--json', paths['report.json']])
    with open(paths['report.json'], encoding='utf-8') as f:
        report = json.load(f)
    with open(paths['draws.csv'], encoding='utf-8') as f:
        rows = csv.reader(line for line in f if not line.startswith('#'))
        head = next(rows)
        table = np.array(list(rows), float)
    column = dict(zip(head, table.T))
    draws = {n: np.stack([column[f'{n}.{i + 1}'] for i in range(size)], axis=1) if size else column[n]
             for n, size, _ in sites(name, data)}
    points = [{n: v[i].tolist() for n, v in draws.items()} for i in range(5)]
    errors, passed = gate(values_of(name, data, draws), reference)
    q = report['quality']
    scale = min(1, cpu / wall)  # the report has the clock's seconds
    return {'program': 'nflow', 'elbo': q['elbo'], 'elbo_se': q['elbo_error'], 'k_hat': q['k_hat'], 'gate': passed,
            'errors': errors, 'family': report['best'], 'gradients': report['gradients'], 'verdict': report['verdict'],
            'wall': wall, 'cpu': cpu, 'fit_wall': report['seconds'], 'run': report['seconds'] * scale,
            'import': cpu - report['seconds'] * scale, 'compile': 0.0, 'to_elbo': cpu, 'to_gate': cpu if passed else None,
            }, points, column['lp__'][:5]


def ask(name, data, seed, program, guide, steps, particles, rate, folder, points=()):
    request, answer = (os.path.join(folder, f) for f in ('request.json', 'answer.npz'))
    with open(request, 'w', encoding='utf-8') as f:
        json.dump({'posterior': name, 'data': data, 'guide': guide, 'seed': seed, 'steps': steps, 'particles': particles,
                   'rate': rate, 'checkpoints': o.checkpoints, 'draws': o.draws, 'points': points,
                   'began': time.time()}, f)
    run([sys.executable, os.path.join(here, program), request, answer])
    with np.load(answer) as told:
        return dict(told)


def first(good, seconds):
    """The seconds of the first True after which all are; None: there is none."""
    bad = np.flatnonzero(~good)
    at = bad[-1] + 1 if len(bad) else 0
    return float(seconds[at]) if at < len(good) else None


def peer(name, data, reference, seed, which, folder, own, points, log_p):
    program, guide, steps, particles, rate = PEERS[which]
    told = ask(name, data, seed, program, guide, steps, particles, rate, folder, points)
    elbo = told['log_w'].mean(axis=1)
    judged = [gate(x, reference) for x in told['draws']]
    passes = np.array([p for _, p in judged])
    level = min(elbo[-1], own['elbo']) - o.gap
    cpu, at = told['cpu'], told['at']
    before = float(told['import'] + told['compile'])
    return {'program': which, 'guide': guide, 'steps': steps, 'particles': particles, 'rate': rate, 'elbo': float(elbo[-1]),
            'elbo_se': float(told['log_w'][-1].std() / math.sqrt(o.draws)), 'k_hat': k_hat(told['log_w'][-1]),
            'gate': bool(passes[-1]), 'errors': judged[-1][0], 'stopped': int(told.get('stopped', -1)),
            'wall': float(at[-1]), 'cpu': float(cpu[-1]), 'import': float(told['import']),
            'compile': float(told['compile']), 'run': float(cpu[-1]) - before, 'level': float(level),
            'to_elbo': first(elbo >= level, cpu), 'to_gate': float(cpu[np.argmax(passes)]) if passes.any() else None,
            'before': before, 'log_p_differs': float(abs(told['log_p'] - log_p).max()),
            'curve': [[float(v) for v in row] for row in zip(at, cpu, elbo)]}


def ratio(r, own, key):
    """Of all of the process, and of the run."""
    if r[key] is None or own[key] is None:
        return '-', '-'
    return f'{r[key] / own[key]:.1f}', f'{(r[key] - r["before"]) / own["run"]:.1f}'


def line(seed, r, own):
    seconds = lambda v: '-' if v is None else f'{v:.2f}'
    print(f'{seed:4} {r["program"]:15} {r["elbo"]:9.3f} +- {r["elbo_se"]:.3f} {r["k_hat"]:5.2f} '
          f'{"pass" if r["gate"] else "FAIL"} {r["errors"][0]:.3f} {r["errors"][1]:.3f} {r["errors"][2]:.3f} '
          f'{r["errors"][3]:.3f} {r["import"]:7.2f} {r["compile"]:7.2f} {r["run"]:7.2f} {r["cpu"]:7.2f} '
          f'{seconds(r["to_elbo"]):>7} {seconds(r["to_gate"]):>7}', end='')
    if r is own:
        print(f'   {r["family"]}', flush=True)
    else:
        print(''.join(f' {v:>6}' for key in ('to_elbo', 'to_gate') for v in ratio(r, own, key)),
              f' log p differs by {r["log_p_differs"]:.0e}', '' if r['stopped'] < 0 else f' not finite at step {r["stopped"]}',
              flush=True)


def reference_draws(name, data, folder):
    if name == 'logistic_regression':
        return ask(name, data, 1, 'peers_numpyro.py', 'nuts', 0, 0, 0, folder)['draws'][0]
    base = os.path.join(o.data, 'posteriordb', 'draws', 'eight_schools-eight_schools_noncentered')
    with open(base + '.names.txt', encoding='utf-8') as f:
        have = [s.strip().replace('[', '.').rstrip(']') for s in f]
    return np.load(base + '.npy').astype(float)[:, [have.index(c) for c in columns(name, data)]]


def main():
    if not o.data:
        fail('NFLOW_DATA is not set, and there is no --data')
    for name in o.posterior:
        if name not in POSTERIORS:
            fail(f'no posterior {name!r}')
    results = []
    for name in o.posterior or POSTERIORS:
        if not os.path.exists(os.path.join(o.libraries, name + '.so')):
            fail(f'there is no {name}.so in {o.libraries} (tests/stan/build {name} {o.libraries}/{name}.so -O3)')
        try:
            data = data_of(name, o.data)
        except OSError as e:
            fail(str(e))
        with tempfile.TemporaryDirectory() as folder:
            reference = reference_draws(name, data, folder)
            print(f'{name}\nseed program              ELBO         k-hat gate mean errors sd errors    import compile   steps     all '
                  'to ELBO to gate x ELBO    run x gate    run', flush=True)
            for seed in range(1, o.seeds + 1):
                own, points, log_p = ours(name, data, reference, seed, folder)
                line(seed, own, own)
                results.append({'posterior': name, 'seed': seed, **own})
                for which in o.peers:
                    r = peer(name, data, reference, seed, which, folder, own, points, log_p)
                    line(seed, r, own)
                    results.append({'posterior': name, 'seed': seed, **r})
                    if o.json:
                        with open(o.json, 'w', encoding='utf-8') as f:
                            json.dump(results, f, indent=1)


main()
