"""Runs examples/energies as a user would: a short fit of everything, the shape of its JSON, thread counts that must not
matter, and every kind of bad input, each of which must give one clear line and a non-zero exit.
Usage: energies.py <energies> [thin: without the fits of a thousand steps]"""
import math
import os
import shutil
import struct
import sys
import tempfile

from example import Example

energies = Example(sys.argv[1])
thin = sys.argv[2:] == ['thin']


def results(folder, *args):
    out = os.path.join(folder, 'result.json')
    whole, text = energies.results(out, *args)
    assert list(whole) == ['results'], whole
    return whole['results'], text


quick = ['--steps', 60, '--starts', 2, '--draws', 3000]
with tempfile.TemporaryDirectory() as tmp:
    # everything at once: a row for each energy, length and seed, in that order
    rows, text = results(tmp, *quick, '--length', '1,3', '--seeds', 2, '--seed', 7)
    assert [(r['energy'], r['length'], r['seed']) for r in rows] == \
        [(e, k, s) for e in ('U1', 'U2', 'U3', 'U4') for k in (1, 3) for s in (7, 8)], rows
    assert text.count('median') == 8, text
    exact = {'U1': 1.877502, 'U2': 2.112941, 'U3': 2.672557, 'U4': 2.741550}
    for r in rows:
        assert set(r) >= {'energy', 'flow', 'length', 'seed', 'kl', 'elbo', 'log_z', 'ess', 'seconds'}, r
        assert r['flow'] == 'planar' and r['seconds'] > 0, r
        assert abs(r['kl'] + r['elbo'] - exact[r['energy']]) < 1e-5, r
        assert r['kl'] > -4 * r['kl_se'] and r['kl_se'] > 0, r
        assert r['elbo'] <= r['log_z'] and 0 < r['ess'] <= 3000, r  # Jensen's inequality, on the very same draws

    # the same again, for any number of threads
    runs = [results(tmp, *quick, '--energy', 'U3', '--length', 5, '--threads', t)[0] for t in (1, 1, 2, 3)]
    for rows in runs:
        assert rows[0].pop('seconds') > 0
    assert all(rows == runs[0] for rows in runs), runs

    # other layers, no layers, the paper's schedule
    rows, _ = results(tmp, *quick, '--energy', 'U4', '--flow', 'radial', '--length', '0,2')
    assert [r['flow'] for r in rows] == ['radial', 'radial'] and all(math.isfinite(r['kl']) for r in rows), rows
    rows, _ = results(tmp, '--anneal', '--steps', 60, '--draws', 3000, '--energy', 'U1', '--length', 2)
    assert math.isfinite(rows[0]['kl'])

    # recipes: each with its own lengths, or those asked for
    for flow, usual in (('nice', [2, 8, 32]), ('realnvp', [8]), ('iaf', [8]), ('maf', [8]), ('nsf-coupling', [8]),
                        ('nsf-autoregressive', [4]), ('ffjord', [1]), ('residual', [8])):
        tiny = ['--hidden', '6', '--energy', 'U2', '--flow', flow, '--steps', 12, '--starts', 2, '--draws', 500]
        rows, _ = results(tmp, *tiny)
        assert [(r['flow'], r['length']) for r in rows] == [(flow, k) for k in usual], rows
        assert all(math.isfinite(r['kl']) for r in rows), rows
        rows, _ = results(tmp, *tiny, '--length', '0,1')
        assert [(r['flow'], r['length']) for r in rows] == [(flow, 0), (flow, 1)], rows
        assert rows[0]['kl'] != rows[1]['kl'], rows
    assert results(tmp, *tiny)[0][0]['kl'] != results(tmp, *tiny, '--hidden', '6,5')[0][0]['kl']

    # NICE is drawn beside planar flows, as in the paper, but fitted alone where nothing is drawn
    nice = [*quick, '--flow', 'nice', '--energy', 'U3', '--length', '1,2', '--seeds', 2]
    alone, text = results(tmp, *nice)
    assert [r['flow'] for r in alone] == ['nice'] * 4 and text.count('median') == 2, text
    if shutil.which('gnuplot'):
        png = os.path.join(tmp, 'nice.png')
        rows, text = results(tmp, *nice, '--plot', png)
        assert [(r['flow'], r['length'], r['seed']) for r in rows] == \
            [('planar', k, 1) for k in (1, 2)] + [('nice', k, s) for k in (1, 2) for s in (1, 2)], rows
        assert [r['kl'] for r in rows[2:]] == [r['kl'] for r in alone], (rows, alone)
        with open(png, 'rb') as f:
            head = f.read(24)
        assert head[:4] == b'\x89PNG' and struct.unpack('>2I', head[16:]) == (1000, 200), head

    # without the wall there is no log Z to compare with: null, not a number that means nothing
    rows, _ = results(tmp, *quick, '--energy', 'U2', '--length', 2, '--no-wall')
    assert rows[0]['kl'] is None and math.isfinite(rows[0]['elbo']), rows

    # training works: a few thousand steps find most of U2, which the best normal misses by 1.98 nats, and of splines
    # most of U4 (of which one fit in forty or so is not there yet after 1200)
    if not thin:
        rows, _ = results(tmp, '--energy', 'U2', '--length', '2,8', '--steps', 4000, '--starts', 4, '--draws', 20000)
        assert rows[0]['kl'] < 0.6 and rows[1]['kl'] < 0.15, rows
        rows, _ = results(tmp, '--energy', 'U4', '--flow', 'nsf-autoregressive', '--steps', 2000, '--draws', 20000)
        assert rows[0]['kl'] < 0.1, rows

    energies.fails(2, "--energy must be one of U1.*not 'U5'", '--energy', 'U5')
    energies.fails(2, "--flow must be one of planar.*not 'spline'", '--flow', 'spline')
    energies.fails(2, "--flow must be one of .*residual, not 'made'", '--flow', 'made')
    energies.fails(2, "--hidden must be .*not '8,0'", '--flow', 'iaf', '--hidden', '8,0')
    energies.fails(2, "--length must be .*not '-3'", '--length', -3)
    energies.fails(2, "--length must be .*not '2,x'", '--length', '2,x')
    energies.fails(2, "--length must be .*not '100000'", '--length', 100000)
    energies.fails(2, "--seeds must be .*not '0'", '--seeds', 0)
    energies.fails(2, "--steps must be .*not '1e3'", '--steps', '1e3')
    energies.fails(2, "--rate must be .*not 'nan'", '--rate', 'nan')
    energies.fails(2, "--draws must be .*not '-1'", '--draws', -1)
    energies.fails(2, "--threads must be .*not 'two'", '--threads', 'two')
    energies.fails(2, "--seed must be .*not '-1'", '--seed', -1)
    energies.fails(2, '--json needs a value', '--json')
    energies.fails(2, "unknown option '--enrgy'", '--enrgy', 'U1')
    for option in '--json', '--plot':
        energies.fails(1, 'cannot write .*No such file or directory', option, os.path.join(tmp, 'nowhere', 'x'))
        energies.fails(1, 'cannot write .*[Dd]irectory', option, tmp)
print('energies: all checks passed')
