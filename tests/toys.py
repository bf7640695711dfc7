"""Runs examples/toys as a user would: short fits of every family, the shape of its JSON, densities that integrate to 1,
thread counts that must not matter, and every kind of bad input, each of which must give one clear line and a non-zero
exit.
Usage: toys.py <toys> [thin: fewer and shorter fits]"""
import math
import os
import shutil
import struct
import sys
import tempfile

from example import Example

toys = Example(sys.argv[1])
thin = sys.argv[2:] == ['thin']
families = ['nice', 'realnvp', 'maf', 'nsf-coupling', 'nsf-autoregressive', 'planar', 'residual', 'ffjord',
            'flow-matching']


def results(folder, *args):
    out = os.path.join(folder, 'result.json')
    whole, text = toys.results(out, *args)
    assert list(whole) == ['results'], whole
    for row in whole['results']:
        assert set(row) == {'data', 'flow', 'seed', 'log_likelihood', 'log_likelihood_se', 'entropy', 'kl', 'kl_se',
                            'integral', 'parameters', 'seconds', 'cpu_seconds'}, row
        assert abs(row['integral'] - 1) < 1e-3, row
        assert row['kl'] > -4 * row['kl_se'] and row['kl_se'] > 0, row
        # the data's own log-likelihood of the test rows, apart from -entropy by chance alone
        assert abs(row['log_likelihood'] + row['kl'] + row['entropy']) < 5 * row['log_likelihood_se'] + 0.02, row
    return whole['results'], text


with tempfile.TemporaryDirectory() as tmp:
    # every family, and a row for each seed, in that order
    quick = ['--data', 'checkerboard', '--test-rows', 500, '--batch', 50, '--rate', 0.0005, '--steps', 4 if thin else 20]
    if thin:
        for flow in 'realnvp', 'residual':
            rows, text = results(tmp, *quick, '--flow', flow, '--seed', 7)
            assert [(r['data'], r['flow'], r['seed']) for r in rows] == [('checkerboard', flow, 7)], rows
    else:
        rows, text = results(tmp, *quick, '--seed', 7)
        assert [(r['data'], r['flow'], r['seed']) for r in rows] == [('checkerboard', f, 7) for f in families], rows
        assert text.count('\n') == 2 + len(rows), text
        rows, _ = results(tmp, *quick, '--flow', 'nice', '--seeds', 2, '--seed', 7)
        assert [(r['flow'], r['seed']) for r in rows] == [('nice', 7), ('nice', 8)], rows

    # the same again, for any number of threads
    for flow in ('planar',) if thin else ('nsf-coupling', 'flow-matching'):
        runs = [results(tmp, *quick, '--flow', flow, '--threads', t)[0] for t in (1, 1, 3)]
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
    r = toys.run('--save-data', tmp, '--data', 'rings', '--steps', 3, '--batch', 40, '--test-rows', 150)
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

    r = toys.run('--help')
    assert r.returncode == 0 and all(f in r.stdout for f in families), r.stdout
    toys.fails(2, "--data must be one of eight-gaussians.*not 'moon'", '--data', 'moon')
    toys.fails(2, "--flow must be one of nice.*not 'iaf'", '--flow', 'iaf')
    toys.fails(2, "--steps must be .*not '1e3'", '--steps', '1e3')
    toys.fails(2, "--batch must be .*not '1000000'", '--batch', 1000000)
    toys.fails(2, "--rate must be .*not 'nan'", '--rate', 'nan')
    toys.fails(2, "--seeds must be .*not '0'", '--seeds', 0)
    toys.fails(2, "--seed must be .*not '-1'", '--seed', -1)
    toys.fails(2, "--test-rows must be .*not '10'", '--test-rows', 10)
    toys.fails(2, "--threads must be .*not 'two'", '--threads', 'two')
    toys.fails(2, '--json needs a value', '--json')
    toys.fails(2, "unknown option '--layers'", '--layers', 3)
    for option in '--json', '--plot':
        toys.fails(1, 'cannot write .*No such file or directory', option, os.path.join(tmp, 'nowhere', 'x'))
        toys.fails(1, 'cannot write .*[Dd]irectory', option, tmp)
    toys.fails(1, 'cannot write .*No such file or directory', '--save-data', os.path.join(tmp, 'nowhere'), '--steps', 1)
print('toys: all checks passed')
