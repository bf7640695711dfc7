"""Runs examples/custom_layer as a user would: its layer passes its check, helps the fit, and bad input gives one clear line.
Usage: custom_layer.py <custom_layer>"""
import os
import re
import subprocess
import sys

program = [*os.environ.get('NFLOW_EMULATOR', '').split(), os.path.abspath(sys.argv[1])]


def run(*args):
    return subprocess.run([*program, *map(str, args)], capture_output=True, text=True, timeout=250)


results = [run(1500, threads) for threads in (1, 2)]
for r in results:
    assert r.returncode == 0 and r.stderr == '', r
text = results[0].stdout
assert text == results[1].stdout, results
normal, skewed = (float(x) for x in re.findall(r'KL\(q \|\| p\) = ([-0-9.]+) nats', text))
assert 0 < skewed < 0.5 * normal < 1, text
errors = [float(x) for x in re.findall(r'[0-9.]+e[-+][0-9]+', text)]
assert len(errors) == 10 and max(errors) < 1e-6, text

for args in (0,), ('--help',), (1500, -1), (1500, 1, 1):
    r = run(*args)
    assert r.returncode == 2 and r.stderr.startswith('usage: ') and r.stderr.count('\n') == 1, f'{args}: {r}'
print('ok')
