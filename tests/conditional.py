"""Runs examples/conditional as a user would: a law whose entropy is known, rows in files of several kinds, thread counts
that must not matter, and bad input, which must give one clear line and a non-zero exit.
Usage: conditional.py <conditional> [thin: a shorter fit]"""
import gzip
import lzma
import math
import os
import random
import shutil
import struct
import sys
import tempfile

import png
from example import Example

conditional = Example(sys.argv[1])
thin = sys.argv[2:] == ['thin']


def write_npy(path, rows, code='<f4'):
    header = f"{{'descr': '{code}', 'fortran_order': False, 'shape': ({len(rows)}, {len(rows[0])}), }}"
    header += ' ' * (-(10 + len(header) + 1) % 64) + '\n'
    data = b'\x93NUMPY\x01\x00' + struct.pack('<H', len(header)) + header.encode()
    data += b''.join(struct.pack(f'<{len(r)}{"f" if code == "<f4" else "d"}', *r) for r in rows)
    opened = {'z': gzip.open, 'x': lzma.open}.get({'gz': 'z', 'xz': 'x'}.get(path[-2:]), open)
    with opened(path, 'wb') as f:
        f.write(data)


with tempfile.TemporaryDirectory() as folder:
    out, picture = os.path.join(folder, 'result.json'), os.path.join(folder, 'law.png')
    draws = ['--plot', picture] if shutil.which('gnuplot') and not thin else []
    quick = ['--steps', 150, '--rows', 2000] if thin else ['--steps', 1200]
    r, text = conditional.results(out, *quick, '--threads', 1, *draws)

    # the law's entropy, here by a sum over branches and an integral over the logarithm's argument
    def entropy(c, points=400):
        s, w, total = 0.3 + 0.1 * c, (3 + c) / 10, 0
        for weight, b in ((w, 1), (1 - w, -1)):
            for k in range(points):  # e from -8 to 8 in the branch b
                e = -8 + 16 * (k + 0.5) / points
                other = e + 2 * b * (1 + c / 2) / s
                p = (weight * math.exp(-e * e / 2) + (1 - weight) * math.exp(-other * other / 2)) / s / math.sqrt(2 * math.pi)
                total -= weight * math.exp(-e * e / 2) / math.sqrt(2 * math.pi) * math.log(p) * 16 / points
        return total
    exact = sum(entropy(4 * (i + 0.5) / 100 - 2) for i in range(100)) / 100
    assert abs(r['entropy'] - exact) < 1e-4, (r['entropy'], exact)
    # test rows are of the law
    assert abs(r['exact']['mean'] + exact) < 4 * r['exact']['se'], r
    assert abs(r['flow']['mean'] + r['kl']['mean'] - r['exact']['mean']) < 1e-9
    assert abs(r['flow']['mean'] - r['gain']['mean'] - r['regression']['mean']) < 1e-9
    # no density is better than the law, and the flow is nearly as good
    assert -4 * r['kl']['se'] < r['kl']['mean'] < (1 if thin else 0.05), r['kl']
    # the best normal with a linear mean: y = a + k c + error, whose variance is the same everywhere. E y c and so on
    # are integrals of polynomials and of c sin 2c over (-2, 2).
    n = 4000
    grid = [4 * (i + 0.5) / n - 2 for i in range(n)]
    mean = [math.sin(2 * c) + (2 * (3 + c) / 10 - 1) * (1 + c / 2) for c in grid]
    square = [(0.3 + 0.1 * c) ** 2 + (1 - (2 * (3 + c) / 10 - 1) ** 2) * (1 + c / 2) ** 2 + m * m for c, m in zip(grid, mean)]
    a, cov, var = sum(mean) / n, sum(c * m for c, m in zip(grid, mean)) / n, sum(c * c for c in grid) / n
    residual = sum(square) / n - a * a - cov * cov / var
    best = -0.5 * math.log(2 * math.pi * math.e * residual)
    assert abs(r['regression']['mean'] - best) < 4 * r['regression']['se'] + 0.01, (r['regression'], best)
    for q in r['quantiles']:
        assert abs(q['below']['mean'] - q['quantile']) < (0.2 if thin else 0.015) + 4 * q['below']['se'], q
    assert len(r['quantiles']) == 10
    if draws:
        with open(picture, 'rb') as f:
            width, height, channels, pixels = png.decode(f.read())
        assert (width, height) == (600, 300)
        # upper right of both panels: the branch above is bright, between the branches it is dark
        def bright(panel, c, y):
            x, down = int(300 * panel + 150 * (1 + c / 2)), int(150 * (1 - y / 4))
            block = [pixels[((down + i) * width + x + j) * channels:][:3] for i in (-2, 0, 2) for j in (-2, 0, 2)]
            return sorted(sum(p) for p in block)[4]
        for panel in (0, 1):
            assert bright(panel, 1, math.sin(2) + 1.5) > 150 > 60 > bright(panel, 1, math.sin(2) + 0.2), panel

    # results do not depend on the number of threads
    short = ['--steps', 40, '--rows', 1000]
    one, two = (conditional.results(out, *short, '--threads', t)[0] for t in (1, 2))
    assert one == two

    # files: y is linear in x1, and its width is another one for positive x2, in units far from 1; whatever the packing, the results are the same
    random.seed(5)
    rows = []
    for _ in range(1500):
        x1, x2 = random.gauss(0, 1), random.gauss(0, 1)
        rows.append([100 + x1, 1e-3 * x2, 5000 + 30 * x1 + (6 if x2 > 0 else 0.6) * random.gauss(0, 1)])
    found = []
    for name in ('rows.npy', 'rows.npy.gz', 'rows.npy.xz'):
        path = os.path.join(folder, name)
        write_npy(path, rows)
        r, _ = conditional.results(out, '--data', path, '--steps', 40 if thin else 300, '--threads', 2)
        assert r.pop('data') == path
        found.append(r)
    assert found[0] == found[1] == found[2] and found[0]['test_rows'] == 150 and 'entropy' not in found[0]
    # linear regression sees the mean of the variances; the true density has 0.81 nats more
    best = -0.5 * math.log(2 * math.pi * math.e * (36 + 0.36) / 2)
    assert abs(found[0]['regression']['mean'] - best) < 4 * found[0]['regression']['se'] + 0.02, (found[0]['regression'], best)
    gain = math.log(math.sqrt((36 + 0.36) / 2)) - (math.log(6) + math.log(0.6)) / 2
    assert thin or 0.6 * gain < found[0]['gain']['mean'] < gain + 4 * found[0]['gain']['se'], (found[0]['gain'], gain)
    # another column as y
    write_npy(os.path.join(folder, 'turned.npy'), [[r[2], r[0], r[1]] for r in rows])
    r, _ = conditional.results(out, '--data', os.path.join(folder, 'turned.npy'), '--target', 1, '--steps', 40 if thin else 300)
    assert r['regression'] == found[0]['regression'] and r['flow'] == found[0]['flow']
    if draws:
        conditional.succeeds('--data', os.path.join(folder, 'rows.npy'), '--steps', 20, '--plot', picture)
        with open(picture, 'rb') as f:
            width, height, channels, pixels = png.decode(f.read())
        assert len({pixels[i:i + 3] for i in range(0, len(pixels), channels)}) > 5

    # bad input
    conditional.fails(1, 'cannot read .*missing.npy', '--data', os.path.join(folder, 'missing.npy'))
    write_npy(os.path.join(folder, 'few.npy'), rows[:50])
    conditional.fails(1, '50 rows of 3 columns', '--data', os.path.join(folder, 'few.npy'))
    conditional.fails(1, 'column 4 is to be y', '--data', os.path.join(folder, 'rows.npy'), '--target', 4)
    rows[7][1] = math.nan
    write_npy(os.path.join(folder, 'nan.npy'), rows)
    conditional.fails(1, 'not finite', '--data', os.path.join(folder, 'nan.npy'))
    write_npy(os.path.join(folder, 'same.npy'), [[1, r[2]] for r in rows])
    conditional.fails(1, 'column 1 of 2 .* is constant', '--data', os.path.join(folder, 'same.npy'))
    with open(os.path.join(folder, 'rows.npy.xz'), 'rb') as f:
        packed = f.read()
    with open(os.path.join(folder, 'cut.npy.xz'), 'wb') as f:
        f.write(packed[:-20])
    conditional.fails(1, 'a damaged xz file', '--data', os.path.join(folder, 'cut.npy.xz'))
    conditional.fails(1, 'set NFLOW_DATA', '--data', 'gas', env={k: v for k, v in os.environ.items() if k != 'NFLOW_DATA'})
    conditional.fails(2, '--steps must be', '--steps', 'x')
    conditional.fails(1, 'cannot write', '--json', os.path.join(folder, 'no', 'x.json'))
    assert '--target' in conditional.succeeds('--help')
print('ok')
