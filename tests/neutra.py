"""Runs examples/neutra as a user would: the funnel, whose neck HMC enters only in the flow's coordinates, a fit that fails
the gate where HMC in its coordinates passes, the picture; and every kind of bad input, each of which must give one clear
line and a non-zero exit. Models with data are left out where NFLOW_DATA is not set.
Usage: neutra.py <neutra> [thin: fewer draws]"""
import os
import shutil
import sys
import tempfile

from example import Example

neutra = Example(sys.argv[1])
thin = sys.argv[2:] == ['thin']
data = os.environ.get('NFLOW_DATA')
without = {k: v for k, v in os.environ.items() if k != 'NFLOW_DATA'}
few = ['--draws', 400, '--warm-up', 200]


def results(folder, *args):
    whole, text = neutra.results(os.path.join(folder, 'result.json'), *args)
    assert list(whole) == ['results'], whole
    return whole['results'], text


with tempfile.TemporaryDirectory() as tmp:
    # the funnel: through the flow all shares are those of the exact quantiles, without it the neck stays empty. Standard
    # errors know of places where chains have been. Through the larger flow of the third rung they go everywhere often;
    # through that of the second, which the thin test has, they seldom go to the ends, and only the middle is looked at.
    rungs = 2 if thin else 3
    [r], text = results(tmp, '--model', 'funnel', '--rungs', rungs, '--chains', 16, *(few if thin else []))
    assert (r['model'], r['dim']) == ('funnel', 10) and set(r) == {'model', 'dim', 'fit', 'HMC', 'NeuTra'}, r
    assert r['fit']['rungs'] == rungs and r['fit']['family'] == ('flow on a t' if thin else 'larger flow on a t'), r
    through, plain = r['NeuTra'], r['HMC']
    for run in through, plain:
        assert run['gradients'] > 16 * 600 and run['step'] > 0 and 0.5 < run['acceptance'] < 0.95, run
        assert [q['p'] for q in run['quantiles']] == [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99], run
    for q in through['quantiles'][2:5] if thin else through['quantiles']:
        assert abs(q['share'] - q['p']) < (5 if thin else 4) * q['share_se'], q
    assert abs(through['quantiles'][1]['exact'] + 3 * 1.6448536) < 1e-6, through
    assert through['r_hat'] < 1.03 and through['ess_bulk'] > 500 and through['ess_tail'] > 400, through
    assert through['divergent'] < 0.01 * 16 * 400, through
    assert plain['quantiles'][0]['share'] < 0.002 and plain['quantiles'][1]['share'] < 0.03, plain
    assert plain['ess_bulk'] < 0.2 * through['ess_bulk'] and plain['r_hat'] > through['r_hat'], (plain, through)
    assert 'NeuTra' in text and 'R-hat' in text, text

    # the same seed gives the same chains
    runs = [results(tmp, '--model', 'banana', '--seed', s, '--rungs', 1, *few)[0][0] for s in (3, 3, 4)]
    for run in runs:
        for part in run['HMC'], run['NeuTra']:
            assert part.pop('cpu_seconds') >= 0 and 'quantiles' not in part, part
    assert runs[0]['NeuTra'] == runs[1]['NeuTra'] != runs[2]['NeuTra'], runs
    assert runs[0]['HMC'] == runs[1]['HMC'] != runs[2]['HMC'], runs

    # a normal is too narrow for garch11 or too wide, and its coordinates are good enough
    if data:
        [r], text = results(tmp, '--model', 'garch11', '--rungs', 1)
        assert r['fit']['family'] == 'full-rank normal' and r['draws']['gate'] == 'fail', r
        assert set(r['weighted']) == set(r['draws']), r
        assert r['NeuTra']['gate'] == 'pass' and r['NeuTra']['r_hat'] < 1.02 and r['NeuTra']['ess_bulk'] > 500, r
        assert r['NeuTra']['gradients'] < 0.5 * r['HMC']['gradients'], r
        assert text.count('gate: FAILED') == 1, text

    if shutil.which('gnuplot'):
        picture = os.path.join(tmp, 'pairs.png')
        neutra.succeeds('--model', 'banana', '--rungs', 1, *few, '--plot', picture)
        with open(picture, 'rb') as f:
            assert f.read(8) == b'\x89PNG\r\n\x1a\n'

    text = neutra.succeeds('--rungs', 1, *few, env=without)  # without a model: what needs data is left out, and says so
    assert text.splitlines()[-1] == 'garch11 is left out: NFLOW_DATA is not set', text

    neutra.fails(2, "no model 'funel'", '--model', 'funel')
    neutra.fails(2, '--chains must be', '--chains', 1)
    neutra.fails(2, '--draws must be', '--draws', 3)
    neutra.fails(2, '--warm-up must be', '--warm-up', 0)
    neutra.fails(2, '--rungs must be', '--rungs', 9)
    neutra.fails(2, 'unknown', 'funnel')
    neutra.fails(1, 'NFLOW_DATA', '--model', 'garch11', env=without)
    for option in '--json', '--plot':
        neutra.fails(1, 'cannot write .*No such file or directory', option, os.path.join(tmp, 'nowhere', 'x'))
print('neutra: all checks passed')
