"""Runs examples/toys as a user would: short fits of every family, the shape of its JSON, densities that integrate to 1,
thread counts that must not matter, and every kind of bad input, each of which must give one clear line and a non-zero
exit.
Usage: toys.py <toys> [thin: fewer and shorter fits]"""
import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

toys = [*os.environ.get('NFLOW_EMULATOR', '').split(), os.path.abspath(sys.argv[1])]
thin = sys.argv[2:] == ['thin']
families = ['nice', 'realnvp', 'maf', 'nsf-coupling', 'nsf-autoregressive', 'planar', 'residual', 'ffjord',
            'flow-matching']


def run(*args):
    return subprocess.run([*toys, *map(str, args)], capture_output=True, text=True, timeout=250)


def results(folder, *args):
    out = os.path.join(folder, 'result.json')
    r = run(*args, '--json', out)
    assert r.returncode == 0 and r.stderr == '', f'{args}: exit {r.returncode}\n{r.stdout}{r.stderr}'
    with open(out, encoding='utf-8') as f:
        whole = json.load(f)
    assert list(whole) == ['results'], whole
    for row in whole['results']:
        assert set(row) == {'data', 'flow', 'seed', 'log_likelihood', 'log_likelihood_se', 'entropy', 'kl', 'kl_se',
                            'integral', 'parameters', 'seconds', 'cpu_seconds'}, row
        assert abs(row['integral'] - 1) < 1e-3, row
        assert row['kl'] > -4 * row['kl_se'] and row['kl_se'] > 0, row
        # the data's own log-likelihood of the test rows, apart from -entropy by chance alone
        assert abs(row['log_likelihood'] + row['kl'] + row['entropy']) < 5 * row['log_likelihood_se'] + 0.02, row
    return whole['results'], r.stdout


def fails(message, *args):
    r = run(*args)
    assert r.returncode > 0, f'{args}: exit {r.returncode}'
    assert r.stderr.count('\n') == 1 and r.stderr.startswith('toys: '), f'{args}: {r.stderr}'
    assert re.search(message, r.stderr), f'{args}: "{message}" is not in {r.stderr}'


with tempfile.TemporaryDirectory() as tmp:
    # every family: a row for each seed, in that order
    quick = ['--test-rows', 500, '--batch', 50, '--rate', 0.0005, '--steps', 4 if thin else 20]
    once = [] if thin else ['--seeds', 2]
    rows, text = results(tmp, *quick, *once, '--data', 'checkerboard', '--seed', 7)
    seeds = (7,) if thin else (7, 8)
    assert [(r['data'], r['flow'], r['seed']) for r in rows] == \
        [('checkerboard', f, s) for f in families for s in seeds], rows
    assert text.count('\n') == 2 + len(rows), text

    # the same again, for any number of threads
    for flow in ('planar',) if thin else ('nsf-coupling', 'flow-matching'):
        runs = [results(tmp, *quick, '--data', 'pinwheel', '--flow', flow, '--threads', t)[0] for t in (1, 1, 3)]
        for rows in runs:
            assert rows[0].pop('seconds') >= 0 and rows[0].pop('cpu_seconds') >= 0
        assert all(rows == runs[0] for rows in runs), runs

    # training works, on every data set: the best normal misses 0.9 nat of eight Gaussians
    if not thin:
        rows, _ = results(tmp, '--flow', 'nsf-autoregressive', '--steps', 400, '--batch', 200, '--test-rows', 2000)
        assert [r['data'] for r in rows] == ['eight-gaussians', 'moons', 'two-spirals', 'rings', 'checkerboard',
                                             'pinwheel'], rows
        assert all(r['kl'] < 0.7 for r in rows) and rows[0]['kl'] < 0.15, rows
        assert math.isclose(rows[4]['entropy'], math.log(32), abs_tol=1e-5), rows

    # rows to compare with others': the same that a fit uses, pairs of floats
    r = run('--save-data', tmp, '--data', 'rings', '--steps', 3, '--batch', 40, '--test-rows', 150)
    assert r.returncode == 0 and r.stdout == '', r
    for what, n in ('train', 120), ('test', 150):
        with open(os.path.join(tmp, f'rings-{what}.f32'), 'rb') as f:
            numbers = [x for x, in struct.iter_unpack('f', f.read())]
        assert len(numbers) == 2 * n, what
        radii = [math.hypot(*numbers[i:i + 2]) for i in range(0, 2 * n, 2)]
        assert all(min(abs(radius - 0.75 * k) for k in (1, 2, 3, 4)) < 0.375 for radius in radii)

    if shutil.which('gnuplot'):
        png = os.path.join(tmp, 'toys.png')
        results(tmp, '--flow', 'planar', '--steps', 10, '--test-rows', 300, '--data', 'moons', '--plot', png)
        with open(png, 'rb') as f:
            head = f.read(24)
        assert head[:4] == b'\x89PNG' and struct.unpack('>2I', head[16:]) == (264, 132), head

    r = run('--help')
    assert r.returncode == 0 and all(f in r.stdout for f in families), r.stdout
    fails("--data must be one of eight-gaussians.*not 'moon'", '--data', 'moon')
    fails("--flow must be one of nice.*not 'iaf'", '--flow', 'iaf')
    fails("--steps must be .*not '1e3'", '--steps', '1e3')
    fails("--batch must be .*not '1000000'", '--batch', 1000000)
    fails("--rate must be .*not 'nan'", '--rate', 'nan')
    fails("--seeds must be .*not '0'", '--seeds', 0)
    fails("--seed must be .*not '-1'", '--seed', -1)
    fails("--test-rows must be .*not '10'", '--test-rows', 10)
    fails("--threads must be .*not 'two'", '--threads', 'two')
    fails('--json needs a value', '--json')
    fails("unknown option '--layers'", '--layers', 3)
    for option in '--json', '--plot':
        fails('cannot write .*No such file or directory', option, os.path.join(tmp, 'nowhere', 'x'))
        fails('cannot write .*[Dd]irectory', option, tmp)
    fails('cannot write .*No such file or directory', '--save-data', os.path.join(tmp, 'nowhere'), '--steps', 1)
print('toys: all checks passed')
