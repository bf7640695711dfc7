"""Runs examples/flow_vae and plugin_vae as a user would: on small data, then on every kind of bad input, each of which
must give one clear line and a non-zero exit. Usage: flow_vae.py <flow_vae> <plugin_vae>"""
import gzip
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile

from example import Example

environment = {k: v for k, v in os.environ.items() if k != 'NFLOW_DATA'}
vae, plugin = (Example(program, environment) for program in sys.argv[1:3])


def idx(magic, *extents, data=None):
    """An IDX file of grey squares: the mean of a row decides how bright it is."""
    rng = random.Random(5)
    if data is None:
        n = extents[0]
        data = b''.join(bytes([rng.choice((20, 235))]) * (extents[1] * extents[2]) for _ in range(n))
    return struct.pack(f'>{1 + len(extents)}I', magic, *extents) + data


def folder(parent, name, files):
    path = os.path.join(parent, name)
    os.mkdir(path)
    for file, content in files.items():
        with open(os.path.join(path, file), 'wb') as f:
            f.write(content)
    return path


train, test = 'train-images-idx3-ubyte', 't10k-images-idx3-ubyte'
small = ['--hidden', '16,12', '--latent', 3, '--length', 2, '--updates', 120, '--batch', 20, '--importance-samples', 4,
         '--threads', 1]

