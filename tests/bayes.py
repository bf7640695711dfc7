"""Runs examples/bayes as a user would: the list of models, the check of each model, fits with their verdicts, the picture;
and every kind of bad input, each of which must give one clear line and a non-zero exit. Models with data are left out
where NFLOW_DATA is not set.
Usage: bayes.py <bayes> [thin: fewer fits]"""
import math
import os
import shutil
import struct
import sys
import tempfile

from example import Example

bayes = Example(sys.argv[1])
thin = sys.argv[2:] == ['thin']
data = os.environ.get('NFLOW_DATA')
without = {k: v for k, v in os.environ.items() if k != 'NFLOW_DATA'}
known = {'funnel': 0, 'banana': 0, 'student_t': 0, 'ill_conditioned': 0, 'ring': None, 'hierarchical': None,
         'conjugate': None}


def results(folder, *args):
    whole, text = bayes.results(os.path.join(folder, 'result.json'), *args)
    assert list(whole) == ['results'], whole
    return whole['results'], text


with tempfile.TemporaryDirectory() as tmp:
    lines = bayes.succeeds('--list').splitlines()[1:]
    names = [line.split()[0] for line in lines]
    assert len(set(names)) == len(names) >= 21 and set(known) < set(names), names
    assert any('theta_trans[8] mu tau theta[8]' in line for line in lines), lines

    for name in names if data else known:
        [r], text = results(tmp, name, '--check')
        assert set(r) == {'model', 'dim', 'log_z', 'outputs', 'gradient_error', 'rejected', 'gradient_us'}, r
        assert r['model'] == name and name in text and r['rejected'] == 0, r
        assert r['gradient_error'] < 1e-3 and r['gradient_us'] > 0, r
        assert len(set(r['outputs'])) == len(r['outputs']) >= r['dim'] > 0, r
        if name in known:
            assert math.isfinite(r['log_z']) and (known[name] is None or r['log_z'] == known[name]), r

    # the posterior is normal: the evidence is attained, and the ELBO is not above it
    rows, text = results(tmp, 'conjugate', '--seeds', 2, '--seed', 5)
    assert [(r['model'], r['seed'], r['dim']) for r in rows] == [('conjugate', s, 8) for s in (5, 6)], rows
    for r in rows:
        assert abs(r['elbo'] - r['log_z']) < 1e-3 + 3 * r['elbo_se'] and r['verdict'] == 'trust', r
        assert abs(r['log_z_estimate'] - r['log_z']) < 1e-3 and r['family'] == 'full-rank normal', r
        assert r['gradients'] > 1000 and r['cpu_seconds'] > 0 and 'gate' not in r, r
    assert '2 fits' in text and ' 0 ELBOs are above ln Z' in text, text
    text = bayes.succeeds('conjugate')
    assert 'verdict: trust' in text and 'beta.8' in text, text
    [r], text = results(tmp, 'conjugate', '--all-rungs', '--steps', 0.02)
    assert r['rungs'] == 3 and 'larger flow on a t: ELBO' in text, text

    # several models: a line each, in the list's order
    rows, text = results(tmp, 'conjugate', 'banana', '--steps', 0.01)
    assert [r['model'] for r in rows] == [n for n in names if n in ('conjugate', 'banana')], rows
    assert '2 fits' in text and 'beta.8' not in text, text

    # the same again, for any number of threads
    runs = [results(tmp, 'conjugate', '--threads', t)[0] for t in (1, 3)]
    for [r] in runs:
        for key in 'cpu_seconds', 'target_seconds', 'seconds':
            assert r.pop(key) >= 0
    assert runs[0] == runs[1], runs

    # reference draws: the gate
    for name in () if not data else ('blr',) if thin else ('arK', 'blr', 'kidscore_interaction'):
        [r], _ = results(tmp, name)
        assert r['gate'] == 'pass' and r['verdict'] == 'trust' and r['heavy'] == 0, r
        assert 0 < r['mean_error']['median'] <= 0.05 and r['mean_error']['worst'] <= 0.15, r
        assert 0 < r['sd_error']['median'] <= r['sd_error']['worst'] <= 0.15 and r['sd_error']['of'], r
        assert r['elbo'] < r['log_z'] + 3 * r['elbo_se'] and abs(r['log_z_estimate'] - r['log_z']) < 0.05, r

    if shutil.which('gnuplot'):
        picture = os.path.join(tmp, 'pairs.png')
        bayes.succeeds('blr' if data else 'conjugate', '--plot', picture)
        with open(picture, 'rb') as f:
            assert f.read(8) == b'\x89PNG\r\n\x1a\n'

    # pictures of draws over reference draws: regions of the reference in blue, lines of the fit in orange; and a sheet
    if shutil.which('gnuplot') and data:
        folder = os.path.join(tmp, 'pictures')
        os.mkdir(folder)
        named = ['gp_regr', 'garch11'] if thin else []
        text = bayes.succeeds(*named, '--plots', folder, '--steps', 0.02)
        shown = [line.split()[0] for line in text.splitlines() if 'trust' in line or 'weights' in line]
        assert shown == ['garch11', 'gp_regr'] if thin else len(shown) == 9 and 'worst R-hat' in text, text
        assert set(os.listdir(folder)) == {n + '.png' for n in shown + ['posteriors']}, text
        for name in os.listdir(folder):
            with open(os.path.join(folder, name), 'rb') as f:
                whole = f.read()
            assert whole[:8] == b'\x89PNG\r\n\x1a\n' and len(whole) > 10000, (name, len(whole))
            if name == 'posteriors.png':
                columns, rows = (2, 1) if thin else (3, 3)
                assert struct.unpack('>2I', whole[16:24]) == (columns * 272 + 6, rows * 276), whole[:24]

    # families: a table whose entries are log Z less the ELBO; that of the posterior's own family is attained
    rows, text = results(tmp, 'conjugate', '--family', 'all', '--steps', 0.05)
    words = ['ladder', 'mean-field', 'low-rank', 'full-rank', 'planar', 'radial', 'sylvester', 'iaf', 'realnvp', 'nsf',
             'ffjord', 'residual']
    assert [r['fitted'] for r in rows] == words and all(r['seed'] == 1 for r in rows), rows
    lines = text.splitlines()
    places = [i for i, line in enumerate(lines) if line.split()[-len(words):] == words]
    assert [lines[i].split()[0] for i in places] == ['ln', 'CPU'], text
    below = dict(zip(words, lines[places[0] + 1].split()[1:]))
    for r in rows:
        assert abs(float(below[r['fitted']]) - (r['log_z'] - r['elbo'])) < 0.0501, (below, r)
    assert abs(float(below['full-rank'])) < 0.03 < float(below['mean-field']), below
    [r], _ = results(tmp, 'conjugate', '--family', 'planar', '--steps', 0.05, '--rate', 0.5)
    assert r['family'] == 'planar flow on a t' and r['fitted'] == 'planar' and r['rungs'] == 1, r

    bayes.fails(2, 'a model is missing')
    bayes.fails(2, '--family must be one of', 'conjugate', '--family', 'x')
    bayes.fails(2, 'not of a table', 'conjugate', '--family', 'all', '--plot', os.path.join(tmp, 'x.png'))
    bayes.fails(2, 'no picture of funnel', 'funnel', '--plots', tmp)
    bayes.fails(1, 'cannot write', 'garch11', '--plots', os.path.join(tmp, 'no'))
    bayes.fails(1, 'NFLOW_DATA', '--plots', tmp, env=without)
    bayes.fails(2, "no model 'arc'", 'arc')
    bayes.fails(2, "no model 'blx'", 'arK', 'blx')
    bayes.fails(2, 'unknown argument', 'arK', '--seeds', 1, 'blr')
    bayes.fails(2, 'not of a table', 'arK', 'blr', '--plot', os.path.join(tmp, 'x.png'))
    bayes.fails(2, '--seeds must be', 'arK', '--seeds', 0)
    bayes.fails(2, '--table is of all models', 'arK', '--table')
    bayes.fails(2, 'not of a table', '--table', '--plot', os.path.join(tmp, 'x.png'))
    bayes.fails(1, 'NFLOW_DATA', 'arK', env=without)
    bayes.fails(1, 'NFLOW_DATA', 'german_credit', env=without)
    bayes.fails(1, 'NFLOW_DATA', '--table', env=without)
    bayes.fails(1, 'arK.json', 'arK', '--data', tmp)
    bayes.fails(1, 'cannot|open|No such', 'funnel', '--json', os.path.join(tmp, 'no', 'x.json'))
