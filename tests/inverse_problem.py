"""Runs examples/inverse_problem as a user would: the mixture finds the three answers that a normal cannot, for any number
of threads, and bad input gives one clear line.
Usage: inverse_problem.py <inverse_problem> [thin]"""
import json
import os
import re
import subprocess
import sys
import tempfile

program = [*os.environ.get('NFLOW_EMULATOR', '').split(), os.path.abspath(sys.argv[1])]
thin = 'thin' in sys.argv[2:]


def run(*args):
    return subprocess.run([*program, *map(str, args)], capture_output=True, text=True, timeout=250)


def fails(message, *args):
    r = run(*args)
    assert r.returncode > 0 and r.stderr.count('\n') == 1 and r.stderr.startswith('inverse_problem: '), f'{args}: {r}'
    assert re.search(message, r.stderr), f'{args}: "{message}" is not in {r.stderr}'


def bars(text):
    """The lengths of the 20 bars, which are draws of y in [0, 1)."""
    return [len(x) for x in re.findall(r'  y 0\.\d\d (#*)', text)]


with tempfile.TemporaryDirectory() as tmp:
    results = []
    for threads in 1, 2:
        out = os.path.join(tmp, f'{threads}.json')
        r = run('--steps', 100 if thin else 3000, '--threads', threads, '--json', out)
        assert r.returncode == 0 and r.stderr == '', r
        with open(out, encoding='utf-8') as f:
            results.append((json.load(f), r.stdout))
    assert results[0] == results[1], results
    figures, text = results[0]
    both = bars(text)
    assert len(both) == 40, text
    if not thin:  # the exact conditional density has 1.226; a normal with its mean and variance everywhere 0.578
        assert figures['normal'] < 0.578 + 0.06 and 1.05 < figures['mixture'] < 1.226 + 0.06, figures
        answers, between = [4, 9, 10, 15], [6, 13]  # about y = 0.21, 0.5, 0.79, and what lies between
        assert min(both[20 + k] for k in answers) > 12 > 7 > max(both[20 + k] for k in between), text
        assert min(both[k] for k in between) > 7, text

    assert 'usage' in run('--help').stdout.lower()
    fails('--steps must be', '--steps', 0)
    fails('unknown option', '--stpes', 1)
    fails('cannot write .*nowhere', '--json', os.path.join(tmp, 'nowhere/x'))
print('ok')
