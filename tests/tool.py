"""The command line tool, run as a user would run it: good data, bad data, interruptions."""
import csv
import gzip
import json
import math
import os
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

import example
import png

THIN = len(sys.argv) > 2  # sanitizers, or emulated
tool = example.Example(sys.argv[1])
tool.name = 'nflow'
built = os.path.dirname(os.path.abspath(sys.argv[1]))
modules = {name: os.path.join(built, place, name + '.so') for place, name in (
    ('', 'tool_target'), ('../tests/fake_bridgestan', 'fake_threads'), ('../tests/fake_bridgestan', 'fake_1'),
    ('../tests/fake_bridgestan', 'fake_incomplete'))}
peers = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'peers', 'import')
folder = tempfile.mkdtemp()
os.chdir(folder)
random.seed(7)


def test(function):
    """Runs it at once."""
    begin = time.monotonic()
    function()
    print(f'{function.__name__}: {time.monotonic() - begin:.1f} s')
    return function


def write_csv(path, names, rows):
    text = ','.join(names) + '\n' if names else ''
    text += '\n'.join(','.join(repr(v) if isinstance(v, float) else str(v) for v in r) for r in rows) + '\n'
    with (gzip.open if path.endswith('.gz') else open)(path, 'wt') as f:
        f.write(text)


def write_npy(path, rows, code='<f8'):
    header = f"{{'descr': '{code}', 'fortran_order': False, 'shape': ({len(rows)}, {len(rows[0])}), }}"
    header += ' ' * (-(10 + len(header) + 1) % 64) + '\n'
    kind = {'<f8': 'd', '<f4': 'f', '|u1': 'B', '<i4': 'i'}[code]
    data = b''.join(struct.pack(f'<{len(r)}{kind}', *r) for r in rows)
    with (gzip.open if path.endswith('.gz') else open)(path, 'wb') as f:
        f.write(b'\x93NUMPY\x01\x00' + struct.pack('<H', len(header)) + header.encode() + data)


def read_csv(path):
    with open(path, encoding='utf-8') as f:
        lines = f.read().splitlines()
    return lines[0].split(','), [[float(v) for v in line.split(',')] for line in lines[1:]]


def read_npy(path):
    with open(path, 'rb') as f:
        data = f.read()
    length = struct.unpack('<H', data[8:10])[0]
    assert data[:8] == b'\x93NUMPY\x01\x00' and (10 + length) % 64 == 0
    n, dim = map(int, re.search(rb"'shape': \((\d+), (\d+)\)", data[10:10 + length]).groups())
    values = struct.unpack(f'<{n * dim}d', data[10 + length:])
    return [list(values[i * dim:(i + 1) * dim]) for i in range(n)]


def mean(values):
    return sum(values) / len(values)


def deviation(values):
    m = mean(values)
    return math.sqrt(sum((v - m) ** 2 for v in values) / len(values))


def banana(n):
    """c is 7 throughout; a ~ N(3, 2^2); b = (a - 3)^2 / 2 + N(0, 0.5^2), in units far from 1; d is b."""
    rows = []
    for _ in range(n):
        z = random.gauss(0, 1)
        b = 2 * z * z + 0.5 * random.gauss(0, 1)
        rows.append([7, 3 + 2 * z, 1e6 + 100 * b, 1e6 + 100 * b])
    return rows


STEPS = 60 if THIN else 400
data = banana(600)
write_csv('data.csv', 'cabd', data)
QUICK = ['--steps', STEPS, '--threads', '2', '--width', '16', '--layers', '2']


