"""Runs examples/anomaly as a user would, on small images of which it is known what finds what; computes areas, standard
errors and the curve again from the scores; and gives it bad input, each of which must give one clear line.
Usage: anomaly.py <anomaly> [thin: a shorter fit]"""
import csv
import math
import os
import random
import shutil
import struct
import sys
import tempfile

import png
from example import Example

anomaly = Example(sys.argv[1])
thin = sys.argv[2:] == ['thin']
random.seed(3)
SIDE = 6


def image(kind):
    """Left half and right half have two grey values, a and b. Kind 0: (a, b) is on a circle; 1: likewise, with a
    chessboard over it; 2: the circle's centre."""
    turn = random.uniform(0, 2 * math.pi)
    r = 0 if kind == 2 else 80
    a, b = 128 + r * math.cos(turn), 128 + r * math.sin(turn)
    return bytes(min(255, max(0, round((a if j < SIDE // 2 else b) + random.gauss(0, 4) +
                                       (12 * (-1) ** (i + j) if kind == 1 else 0))))
                 for i in range(SIDE) for j in range(SIDE))


def write(folder, name, n):
    """A third of each kind; the first two images of kind 2 in the test are as one of kind 0."""
    kinds = [i % 3 for i in range(n)]
    images = [image(k) for k in kinds]
    if name == 't10k':
        images[2] = images[5] = images[0]
    with open(os.path.join(folder, f'{name}-images-idx3-ubyte'), 'wb') as f:
        f.write(struct.pack('>4I', 0x803, n, SIDE, SIDE) + b''.join(images))
    with open(os.path.join(folder, f'{name}-labels-idx1-ubyte'), 'wb') as f:
        f.write(struct.pack('>2I', 0x801, n) + bytes(kinds))


def variance(x):
    m = sum(x) / len(x)
    return sum((v - m) ** 2 for v in x) / (len(x) - 1)


def places(anomalies, ordinary):
    """By definition, pair by pair."""
    def before(a, b):
        return 1 if a < b else 0.5 if a == b else 0
    return ([sum(before(a, b) for b in ordinary) / len(ordinary) for a in anomalies],
            [sum(before(a, b) for a in anomalies) / len(anomalies) for b in ordinary])


def area_of(p):
    return sum(p[0]) / len(p[0]), math.sqrt(variance(p[0]) / len(p[0]) + variance(p[1]) / len(p[1]))


with tempfile.TemporaryDirectory() as folder:
    write(folder, 'train', 1200 if thin else 2400)
    write(folder, 't10k', 450)
    out, scores, picture = (os.path.join(folder, n) for n in ('result.json', 'scores.csv', 'roc.png'))
    quick = ['--data', folder, '--numbers', 3, '--layers', 3, '--width', 32, '--rate', 0.005, '--steps', 200 if thin else 500]
    draws = ['--plot', picture] if shutil.which('gnuplot') else []

    # the centre of the circle is where a normal distribution is densest and where the flow must be empty
    r, _ = anomaly.results(out, *quick, '--unseen', 2, '--scores', scores, '--threads', 1, *draws)
    assert r['anomalies'] == 150 and r['ordinary'] == 300
    assert r['gaussian']['area'] < 0.3 and r['flow']['area'] > 0.9 and r['flow']['found_at_5_percent'] > 0.8, r
    assert r['flow']['log_likelihood'] > r['gaussian']['log_likelihood'] + 0.3, r
    with open(scores, encoding='utf-8') as f:
        rows = list(csv.DictReader(f))
    found = {}
    for name in ('flow', 'gaussian'):
        kinds = [[float(row[name]) for row in rows if int(row['unseen']) == k] for k in (1, 0)]
        assert [len(k) for k in kinds] == [150, 300] and len(set(kinds[0]) & set(kinds[1])) > 0  # equal images, equal scores
        found[name] = places(*kinds)
        area, se = area_of(found[name])
        assert abs(area - r[name]['area']) < 1e-9 and abs(se - r[name]['area_se']) < 1e-9, (name, area, se, r)
        assert abs(sum(kinds[1]) / 300 - r[name]['log_likelihood']) < 1e-9
        assert abs(math.sqrt(variance(kinds[1]) / 300) - r[name]['log_likelihood_se']) < 1e-9
        least = sorted(kinds[1])[15]  # 15 of 300 false alarms
        assert abs(sum(a < least for a in kinds[0]) / 150 - r[name]['found_at_5_percent']) < 0.02
    difference = area_of([[a - b for a, b in zip(x, y)] for x, y in zip(found['flow'], found['gaussian'])])
    assert abs(difference[0] - r['difference']) < 1e-9 and abs(difference[1] - r['difference_se']) < 1e-9
    # a normal distribution of three standardised numbers: its log-likelihood cannot be much below that of independent ones
    assert abs(r['gaussian']['log_likelihood'] + 1.5 * math.log(2 * math.pi * math.e)) < 1.5, r
    if draws:
        with open(picture, 'rb') as f:
            width, height, channels, pixels = png.decode(f.read())
        assert len({pixels[i:i + 3] for i in range(0, len(pixels), channels)}) > 10

    # the chessboard is in no component, but in the distance from them
    r, _ = anomaly.results(out, *quick, '--unseen', 1)
    assert r['gaussian']['area'] > 0.9 and r['flow']['area'] > 0.9, r

    # results do not depend on the number of threads
    short = ['--data', folder, '--unseen', 0, '--numbers', 4, '--width', 16, '--steps', 30, '--rows', 300]
    one, two = (anomaly.results(out, *short, '--threads', t)[0] for t in (1, 2))
    assert one == two

    # bad input
    anomaly.fails(1, '3 classes and 36 pixels, but --unseen is 3', '--data', folder, '--unseen', 3)
    anomaly.fails(1, 'is 2 and --numbers 37', '--data', folder, '--unseen', 2, '--numbers', 37)
    anomaly.fails(1, 'there is no file or folder', '--data', os.path.join(folder, 'none'))
    anomaly.fails(1, 'set NFLOW_DATA', env={k: v for k, v in os.environ.items() if k != 'NFLOW_DATA'})
    anomaly.fails(2, '--unseen must be', '--unseen', 'x')
    anomaly.fails(1, 'cannot write', '--json', os.path.join(folder, 'no', 'x.json'))
    os.remove(os.path.join(folder, 't10k-labels-idx1-ubyte'))
    anomaly.fails(1, 't10k-labels', '--data', folder, '--unseen', 0)
    assert '--unseen' in anomaly.succeeds('--help')
print('ok')
