"""Runs examples/bayes as a user would: the list of models, each model that needs no data and, where NFLOW_DATA is set, each
that does; and every kind of bad input, each of which must give one clear line and a non-zero exit.
Usage: bayes.py <bayes>"""
import json
import math
import os
import sys
import tempfile

from example import Example

bayes = Example(sys.argv[1])
data = os.environ.get('NFLOW_DATA')
without = {k: v for k, v in os.environ.items() if k != 'NFLOW_DATA'}
known = {'funnel': 0, 'banana': 0, 'student_t': 0, 'ill_conditioned': 0, 'ring': None, 'hierarchical': None,
         'conjugate': None}

with tempfile.TemporaryDirectory() as tmp:
    lines = bayes.succeeds('--list').splitlines()[1:]
    names = [line.split()[0] for line in lines]
    assert len(set(names)) == len(names) >= 21 and set(known) < set(names), names
    assert any('theta_trans[8] mu tau theta[8]' in line for line in lines), lines

    for name in names if data else known:
        out = os.path.join(tmp, 'result.json')
        text = bayes.succeeds(name, '--points', 2, '--json', out)
        with open(out, encoding='utf-8') as f:
            r = json.load(f)
        assert set(r) == {'model', 'dim', 'outputs', 'gradient_error', 'rejected', 'gradient_us', 'log_z'}, r
        assert r['model'] == name and name in text and r['rejected'] == 0, r
        assert r['gradient_error'] < 1e-3 and r['gradient_us'] > 0, r
        assert len(set(r['outputs'])) == len(r['outputs']) >= r['dim'] > 0, r
        if name in known:
            assert math.isfinite(r['log_z']) and (known[name] is None or r['log_z'] == known[name]), r

    bayes.fails(2, 'a model is missing')
    bayes.fails(2, "no model 'arc'", 'arc')
    bayes.fails(2, 'unknown argument', 'arK', 'blr')
    bayes.fails(2, '--points must be', 'arK', '--points', 0)
    bayes.fails(1, 'NFLOW_DATA', 'arK', env=without)
    bayes.fails(1, 'NFLOW_DATA', 'german_credit', env=without)
    bayes.fails(1, 'arK.json', 'arK', '--data', tmp)
    bayes.fails(1, 'cannot|open|No such', 'funnel', '--json', os.path.join(tmp, 'no', 'x.json'))