@test
def fit_score_sample():
    r, text = tool.results('fit.json', 'fit', 'data.csv', '-o', 'model', *QUICK)
    assert 'Column c is 7 in all rows: left out' in text and 'Column d equals column b: left out' in text, text
    assert '600 rows: 480 to train, 60 to validate, 60 to test; 2 columns.' in text, text
    # the exact entropy of the law above: normal a, normal b given a
    entropy = math.log(2 * 50) + math.log(2 * math.pi * math.e)
    assert abs(r['test']['mean'] + entropy) < (1.5 if THIN else 0.3) + 4 * r['test']['se'], (r, entropy)
    assert r['steps'] == STEPS and r['stopped'] == 'steps' and len(r['curve']) > 2
    assert not os.path.exists('model.checkpoint') and not os.path.exists('model.curve')
    # scores: by name whatever the order and other columns; the file's mean is the printed one
    write_csv('mixed.csv', 'xba', [[0, row[2], row[1]] for row in data])
    for name, source in (('s1.csv', 'data.csv'), ('s2.csv', 'mixed.csv')):
        s, _ = tool.results('score.json', 'score', 'model', source, '-o', name)
        assert s['rows'] == 600 and s['no_result'] == 0
        header, scores = read_csv(name)
        assert header == ['log_density'] and abs(mean([v[0] for v in scores]) - s['mean']) < 1e-7
    assert read_csv('s1.csv') == read_csv('s2.csv')
    # without names: by place, as in the file of the fit or as in the model
    write_npy('four.npy', data)
    write_npy('two.npy', [row[1:3] for row in data])
    for source in ('four.npy', 'two.npy'):
        tool.succeeds('score', 'model', source, '-o', 's3.npy')
        assert [v[0] for v in read_npy('s3.npy')] == [v[0] for v in read_csv('s1.csv')[1]]
    # draws have the data's units, whatever the number of threads and of draws
    tool.succeeds('sample', 'model', '-n', 5000, '-o', 'x.npy', '--threads', 1)
    tool.succeeds('sample', 'model', '-n', 300, '-o', 'x.csv', '--threads', 2, '--log-density')
    header, draws = read_csv('x.csv')
    assert header == ['a', 'b', 'log_density']
    many = read_npy('x.npy')
    assert [d[:2] for d in draws] == many[:300]
    a = [d[0] for d in many]
    assert abs(mean(a) - 3) < (2 if THIN else 0.5) and abs(deviation(a) - 2) < (1 if THIN else 0.4), (mean(a), deviation(a))
    assert many[4096] != many[0] and len({tuple(d) for d in many}) == 5000
    tool.succeeds('score', 'model', 'x.csv', '-o', 's4.csv')
    assert all(abs(s[0] - d[2]) < 1e-6 for s, d in zip(read_csv('s4.csv')[1], draws))


@test
def formats_and_stdin():
    """csv, tsv, npy of several types, gzip and stdin give the same model, bit for bit."""
    rows = [[i % 7 - 3 + 0.5 * random.randrange(3), random.randrange(-8, 8) + 0.25] for i in range(200)]
    write_csv('f.csv', '', rows)
    write_csv('f.csv.gz', '', rows)
    with open('f.tsv', 'w', encoding='utf-8') as f:
        f.write('\n'.join('\t'.join(map(str, r)) for r in rows))
    write_npy('f.npy', rows)
    write_npy('f4.npy', rows, '<f4')
    write_npy('f.npy.gz', rows)
    models = []
    for k, name in enumerate(('f.csv', 'f.csv.gz', 'f.tsv', 'f.npy', 'f4.npy', 'f.npy.gz')):
        tool.succeeds('fit', name, '-o', f'm{k}', '--steps', 20)
        models.append(open(f'm{k}', 'rb').read())
    r = subprocess.run([*tool.command, 'fit', '-', '-o', 'm9', '--steps', '20'], stdin=open('f.csv', 'rb'),
                       capture_output=True, check=True)
    models.append(open('m9', 'rb').read())
    assert all(m == models[0] for m in models), [m == models[0] for m in models]
    shown = tool.succeeds('sample', 'm0', '-n', 3)
    assert shown.splitlines()[0] == 'x1,x2' and len(shown.splitlines()) == 4
    r = subprocess.run([*tool.command, 'score', 'm0', '-', '--format', 'npy', '-o', '-'], stdin=open('f.npy', 'rb'),
                       capture_output=True, check=True)
    assert r.stdout.startswith(b'log_density\n') and r.stdout.count(b'\n') == 201 and r.stderr.startswith(b'200 rows: ')


@test
def larger_than_memory():
    """A file of 4 times the memory that the process may have."""
    if THIN:
        return
    limit = 64 << 20
    rows = b''.join(struct.pack('<8d', *(random.gauss(0, 1) for _ in range(8))) for _ in range(1000))
    with open('large.npy', 'wb') as f:
        n = (4 * limit // len(rows) + 1) * 1000
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({n}, 8), }}".ljust(117) + '\n'
        f.write(b'\x93NUMPY\x01\x00' + struct.pack('<H', len(header)) + header.encode())
        for _ in range(n // 1000):
            f.write(rows)
    assert os.path.getsize('large.npy') >= 4 * limit
    r = subprocess.run([*tool.command, *'fit large.npy -o large --steps 20 --width 16 --layers 2 --no-baselines'.split(),
                        '--valid-fraction', '0.001', '--test-fraction', '0.001', '--threads', '1'],
                       preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)), capture_output=True,
                       text=True, check=False)
    assert r.returncode == 0, r.stderr
    os.remove('large.npy')


