"""Runs examples/custom_layer as a user would: its layer passes its check, helps the fit, and bad input gives one clear line.
Usage: custom_layer.py <custom_layer>"""
import json
import os
import re
import subprocess
import sys
import tempfile

program = [*os.environ.get('NFLOW_EMULATOR', '').split(), os.path.abspath(sys.argv[1])]


def run(*args):
    return subprocess.run([*program, *map(str, args)], capture_output=True, text=True, timeout=250)


def fails(message, *args):
    r = run(*args)
    assert r.returncode > 0 and r.stderr.count('\n') == 1 and r.stderr.startswith('custom_layer: '), f'{args}: {r}'
    assert re.search(message, r.stderr), f'{args}: "{message}" is not in {r.stderr}'


with tempfile.TemporaryDirectory() as tmp:
    results = []
    for threads in 1, 2:
        out = os.path.join(tmp, f'{threads}.json')
        r = run('--steps', 1500, '--threads', threads, '--json', out)
        assert r.returncode == 0 and r.stderr == '', r
        with open(out, encoding='utf-8') as f:
            results.append((json.load(f), r.stdout))
    assert results[0] == results[1], results
    kl, text = results[0]
    assert 0 < kl['kl_sinh_arcsinh'] < 0.5 * kl['kl_normal'] < 1, kl
    errors = [float(x) for x in re.findall(r'[0-9.]+e[-+][0-9]+', text)]
    assert len(errors) == 8 and max(errors) < 1e-6, text

    assert 'usage' in run('--help').stdout.lower()
    fails('--steps must be', '--steps', 0)
    fails('unknown option', '--stpes', 1)
    fails('cannot write .*nowhere', '--json', os.path.join(tmp, 'nowhere/x'))
print('ok')
