"""Runs the programs of docs/format.md on the golden models, and computes a masked net from the matrices that they give.
Usage: format.py <root of the sources>. Needs numpy and safetensors, for the Python that runs it or the one named by NFLOW_PYTHON;
without them it says so and exits with 77, which Meson shows as skipped."""
import contextlib
import glob
import importlib.util
import io
import os
import re
import sys

if os.environ.get('NFLOW_PYTHON') and os.environ['NFLOW_PYTHON'] != sys.executable:
    os.execv(os.environ['NFLOW_PYTHON'], [os.environ['NFLOW_PYTHON'], *sys.argv])
missing = [name for name in ('numpy', 'safetensors') if not importlib.util.find_spec(name)]
if missing:
    print(f'skipped: {sys.executable} has no {" and no ".join(missing)} (NFLOW_PYTHON names another one)')
    sys.exit(77)

import numpy as np  # noqa: E402

root = sys.argv[1]
with open(os.path.join(root, 'docs/format.md'), encoding='utf-8') as f:
    programs = re.findall(r'```python\n(.*?)```', f.read(), re.S)
assert len(programs) == 2, len(programs)


def read(name):
    """What the page's programs leave of a golden model, with what they print in `printed`."""
    names, out = {}, io.StringIO()
    sys.argv = ['read.py', os.path.join(root, 'tests/golden', name + '.safetensors')]
    with contextlib.redirect_stdout(out):
        exec('\n'.join(programs), names)  # pylint: disable=exec-used
    return {**names, 'printed': out.getvalue()}


def inputs(dim, n_ctx):
    """tests/golden/numbers.h"""
    x = [[(i * 37 + j * 61 + 11) % 101 / 32 - 1.5625 for j in range(dim)] for i in range(5)]
    return np.array(x), np.array([[(i * 53 + j * 29 + 7) % 97 / 64 - 0.75 for j in range(n_ctx)] for i in range(5)]).reshape(5, n_ctx)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def evaluate(names):
    """A masked net by dense matrices: (W, b) layer by layer, or with residual blocks."""
    net, tensors = names['architecture'], names['tensors']
    w, b = names['masked_matrices'](net, tensors), [tensors[f'{i}.bias'] for i in range(len(tensors)) if f'{i}.bias' in tensors]
    x, ctx = inputs(net['dim_in'], net['n_ctx'])
    unit = {'relu': lambda a: np.maximum(a, 0), 'sigmoid': sigmoid}[net['fields']['activation']]
    h = np.hstack([x, ctx]) @ w[0].T + b[0]
    if net['fields']['n_blocks'] == 0:
        for i in range(1, len(w)):
            h = unit(h) @ w[i].T + b[i]
        return h
    for i in range(1, len(w) - 1, 2):
        inner = unit(unit(h) @ w[i].T + b[i]) @ w[i + 1].T + b[i + 1]
        h = h + inner * sigmoid(ctx @ tensors[f'{i + 1}.gate.weight'].T + tensors[f'{i + 1}.gate.bias'])
    return h @ w[-1].T + b[-1]


for name in 'masked_net', 'masked_residual_net':
    got, wanted = evaluate(read(name)), np.loadtxt(os.path.join(root, 'tests/golden', name + '.txt'))
    assert got.shape == wanted.shape and np.abs(got - wanted).max() < 1e-13, (name, got - wanted)
names = read('maf')  # as part of a larger model
for step, flow in enumerate(names['architecture']['children']):
    for matrix in names['masked_matrices'](flow['children'][1], names['tensors'], f'{step}.autoregressive.1.masked_net.'):
        assert (matrix != 0).any() and (matrix == 0).any(), matrix
for path in glob.glob(os.path.join(root, 'tests/golden/*.safetensors')):
    names = read(os.path.basename(path)[:-len('.safetensors')])
    assert names['printed'].startswith(names['architecture']['kind']) and names['notes'] == {}, names['printed']