@test
def killed_and_resumed():
    """A fit that is killed at random moments and resumed leaves the same file as one that is left alone."""
    more = ['--steps', 8 * STEPS, '--validate-every', STEPS // 4, '--width', '16', '--layers', '2']
    begin = time.monotonic()
    tool.succeeds('fit', 'data.csv', '-o', 'whole', *more, '--no-baselines')
    took = time.monotonic() - begin
    killed = 0
    for k in range(3 if THIN else 6):
        p = subprocess.Popen([*tool.command, 'fit', 'data.csv', '-o', 'parts', *map(str, more), *(['--resume'] if k else [])],
                             stdout=subprocess.DEVNULL)
        time.sleep(random.uniform(0.1, 0.4) * took)
        p.send_signal(signal.SIGKILL)
        killed += p.wait() == -signal.SIGKILL
    assert killed > 0
    tool.succeeds('fit', 'data.csv', '-o', 'parts', *more, '--resume')
    assert open('parts', 'rb').read() == open('whole', 'rb').read()


@test
def interrupted():
    """Ctrl-C keeps the best so far, and the fit can go on."""
    more = ['--steps', 1000000, '--validate-every', 50, '--width', '16', '--layers', '2']
    p = subprocess.Popen([*tool.command, 'fit', 'data.csv', '-o', 'stopped', *map(str, more)], stdout=subprocess.PIPE, text=True)
    while not os.path.exists('stopped.checkpoint'):
        time.sleep(0.02)
    p.send_signal(signal.SIGINT)
    text = p.communicate()[0]
    assert p.returncode == 0 and 'because it was interrupted' in text, text
    tool.succeeds('score', 'stopped', 'data.csv')
    tool.fails(1, 'stopped.checkpoint is of an earlier run: give --resume', 'fit', 'data.csv', '-o', 'stopped', *more)
    tool.fails(1, 'stopped.curve is of another fit', 'fit', 'data.csv', '-o', 'stopped', *more, '--resume', '--batch', 7)


@test
def contexts():
    """y = 30 (s - 500) + N(0, 1) given s, both in units far from 1: draws follow the context."""
    rows = [[s, 1000 + 30 * (s - 500) + random.gauss(0, 1)] for s in (random.uniform(499, 501) for _ in range(800))]
    write_csv('c.csv', ['s', 'y'], rows)
    tool.succeeds('fit', 'c.csv', '-o', 'cond', '--context-columns', 's', '--steps', 2 * STEPS, '--width', 16, '--no-baselines')
    for s in (499.2, 500.8):
        tool.succeeds('sample', 'cond', '-n', 400, '--context', f's={s}', '-o', 'y.csv')
        header, y = read_csv('y.csv')
        assert header == ['y'] and abs(mean([v[0] for v in y]) - 1000 - 30 * (s - 500)) < (8 if THIN else 1.5), (s, y[:3])
    write_csv('s.csv', ['s'], [[499.5], [500.5]])
    tool.succeeds('sample', 'cond', '--context-data', 's.csv', '-n', 50, '-o', 'y.csv')
    y = [v[0] for v in read_csv('y.csv')[1]]
    assert len(y) == 100 and mean(y[50:]) > mean(y[:50]) + 5
    write_csv('other.csv', ['y', 's'], rows)
    tool.fails(1, 'other.csv: column 1 is y, but in c.csv it is s', 'fit', 'c.csv', '-o', 'm', '--valid', 'other.csv')
    write_csv('twice.csv', ['s', 'y', 't'], [[*r, r[0]] for r in rows])
    text = tool.succeeds('fit', 'twice.csv', '-o', 'm', '--context-columns', 't', '--steps', 2, '--valid', 'twice.csv')
    assert 'Column s equals column t: left out' in text and '1 column given 1' in text, text
    tool.fails(2, 'conditional on 1 columns .s ', 'sample', 'cond')
    tool.fails(2, "it wants NAME=VALUE with a context of the model, such as s", 'sample', 'cond', '--context', 'q=1')
    tool.fails(2, 'the value is no number', 'sample', 'cond', '--context', 's=x')
    tool.fails(1, 'column s has two roles', 'fit', 'c.csv', '-o', 'm', '--context-columns', 's', '--columns', '1-2')


@test
def weights_and_whole_numbers():
    """A row of weight 3 counts as three rows; whole numbers are found, and spread on request."""
    rows = [[random.gauss(0, 1) + 4 * (w > 0), w] for w in (random.choice([0, 1]) for _ in range(400))]
    write_csv('w.csv', ['x', 'w'], rows)
    text = tool.succeeds('fit', 'w.csv', '-o', 'weighted', '--weights', 'w', '--steps', 400, '--test-fraction', 0, '--width', 8,
                  '--layers', 2, '--batch', 40)
    assert ', 0 to test;' in text and 'Log-likelihood of a validation row: ' in text, text
    tool.succeeds('sample', 'weighted', '-n', 1000, '-o', 'x.csv')
    assert mean([v[0] for v in read_csv('x.csv')[1]]) > 3.5
    write_csv('negative.csv', ['x', 'w'], [[i * 0.5, -1] for i in range(20)])
    tool.fails(1, 'the weight w is -1', 'fit', 'negative.csv', '-o', 'm', '--weights', 'w')
    rows = [[random.randrange(6), random.gauss(0, 1)] for _ in range(500)]
    write_csv('k.csv', ['k', 'x'], rows)
    text = tool.succeeds('fit', 'k.csv', '-o', 'm', '--steps', 20, '--width', 16)
    assert '1 column has whole numbers alone (k)' in text, text
    text = tool.succeeds('fit', 'k.csv', '-o', 'm', '--steps', 2 * STEPS, '--dequantise', 'k', '--width', 32, '--no-baselines')
    assert 'whole numbers' not in text
    tool.succeeds('sample', 'm', '-n', 2000, '-o', 'x.csv')
    k = [v[0] for v in read_csv('x.csv')[1]]
    inside = sum(-0.6 < v < 5.6 for v in k) / len(k)
    assert inside > (0.8 if THIN else 0.93), inside


@test
def names():
    """Names may have separators and quotes, and columns are found by them whatever their order."""
    first, second = 'length, "cm"', 'weight'
    with open('names.csv', 'w', newline='', encoding='utf-8') as f:
        out = csv.writer(f)
        out.writerows([[first, second], *[[random.gauss(0, 1), random.gauss(5, 1)] for _ in range(50)]])
    tool.succeeds('fit', 'names.csv', '-o', 'named', '--steps', 10)
    tool.succeeds('sample', 'named', '-n', 5, '-o', 'n.csv')
    with open('n.csv', newline='', encoding='utf-8') as f:
        rows = list(csv.reader(f))
    assert rows[0] == [first, second] and len(rows) == 6 and all(len(r) == 2 for r in rows), rows
    tool.succeeds('score', 'named', 'n.csv')


@test
def few_rows_and_odd_tables():
    def fits(name, *args):
        return tool.succeeds('fit', name, '-o', 'm', '--steps', 20, '--width', 16, *args)
    write_csv('two.csv', '', [[0.5, 1.5], [1.5, 2.25]])
    assert 'too few to hold some back' in fits('two.csv')
    write_csv('one.csv', '', [[0.5, 1.5]])
    tool.fails(1, 'all columns are constant or equal: there is no density to fit', 'fit', 'one.csv', '-o', 'm')
    write_csv('same.csv', '', [[1, 2]] * 30)
    tool.fails(1, 'all columns are constant or equal', 'fit', 'same.csv', '-o', 'm')
    write_csv('column.csv', '', [[random.gauss(0, 1)] for _ in range(100)])
    fits('column.csv')
    write_npy('wide.npy', [[random.gauss(0, 1) for _ in range(300 if THIN else 2000)] for _ in range(20)])
    fits('wide.npy', '--steps', 2)
    write_npy('nan.npy', [[random.gauss(0, 1), math.nan if i == 7 else 0.5 * i] for i in range(20)])
    tool.fails(1, r'nan.npy: row 8, column 2: -?nan is not finite', 'fit', 'nan.npy', '-o', 'm')
    write_csv('gap.csv', ['p', 'q'], [[1, 2], [3, ''], [4, 5]])
    tool.fails(1, r'gap.csv: line 3, column 2 \(q\): the value is missing', 'fit', 'gap.csv', '-o', 'm')
    write_csv('words.csv', ['p', 'q'], [[1, 2], [3, 'x'], [4, 5]])
    tool.fails(1, r"words.csv: line 3, column 2 \(q\): 'x' is no number", 'fit', 'words.csv', '-o', 'm')


@test
def all_families():
    families = re.search(r'--flow (auto\S+)', tool.succeeds('fit', '--help')).group(1).split('|')
    vectors = [f for f in families if f not in ('auto', 'glow', 'realnvp-image')]
    assert len(vectors) == 14
    for name in vectors[::4] if THIN else vectors:
        for dim in (1, 6) if THIN else (1, 2, 6, 21):
            r, text = tool.results('check.json', 'check', '--flow', name, '--dim', dim, '--points', 4, '--width', 24)
            assert r['verdict'] == 'passed' and text.endswith('passed\n'), (name, dim, text)
        tool.succeeds('fit', 'data.csv', '-o', 'm', '--flow', name, '--steps', 4, '--validate-every', 2, '--width', 16, '--no-baselines')
        tool.succeeds('check', 'm', '--points', 4)
        tool.succeeds('fit', 'c.csv', '-o', 'm', '--flow', name, '--steps', 4, '--validate-every', 2, '--width', 16,
                      '--no-baselines', '--context-columns', 's')
        tool.succeeds('sample', 'm', '-n', 2, '--context', 's=500.5')
    for name in ('glow', 'realnvp-image'):
        tool.succeeds('check', '--flow', name, '--image', '1x4x4', '--layers', 2, '--width', 8, '--points', 3)
        write_npy('images.npy', [[random.randrange(256) for _ in range(16)] for _ in range(40)], '|u1')
        tool.succeeds('fit', 'images.npy', '-o', 'm', '--flow', name, '--image', '1x4x4', '--dequantise', 'all', '--steps', 4,
                      '--width', 8, '--layers', 2)
    tool.fails(2, '--flow glow needs --image', 'check', '--flow', 'glow', '--dim', 4)
    tool.fails(1, '16 columns are no images of 1x3x3', 'fit', 'images.npy', '-o', 'm', '--flow', 'glow', '--image', '1x3x3')


@test
def descriptions():
    """A flow that a file describes; what info prints is such a file."""
    with open('flow.json', 'w', encoding='utf-8') as f:
        json.dump({'kind': 'flow', 'type': 'chain', 'children': [
            {'kind': 'flow', 'type': 'planar', 'dim_in': 2, 'dim_out': 2}, {'kind': 'flow', 'type': 'full_affine', 'dim_in': 2, 'dim_out': 2}]}, f)
    tool.succeeds('fit', 'data.csv', '-o', 'described', '--flow-file', 'flow.json', '--steps', 20)
    assert 'planar' in tool.succeeds('info', 'described', '--tree')
    with open('again.json', 'w', encoding='utf-8') as f:
        f.write(tool.succeeds('info', 'described', '--description'))
    tool.succeeds('fit', 'data.csv', '-o', 'm', '--flow-file', 'again.json', '--steps', 20)
    tool.fails(1, 'flow.json: .*the base has dimension 1, but the flow starts from 2', 'fit', 'column.csv', '-o', 'm', '--flow-file',
               'flow.json')
    with open('bad.json', 'w', encoding='utf-8') as f:
        f.write('{"kind": "flow", "type": "plenar", "dim_in": 2}')
    tool.fails(1, 'bad.json: .*plenar', 'fit', 'data.csv', '-o', 'm', '--flow-file', 'bad.json')


@test
def imports():
    """A model from Python scores as it does there."""
    folder = os.path.join(peers, 'zuko-maf')
    with open(folder + '.json', encoding='utf-8') as f:
        there = json.load(f)
    tool.succeeds('import', folder + '.safetensors', '--package', 'zuko', '--flow', 'maf', '-o', 'imported')
    write_npy('points.npy', there['x'])
    tool.succeeds('score', 'imported', 'points.npy', '-o', 'p.npy')
    assert all(abs(a[0] - b) < 1e-9 * (1 + abs(b)) for a, b in zip(read_npy('p.npy'), there['log_prob']))
    tool.succeeds('check', 'imported', '--points', 4)
    tool.fails(1, 'zuko-maf.safetensors: ', 'import', folder + '.safetensors', '--flow', 'nsf', '-o', 'm')
    tool.fails(1, 'data.csv', 'import', 'data.csv', '-o', 'm')
    tool.fails(2, '-o MODEL is missing', 'import', folder + '.safetensors')


@test
def pictures():
    if not shutil.which('gnuplot'):
        print('tool: no gnuplot, no pictures')
        return
    tool.succeeds('plot', 'model', 'data.csv', '-o', 'surface.png')
    tool.succeeds('plot', 'model', 'data.csv', '-o', 'pairs.png', '--pairs')
    tool.succeeds('plot', 'model', '--curve', '-o', 'curve.png')
    tool.succeeds('plot', 'cond', '-o', 'line.svg', '--context', 's=500.5')
    for name in ('surface.png', 'pairs.png', 'curve.png'):
        with open(name, 'rb') as f:
            width, height, channels, pixels = png.decode(f.read())
        colours = {pixels[i:i + channels] for i in range(0, len(pixels), channels)}
        assert width >= 300 and height >= 300 and len(colours) > 20, (name, width, height, len(colours))
    with open('line.svg', encoding='utf-8') as f:
        assert f.read().count('<path') > 3


@test
def mistakes():
    fails = tool.fails
    fails(2, 'a command is missing')
    fails(2, "unknown command 'fitt'", 'fitt')
    fails(2, 'an argument is missing; usage: nflow fit', 'fit')
    fails(2, '-o MODEL is missing', 'fit', 'data.csv')
    fails(2, "unknown option '--stepz'", 'fit', 'data.csv', '--stepz', 3)
    fails(2, '--steps must be a whole number', 'fit', 'data.csv', '--steps', 'x')
    fails(2, '--flow must be one of', 'fit', 'data.csv', '--flow', 'x')
    fails(1, 'missing.csv', 'fit', 'missing.csv', '-o', 'm')
    fails(1, 'cannot write nowhere/m', 'fit', 'data.csv', '-o', 'nowhere/m')
    fails(1, 'what format is it', 'fit', 'model', '-o', 'm')
    fails(1, "no column 'z'", 'fit', 'data.csv', '-o', 'm', '--columns', 'a,z')
    fails(1, "comes twice in 'a,2'", 'fit', 'data.csv', '-o', 'm', '--columns', 'a,2')
    fails(1, 'data.csv', 'score', 'data.csv', 'data.csv')
    fails(1, 'it has 1 columns, but the model wants 2', 'score', 'model', 'column.csv')
    fails(2, 'the name of a table ends in .csv or .npy', 'sample', 'model', '-o', 'x.xls')
    fails(1, 'the model has no context', 'sample', 'model', '--context', 'a=1')
    fails(2, 'give a MODEL, or --flow NAME', 'check')
    fails(2, 'too many arguments', 'info', 'model', 'model')


def read_draws(path):
    """Comments, names, rows."""
    with open(path, encoding='utf-8') as f:
        lines = f.read().splitlines()
    comments = [line for line in lines if line.startswith('#')]
    header, *rows = [line.split(',') for line in lines[len(comments):]]
    return comments, header, [[float(v) for v in row] for row in rows]


def target(function, *more):
    return ['vi', '--target', f"{modules['tool_target']}:{function}", '--dim', 3, '--steps', 0.2, *more]


@test
def posterior_of_a_function():
    """A normal: draws and report have its moments, in both signatures, whatever the number of threads."""
    law = ((3, 0.5), (-2, 2), (0, 1))
    n = 2000
    r, text = tool.results('vi.json', *target('normal'), '-o', 'vi.csv', '--npy', 'vi.npy', '--model', 'vi.model',
                           '--inits', 'vi-inits.json', '--chains', 2, '--draws', n)
    assert r['verdict'] == r['quality']['verdict'] == r['rungs'][-1]['quality']['verdict'] == 'trust', r
    assert 'verdict: trust.' in text and 'full-rank normal' in text and 'x.3' in text, text
    assert abs(r['quality']['log_z']) < 0.02 and abs(r['quality']['elbo']) < 0.02, r['quality']
    assert r['dim'] == 3 and r['rejected'] == 0 and r['gradients'] > 100 and not r['interrupted']
    assert r['options']['seed'] == 1 and r['files']['draws'] == 'vi.csv' and len(r['rungs']) == 1
    rung = r['rungs'][0]
    assert rung['settled'] and rung['steps'] < 200 and rung['gain'] < 0.005 and rung['gain_error'] < 0.005, rung
    comments, header, rows = read_draws('vi.csv')
    assert '# verdict = trust' in comments and header == ['lp_approx__', 'lp__', 'log_weight__', 'x.1', 'x.2', 'x.3']
    assert len(rows) == n and read_npy('vi.npy') == rows
    for k, (m, s) in enumerate(law):
        x, o = [row[3 + k] for row in rows], r['outputs'][k]
        assert abs(mean(x) - m) < 5 * s / math.sqrt(n) and abs(deviation(x) / s - 1) < 5 / math.sqrt(2 * n), (k, mean(x))
        assert o['name'] == header[3 + k] and abs(o['mean'] - mean(x)) < 1e-8 and abs(o['q50'] - m) < 0.2 * s, o
    exact = [sum(-((v - m) / s) ** 2 / 2 - math.log(s * math.sqrt(2 * math.pi)) for v, (m, s) in zip(row[3:], law))
             for row in rows]
    assert max(abs(row[1] - p) for row, p in zip(rows, exact)) < 1e-12
    places = []
    for chain in (1, 2):
        with open(f'vi-inits_{chain}.json', encoding='utf-8') as f:
            places.append(json.load(f)['x'])
    assert places[0] != places[1] and all(p in [row[3:] for row in rows] for p in places)
    tool.succeeds('sample', 'vi.model', '-n', 2000, '-o', 'of-model.csv')
    assert abs(mean([row[1] for row in read_csv('of-model.csv')[1]]) + 2) < 5 * 2 / math.sqrt(2000)
    for name, threads in (('one.csv', 1), ('two.csv', 2)):
        assert tool.succeeds(*target('normals', '--batch', '--thread-safe', '--threads', threads, '--draws', n, '--quiet'),
                             '-o', name) == ''
    read = [[line for line in open(name, encoding='utf-8') if not line.startswith('# model')]
            for name in ('vi.csv', 'one.csv', 'two.csv')]
    assert read[1] == read[2] == read[0]


@test
def posterior_of_a_stan_model():
    """A funnel, which no normal fits: outputs by name, verdict, weights; draws that are rejected."""
    funnel = ['vi', modules['fake_threads'], '{}', '--draws', 2000]
    r, text = tool.results('vi.json', *funnel, '--rungs', 1, '--steps', 0.2, '--generated', '--transformed', '-o', 'f.csv')
    assert r['verdict'] != 'trust' and r['outputs_weighted'] and 'verdict: ' + r['verdict'] in text
    _, header, rows = read_draws('f.csv')
    assert header[3:] == ['scale', 'x.1', 'x.2', 'x.3', 'x.4', 'half', 'seed', 'noise']
    assert all(row[3] > 0 and abs(row[8] ** 2 / row[3] - 1) < 1e-9 for row in rows)
    assert abs(sum(math.exp(row[2]) for row in rows) - 1) < 1e-9
    # resampled: means are those with weights
    tool.succeeds(*funnel, '--rungs', 1, '--steps', 0.2, '--resample', 20000, '-o', 'again.csv')
    _, names, again = read_draws('again.csv')
    assert names == ['lp_approx__', 'lp__', 'scale', 'x.1', 'x.2', 'x.3', 'x.4'] and len(again) == 20000
    x = [row[3] for row in rows]
    assert {row[2] for row in again} <= set(x) and len({row[2] for row in again}) < len(x)
    weighted = sum(math.exp(row[2]) * math.log(row[3]) for row in rows)
    assert abs(mean([math.log(row[2]) for row in again]) - weighted) < 0.05, weighted
    # a fence: rejected draws are counted, their reason is told, and they are in no file
    fence = ['vi', modules['fake_threads'], '{"a": "fence"}', '--family', 'mean-field', '--seed', 3, '--draws', 20000,
             '-o', 'fence.csv']
    r, text = tool.results('vi.json', *fence)
    rows = read_draws('fence.csv')[2]
    assert 0 < r['quality']['rejected'] < r['rejected']
    assert r['quality']['rejected'] == 20000 - len(rows) and r['rungs'][0]['steps'] <= 1000 and \
        'must not be beyond the fence' in r['rejection']
    assert 'beyond the fence' in text and max(math.log(row[3]) for row in rows) <= 1
    if shutil.which('gnuplot'):
        tool.succeeds(*funnel, '--rungs', 2, '--steps', 0.02, '--plot', 'vi-pairs.png', '--trace', 'vi-trace.png')
        for name in ('vi-pairs.png', 'vi-trace.png'):
            with open(name, 'rb') as f:
                width, height, channels, pixels = png.decode(f.read())
            assert len({pixels[i:i + channels] for i in range(0, len(pixels), channels)}) > 10, name
        # over reference draws, whose regions are blue; a reference of one output has one panel
        tool.succeeds(*funnel, '--rungs', 1, '--steps', 0.2, '--resample', 3000, '-o', 'reference.csv')
        with open('bracketed.csv', 'w', encoding='utf-8') as f:
            f.write('x[2],other\n' + ''.join(f'{i % 7},1\n' for i in range(100)))
        for reference, columns in (('reference.csv', 5), ('bracketed.csv', 1)):
            tool.succeeds(*funnel, '--rungs', 1, '--steps', 0.1, '--reference', reference, '--plot', 'over.png')
            with open('over.png', 'rb') as f:
                width, height, channels, pixels = png.decode(f.read())
            blue = sum(pixels[i:i + 3] == b'\xb3\xcf\xe6' for i in range(0, len(pixels), channels))
            assert (blue > 1000) == (columns > 1) and (width > 500) == (columns > 1), (reference, blue, width)


@test
def posterior_of_a_target_that_refuses_or_fails():
    """Refused points are counted, with a reason, and are in no file; after an error what was found before is written."""
    n = 20000
    r, text = tool.results('walls.json', *target('walled'), '--draws', n, '-o', 'walls.csv')
    rows = read_draws('walls.csv')[2]
    refused = r['quality']['rejected']
    share = 1 - (1 - 0.5 * math.erfc(3 / math.sqrt(2))) ** 3
    assert abs(refused - n * share) < 4 * math.sqrt(n * share) and len(rows) == n - refused, (refused, n * share)
    assert all(row[3] <= 4.5 and row[4] >= -8 and row[5] <= 3 for row in rows)
    assert r['rejected'] >= r['rungs'][0]['rejected'] > refused and r['rejection'], r
    assert r['rejection'] in text and f'{refused} of the {n} final draws' in text, text
    assert r['verdict'] == 'trust' and abs(r['quality']['log_z'] - math.log1p(-share)) < 0.02, r['quality']
    tool.fails(1, r'no normal approximation .*the largest log p is -inf.*log p is nan', *target('nowhere'))
    tool.fails(1, 'returned -9', *target('fading'), '--quiet', '-o', 'faded.csv', '--json', 'faded.json', '--model', 'faded')
    with open('faded.json', encoding='utf-8') as f:
        r = json.load(f)
    assert len(r['rungs']) == 1 and r['best'] == 'full-rank normal' and r['verdict'] == 'do not trust', r
    assert len(read_draws('faded.csv')[2]) == 4000 and os.path.exists('faded')


@test
def posterior_interrupted():
    """Ctrl-C keeps the best so far."""
    p = subprocess.Popen([*tool.command, *map(str, target('slow', '--steps', 1000, '--tolerance', 0, '--draws', 200)), '-o', 'part.csv',
                          '--json', 'part.json'], stdout=subprocess.PIPE, text=True)
    while not os.path.exists('began') and p.poll() is None:
        time.sleep(0.02)
    time.sleep(0.3)
    p.send_signal(signal.SIGINT)
    try:
        text = p.communicate(timeout=60)[0]
    finally:
        p.kill()
    with open('part.json', encoding='utf-8') as f:
        r = json.load(f)
    assert p.returncode == 0 and r['interrupted'] and 'interrupted: this is the best until then' in text, text
    assert r['rungs'][0]['steps'] < 100000 and len(read_draws('part.csv')[2]) == 200


@test
def posterior_mistakes():
    fails = tool.fails
    fails(2, 'give MODEL, the library of a Stan model, or --target', 'vi')
    fails(2, 'either MODEL or --target', *target('normal'), modules['fake_threads'])
    fails(2, '--target needs --dim', 'vi', '--target', 'x.so:f')
    fails(2, 'must be LIBRARY:FUNCTION', 'vi', '--target', 'x.so', '--dim', 2)
    fails(2, '--dim is of --target', 'vi', modules['fake_threads'], '{}', '--dim', 2)
    fails(2, '--generated is of Stan models', *target('normal'), '--generated')
    fails(2, '--family must be one of', *target('normal'), '--family', 'x')
    fails(2, 'need names', *target('normal'), '-o', '-')
    fails(2, '--reference is drawn by --plot', *target('normal'), '--reference', 'other.csv')
    with open('other.csv', 'w', encoding='utf-8') as f:
        f.write('a,b\n1,2\n')
    fails(1, 'a column of the name of an output, such as', *target('normal'), '--reference', 'other.csv', '--plot', 'x.png')
    fails(1, 'missing.csv', *target('normal'), '--reference', 'missing.csv', '--plot', 'x.png')
    fails(1, 'has no function nothing', *target('nothing'))
    fails(1, "cannot open the target's library", 'vi', '--target', 'missing.so:f', '--dim', 2)
    fails(1, '-7', *target('broken'))
    fails(1, 'cannot write nowhere/x.csv', *target('normal'), '-o', 'nowhere/x.csv')
    fails(1, "cannot open the model's library", 'vi', 'missing.so')
    fails(1, 'is not a library of BridgeStan', 'vi', modules['tool_target'])
    fails(1, 'out of bounds', 'vi', modules['fake_threads'], '{"a": "wrong"}')
    fails(1, 'does not exist', 'vi', modules['fake_threads'])
    fails(1, 'cannot read the data file', 'vi', modules['fake_threads'], 'missing.json')
    fails(1, 'neither a path that ends in .json nor', 'vi', modules['fake_threads'], 'data.R')
    fails(1, 'no bs_rng_construct', 'vi', modules['fake_incomplete'], '{}')
    fails(1, 'no parameters', 'vi', modules['fake_threads'], '{"a": "empty"}')
    fails(1, 'version', 'vi', modules['fake_1'], '{}')


@test
def help_and_manual():
    assert 'nflow fit data.csv -o model' in tool.succeeds('--help')
    for command in ('fit', 'score', 'sample', 'info', 'check', 'plot', 'import', 'vi'):
        text = tool.succeeds(command, '--help')
        assert text == tool.succeeds('help', command) and f'Usage: nflow {command}' in text
        page = tool.succeeds('help', '--man', command)
        assert page.startswith(f'.TH "nflow-{command}" 1') and '.SH OPTIONS' in page
    assert '.SH COMMANDS' in tool.succeeds('help', '--man')
    script = tool.succeeds('help', '--bash')
    script += 'COMP_WORDS=(nflow fit --fl); COMP_CWORD=2; _nflow; echo "${COMPREPLY[@]}"\n'
    script += 'COMP_WORDS=(nflow fit --flow ma); COMP_CWORD=3; _nflow; echo "${COMPREPLY[@]}"\n'
    script += 'COMP_WORDS=(nflow sc); COMP_CWORD=1; _nflow; echo "${COMPREPLY[@]}"\n'
    r = subprocess.run(['bash'], input=script, capture_output=True, text=True, check=True)
    assert r.stdout.splitlines() == ['--flow --flow-file --flow-matching', 'made maf', 'score'] or \
        r.stdout.splitlines() == ['--flow --flow-file --flow-matching', 'maf', 'score'], r.stdout


shutil.rmtree(folder)
print('tool: all passed')
