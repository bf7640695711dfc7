"""Runs examples/inverse_problem as a user would: the mixture finds the three answers that a normal cannot, for any number
of threads, and bad input gives one clear line.
Usage: inverse_problem.py <inverse_problem> [thin]"""
import os
import re
import subprocess
import sys

program = [*os.environ.get('NFLOW_EMULATOR', '').split(), os.path.abspath(sys.argv[1])]
thin = 'thin' in sys.argv[2:]


def run(*args):
    return subprocess.run([*program, *map(str, args)], capture_output=True, text=True, timeout=250)


results = [run(100 if thin else 3000, threads) for threads in (1, 2)]
for r in results:
    assert r.returncode == 0 and r.stderr == '', r
text = results[0].stdout
assert text == results[1].stdout, results
normal, mixture = (float(x) for x in re.findall(r'mean log q\(y \| x\) = ([-0-9.]+);', text))
bars = [len(x) for x in re.findall(r'  y 0\.\d\d (#*)', text)]  # 20 of each fit: draws of y in [0, 1)
assert len(bars) == 40, text
if not thin:  # the exact conditional density has 1.226; a normal with its mean and variance everywhere 0.578
    assert normal < 0.578 + 0.06 and 1.05 < mixture < 1.226 + 0.06, text
    answers, between = [4, 9, 10, 15], [6, 13]  # about y = 0.21, 0.5, 0.79, and what lies between
    assert min(bars[20 + k] for k in answers) > 12 > 7 > max(bars[20 + k] for k in between), text
    assert min(bars[k] for k in between) > 7, text

for args in (0,), ('--help',), (100, -1), (100, 1, 1):
    r = run(*args)
    assert r.returncode == 2 and r.stderr.startswith('usage: ') and r.stderr.count('\n') == 1, f'{args}: {r}'
print('ok')