with tempfile.TemporaryDirectory() as tmp:
    good = folder(tmp, 'good', {train: idx(0x803, 300, 6, 5), test + '.gz': gzip.compress(idx(0x803, 70, 6, 5))})

    # results, the same for any number of threads and again for the same seed
    results = []
    for threads in 1, 1, 3:
        out = os.path.join(tmp, 'result.json')
        text = vae.succeeds(*small, '--data', good, '--threads', threads, '--json', out)
        assert '250 training, 50 validation, 70 test images of 6 x 5, binarisation: static' in text, text
        with open(out) as f:
            results.append(json.load(f))
        for key in 'seconds', 'updates_per_second':
            assert results[-1].pop(key) > 0
    assert results[0] == results[1] == results[2], results
    r = results[0]
    assert (r['posterior'], r['length'], r['updates'], r['binarisation']) == ('planar', 2, 120, 'static')
    assert r['nll'] < -r['elbo'] and 0 < r['nll'] < 30 and r['kl'] > 0, r

    # every posterior and binarisation; pictures and a model file
    for posterior in 'diagonal', 'radial':
        vae.succeeds(*small, '--data', good, '--posterior', posterior, '--updates', 3)
    for how in 'dynamic', 'threshold':
        assert f'binarisation: {how}' in vae.succeeds(*small, '--data', good, '--binarise', how, '--updates', 3)
    vae.succeeds(*small, '--data', good, '--length', 0, '--updates', 3)
    vae.succeeds(*small, '--data', good, '--updates', 5, '--anneal', 3, '--warm-up', 0.5, '--save',
             os.path.join(tmp, 'model.safetensors'))
    assert os.path.getsize(os.path.join(tmp, 'model.safetensors')) > 1000
    try:
        subprocess.run(['gnuplot', '--version'], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pass
    else:
        vae.succeeds(*small, '--data', good, '--updates', 5, '--plot', os.path.join(tmp, 'picture'))
        for name in 'curves', 'reconstructions', 'samples':
            with open(os.path.join(tmp, f'picture-{name}.png'), 'rb') as f:
                assert f.read(4) == b'\x89PNG'

    # layers whose parameters the encoder, 12 wide, gives for each image: as many features as the layers have parameters
    def amortised(posterior, *args):
        rows = [vae.results(os.path.join(tmp, 'own.json'), *small, '--data', good, '--posterior', posterior, '--updates', 60,
                        '--threads', t, *args) for t in (1, 3)]
        for row, text in rows:
            for key in 'seconds', 'updates_per_second':
                assert row.pop(key) > 0
            assert (row['posterior'], row['context']) == (posterior, 0), row
            assert row['nll'] < -row['elbo'] and 0 < row['nll'] < 30 and row['kl'] > 0, row
        assert rows[0][0] == rows[1][0], rows
        return int(re.search(r'(\d+) parameters', rows[0][1]).group(1))

    without = amortised('diagonal')
    triangles = 3 * 2 + 3 * 3
    for posterior, args, more in (('householder', [], 2 * 3), ('householder', ['--length', 5], 5 * 3),
                                  ('sylvester-orthogonal', [], 2 * (3 * 3 + triangles)),
                                  ('sylvester-orthogonal', ['--columns', 2], 2 * (2 * 3 + 2 + 3 * 2)),
                                  ('sylvester-householder', [], 2 * (3 * 3 + triangles)),
                                  ('sylvester-householder', ['--columns', 1], 2 * (3 + triangles)),
                                  ('sylvester-triangular', ['--length', 3], 3 * triangles)):
        assert amortised(posterior, *args) == without + 13 * more, (posterior, args)

    # flows with nets of their own, which read a context: shared parameters grow with the context, not the encoder alone
    sizes = {}
    for posterior in 'nice', 'realnvp', 'iaf', 'nsf-coupling', 'residual', 'ffjord':
        for context in 0, 5:
            own = [*small, '--data', good, '--posterior', posterior, '--flow-hidden', '7,6', '--context', context]
            rows = [vae.results(os.path.join(tmp, 'own.json'), *own, '--updates', 60, '--threads', t) for t in (1, 3)]
            for row, text in rows:
                for key in 'seconds', 'updates_per_second':
                    assert row.pop(key) > 0
                assert (row['posterior'], row['length'], row['context']) == (posterior, 2, context), row
                assert row['nll'] < -row['elbo'] and 0 < row['nll'] < 30 and row['kl'] > 0, row
                assert f'{posterior} posterior, K = 2, 3 latent dimensions' in text, text
            assert rows[0][0] == rows[1][0], rows
            sizes[posterior, context] = int(re.search(r'(\d+) parameters', text).group(1))
    # the encoder's last layer is 12 wide; h enters the first layer of both nets: 7 units each. (Masked nets have other
    # masks with context.)
    encoder = 5 * (12 + 1)
    assert sizes['iaf', 5] > sizes['iaf', 0] + encoder, sizes
    # every layer of ffjord's net reads h twice, for its gate and its bias
    assert sizes['ffjord', 5] - sizes['ffjord', 0] == encoder + 2 * 2 * (7 + 6 + 3) * 5, sizes
    for posterior in 'nice', 'realnvp', 'nsf-coupling', 'residual':
        assert sizes[posterior, 5] - sizes[posterior, 0] == encoder + 2 * 7 * 5, (posterior, sizes)
    row, _ = vae.results(os.path.join(tmp, 'own.json'), *small, '--data', good, '--posterior', 'iaf', '--length', 0,
                     '--updates', 3)
    assert (row['length'], row['context']) == (0, 0), row
    # one width: residual nets; longer than the encoder; saved
    saved = os.path.join(tmp, 'nsf.safetensors')
    row, _ = vae.results(os.path.join(tmp, 'own.json'), *small, '--data', good, '--posterior', 'nsf-coupling',
                     '--flow-hidden', 8, '--length', 5, '--updates', 3, '--save', saved)
    assert os.path.getsize(saved) > 1000
    # loaded, it has the same scores; damaged files and files of other things are refused
    again, text = vae.results(os.path.join(tmp, 'again.json'), *small, '--data', good, '--load', saved)
    assert f'the model in {saved}, 3 latent dimensions' in text and again['posterior'] == 'loaded', (again, text)
    assert all(again[key] == row[key] for key in ('elbo', 'nll', 'kl')), (again, row)
    with open(saved, 'rb') as f:
        model = f.read()
    for name, content in {'cut': model[:-5], 'short': model[:100], 'none': b'', 'text': b'not a model\n' * 40,
                          'length': b'\xff' * 8 + model[8:], 'sizes': model.replace(b'dim_out', b'dim_uot', 1),
                          }.items():
        assert content != model, name
        broken = os.path.join(tmp, f'{name}.safetensors')
        with open(broken, 'wb') as f:
            f.write(content)
        vae.fails(1, r'nf_load|safetensors', *small, '--data', good, '--load', broken)
    vae.fails(1, 'nothing.safetensors', *small, '--data', good, '--load', os.path.join(tmp, 'nothing.safetensors'))
    other = folder(tmp, 'other', {train: idx(0x803, 300, 4, 4), test: idx(0x803, 70, 4, 4)})
    vae.fails(1, 'nf_vae_score: .*16 columns, .*30 features', *small, '--data', other, '--load', saved)

    # packed bits, found through the environment
    rng = random.Random(2)
    rows = {part: rng.randbytes(98 * n) for part, n in (('train', 90), ('valid', 30), ('test', 20))}
    folder(tmp, 'binarized_mnist', {f'binarized_mnist_{p}.bits.gz': gzip.compress(b) for p, b in rows.items()})
    text = vae.succeeds(*small, '--updates', 3, env={**environment, 'NFLOW_DATA': tmp})
    assert '90 training, 30 validation, 20 test images of 28 x 28' in text, text

    # bad options
    vae.fails(2, 'no data')
    vae.fails(2, '--length must be a whole number from 0 to 1000, not .-1', '--data', good, '--length', -1)
    vae.fails(2, '--length must be .*not .-2', '--data', good, '--posterior', 'iaf', '--length', -2)
    vae.fails(2, '--context must be a whole number from 0', '--data', good, '--posterior', 'iaf', '--context', -1)
    vae.fails(2, '--flow-hidden must be', '--data', good, '--posterior', 'nice', '--flow-hidden', '8,0')
    vae.fails(2, "--posterior must be one of .*ffjord, not 'maf'", '--data', good, '--posterior', 'maf')
    vae.fails(2, '--latent', '--data', good, '--latent', 0)
    vae.fails(1, 'nf_sylvester: `columns` is 4, but `dim` is 3', *small, '--data', good, '--posterior', 'sylvester-orthogonal',
          '--columns', 4)
    vae.fails(2, '--columns must be', '--data', good, '--columns', -1)
    vae.fails(2, '--hidden', '--data', good, '--hidden', '400,x')
    vae.fails(2, '--posterior must be one of diagonal', '--data', good, '--posterior', 'cubic')
    vae.fails(2, '--rate', '--data', good, '--rate', 'nan')
    vae.fails(2, '--updates', '--data', good, '--updates', 0)
    vae.fails(2, '--warm-up must be a number from 0 to 1', '--data', good, '--warm-up', 1.5)
    vae.fails(2, 'unknown option', '--data', good, '--lenght', 3)
    vae.fails(2, '--data needs a value', '--data')
    text = vae.succeeds('--help')
    assert re.search(r'--posterior diagonal\|planar\|.*\|sylvester-triangular\|nice\|.*\|residual', text), text
    assert re.search(r'--context N .*\(64\)', text) and '--flow-hidden N,N' in text, text

    # bad places, noticed before any work
    for option in '--json', '--save', '--plot':
        vae.fails(1, 'cannot write .*nowhere', *small, '--data', good, '--updates', 10**9, option,
              os.path.join(tmp, 'nowhere/x'))
    vae.fails(1, 'no folder', *small, '--data', os.path.join(tmp, 'nothing'))
    vae.fails(1, 'holds neither', *small, '--data', folder(tmp, 'empty', {}))
    vae.fails(1, 'holds no t10k', *small, '--data', folder(tmp, 'half', {train: idx(0x803, 300, 6, 5)}))

    # bad files
    whole = idx(0x803, 300, 6, 5)
    bad = {
        'truncated': whole[:-7],
        'longer': whole + b'x',
        'header': whole[:9],
        'nothing': b'',
        'magic': idx(0x801, 300, 6, 5),
        'noimages': idx(0x803, 0, 6, 5),
        'nopixels': idx(0x803, 300, 0, 5, data=b''),
        'impossible': idx(0x803, 2**32 - 1, 2**32 - 1, 2**32 - 1, data=b'abc'),
        'large': idx(0x803, 2**31, 28, 28, data=b'abc'),
        'labels': idx(0x803, 300, 6, 5)[:4] + b'garbage',
        'cutgz': gzip.compress(whole)[:-9],
        'few': idx(0x803, 5, 6, 5),
        'shape': idx(0x803, 300, 5, 6),
    }
    for name, content in bad.items():
        where = folder(tmp, name, {train + ('.gz' if name == 'cutgz' else ''): content, test: idx(0x803, 70, 6, 5)})
        vae.fails(1, re.escape(name), *small, '--data', where)
    where = folder(tmp, 'bits', {f'binarized_mnist_{p}.bits': b[:-1] for p, b in rows.items()})
    vae.fails(1, 'binarized_mnist_train.bits', *small, '--data', where)

plugin.fails(2, '--steps must be', '--steps', 0)
# the plug-in's example: a right gradient, and an ELBO that rises
with tempfile.TemporaryDirectory() as tmp:
    found = []
    for threads in 1, 2:
        out = os.path.join(tmp, f'{threads}.json')
        text = plugin.succeeds('--check', '--steps', 800, '--threads', threads, '--json', out)
        elbo = [float(x) for x in re.findall(r'elbo +(-?[0-9.]+)', text)]
        assert len(elbo) == 4 and elbo[-1] > elbo[0] + 5, text
        with open(out, encoding='utf-8') as f:
            found.append(json.load(f))
        assert abs(found[-1]['elbo'] - elbo[-1]) < 1e-3 and found[-1]['gradient_error'] < 1e-6, found
    assert found[0] == found[1], found
print('ok')
