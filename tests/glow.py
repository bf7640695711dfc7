"""Runs examples/glow as a user would: on arrays, PNG files and IDX files that it makes, reads its pictures back pixel by
pixel, interrupts and resumes it, and gives it every kind of bad input, each of which must give one clear line and a
non-zero exit.
Usage: glow.py <glow> [thin: fewer and shorter fits]"""
import lzma
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

import png
from example import Example

environment = {k: v for k, v in os.environ.items() if k != 'NFLOW_DATA'}
glow = Example(sys.argv[1], environment)
thin = sys.argv[2:] == ['thin']
small = ['--steps-of-flow', 2, '--channels', 8, '--batch', 16, '--warm-up', 10, '--average', 0.9, '--rate', 0.01,
         '--validate-every', 10, '--threads', 1]
files = ['checkpoint.safetensors', 'curve.txt', 'interpolations.png', 'model.safetensors', 'nearest.png',
         'reconstructions.png', 'result.json', 'samples.png', 'temperature.png']
rng = random.Random(3)


def smooth(n, channels, height, width):
    """n images [channels][height][width]: a colour, and a slope from left to right."""
    images = []
    for _ in range(n):
        colour, slope = [rng.randrange(40, 200) for _ in range(channels)], rng.randrange(-30, 30)
        images.append(bytes(max(0, min(255, c + slope * j // width + rng.randrange(4)))
                            for c in colour for _ in range(height) for j in range(width)))
    return images


def npy(shape, data, descr='|u1', order=False):
    head = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    head += b' ' * (63 - (10 + len(head)) % 64) + b'\n'
    return b'\x93NUMPY\x01\x00' + struct.pack('<H', len(head)) + head + data


def last_axis(image, channels):
    """[channels][...] to [...][channels]."""
    size = len(image) // channels
    return bytes(image[c * size + k] for k in range(size) for c in range(channels))


def write(tmp, name, content):
    path = os.path.join(tmp, name)
    with open(path, 'wb') as f:
        f.write(content)
    return path


def folder(tmp, name, contents):
    os.mkdir(os.path.join(tmp, name))
    for file, content in contents.items():
        write(os.path.join(tmp, name), file, content)
    return os.path.join(tmp, name)


def fit(tmp, name, data, *args):
    """The result of a fit with the folder tmp/name, and what was printed."""
    out = os.path.join(tmp, name)
    result, text = glow.results(os.path.join(tmp, f'{name}.json'), '--data', data, '--out', out, *small, *args)
    for i, p in enumerate(result['curve']):
        assert p['seconds'] >= 0 and (i == 0 or p['step'] > result['curve'][i - 1]['step']), result
    assert result['round_trip']['wrong_pixels'] == 0 and result['round_trip']['largest_error'] < 1e-3, result
    return result, text


def timeless(result):
    """A result without what is another one each time."""
    return {**{k: v for k, v in result.items() if k not in ('data', 'seconds', 'bytes')},
            'curve': [{k: v for k, v in p.items() if k != 'seconds'} for p in result['curve']]}


def same(a, b):
    """Whether two results are the same, except for times."""
    a, b = timeless(a), timeless(b)
    assert a.keys() == b.keys() and all(a[k] == b[k] for k in a), [(k, a[k], b[k]) for k in a if a[k] != b.get(k)]
    return True


def content(*path):
    with open(os.path.join(*path), 'rb') as f:
        return f.read()


def table(tmp, name, picture, height, width):
    return png.table(content(tmp, name, f'{picture}.png'), height, width)


with tempfile.TemporaryDirectory() as tmp:
    # An array of colours: the shape of the results, and pictures of the right pixels.
    images = smooth(200, 3, 6, 4)
    array = write(tmp, 'x.npy', npy((200, 3, 6, 4), b''.join(images)))
    result, text = fit(tmp, 'colour', array, '--steps', 150, '--temperature', 1)
    assert '160 training, 20 validation, 20 test images of 6 x 4, 3 channels, 8 bits' in text, text
    assert result['steps'] == 150 and [p['step'] for p in result['curve']] == list(range(10, 150, 10)) + [150] * (result['best_step'] == 150), result
    for what in 'test', 'validation', 'training':
        assert 2 < result[what] < 6.6 and 0 < result[what + '_se'] < 0.5, result  # bytes that are uniform have 8
    assert result['curve'][-1]['validation'] < result['curve'][0]['validation'] - 0.5, result
    assert set(os.listdir(os.path.join(tmp, 'colour'))) >= set(files) - {'result.json'}
    assert ('curve.png' in os.listdir(os.path.join(tmp, 'colour'))) == bool(shutil.which('gnuplot'))

    known = set(images)
    reconstructions = table(tmp, 'colour', 'reconstructions', 6, 4)
    assert (len(reconstructions), len(reconstructions[0])) == (8, 10)
    for r in range(0, 8, 2):
        assert set(reconstructions[r]) <= known and reconstructions[r] == reconstructions[r + 1], r
    for row in table(tmp, 'colour', 'interpolations', 6, 4):
        assert len(row) == 10 and row[0] in known and row[9] in known and row[0] != row[9], row
        assert not set(row[2:8]) <= known
    samples = table(tmp, 'colour', 'samples', 6, 4)
    temperature = table(tmp, 'colour', 'temperature', 6, 4)
    assert (len(samples), len(samples[0]), len(temperature), len(temperature[0])) == (8, 10, 6, 10)
    assert temperature[5] == samples[0] and temperature[4] != temperature[5]
    assert not known & {p for row in samples for p in row}
    for row in table(tmp, 'colour', 'nearest', 6, 4):
        assert len(row) == 8 and set(row[1:]) <= known and row[0] not in known
        distances = [sum((a - b) ** 2 for a, b in zip(row[0], other)) for other in row[1:]]
        assert distances == sorted(distances), distances
        # only images that are not for training, 40 of 200, may be nearer than the furthest one
        assert sum(sum((a - b) ** 2 for a, b in zip(row[0], i)) < distances[-1] for i in images) <= 6 + 40

    # The same numbers in other files: [n][height][width][channels], packed, of format 2; and for other threads.
    short = ['--steps', 12, '--test-rows', 5]
    first, _ = fit(tmp, 'first', array, *short)
    other = {'last': npy((200, 6, 4, 3), b''.join(last_axis(i, 3) for i in images)), 'packed': lzma.compress(content(array)),
             'newer': content(array)[:6] + b'\x02\0' + content(array)[8:10] + b'\0\0' + content(array)[10:]}
    for name, data in other.items():
        assert same(fit(tmp, name, write(tmp, name + '.npy', data), *short)[0], first), name
    assert same(fit(tmp, 'threads', array, *short, '--threads', 3)[0], first)
    for picture in files:
        if picture.endswith('.png'):
            assert content(tmp, 'threads', picture) == content(tmp, 'first', picture), picture

    # Bytes that are uniform have 8 bits, and no model has fewer; of 5 upper bits 5. Pictures then have 32 levels.
    noise = write(tmp, 'noise.npy', npy((300, 4, 4), rng.randbytes(300 * 16)))
    for bits in 8, 5:
        result, _ = fit(tmp, f'noise{bits}', noise, '--bits', bits, '--steps', 60 if thin else 200, '--rate', 0.003)
        assert bits - 0.02 < result['test'] < bits + 0.4, result
    seen = {v for row in table(tmp, 'noise5', 'reconstructions', 4, 4) for p in row for v in p}
    assert seen == {(k * 255 + 15) // 31 for k in range(32)}, seen

    # Every option of the model changes it.
    sizes = {}
    for name, args in (('recipe', []), ('realnvp', ['--flow', 'realnvp', '--steps-of-flow', 1, '--blocks', 1]),
                       ('levels', ['--levels', 1]), ('steps', ['--steps-of-flow', 1]), ('channels', ['--channels', 5]),
                       ('additive', ['--additive']), ('mixing', ['--mixing', 'permute']), ('prior', ['--prior', 'standard']),
                       ('recompute', ['--recompute', 'always']), ('alpha', ['--alpha', 0.01]), ('no-logit', ['--no-logit']),
                       ('noise', ['--noise', 'variational']), ('scale', ['--scale', 'sigmoid']),
                       ('bins', ['--bins', 0])):
        result, _ = fit(tmp, name, noise, *args, '--steps', 3, '--test-rows', 5)
        sizes[name] = result['parameters'], result['test']
    again, recipe = sizes.pop('recompute'), sizes['recipe']  # the same to rounding, since nothing else is computed
    assert again[0] == recipe[0] and abs(again[1] - recipe[1]) < 1e-6, (again, sizes)
    assert len({(n, round(b, 6)) for n, b in sizes.values()}) == len(sizes), sizes

    # Interrupted and resumed, it is the same fit, whatever the step.
    long = ['--steps', 300 if thin else 1500, '--patience', 0]
    whole, _ = fit(tmp, 'whole', array, *long)
    out, stopped = os.path.join(tmp, 'stopped'), os.path.join(tmp, 'stopped.json')
    for times in range(2):
        p = subprocess.Popen([*glow.command, *map(str, ['--data', array, '--out', out, *small, *long, '--json', stopped,
                                                        '--resume'])], stdout=subprocess.DEVNULL, env=environment)
        end, before = time.time() + 100, 0 if times == 0 else len(content(out, 'curve.txt').splitlines())
        while time.time() < end and p.poll() is None:
            time.sleep(0.005)
            if os.path.exists(os.path.join(out, 'curve.txt')) and content(out, 'curve.txt').count(b'\n') > before + 2:
                break
        p.send_signal(signal.SIGINT if times == 0 else signal.SIGKILL)
        assert p.wait(100) in ((130,), (-signal.SIGKILL,))[times], p.returncode
    assert len(content(out, 'curve.txt').splitlines()) < len(whole['curve'])
    assert same(fit(tmp, 'stopped', array, *long, '--resume')[0], whole)
    for file in files:
        if file.endswith('.png') or file == 'model.safetensors':
            assert content(out, file) == content(tmp, 'whole', file), file
    assert same(fit(tmp, 'stopped', array, *long, '--resume')[0], whole)  # nothing is left to do
    glow.fails(1, 'checkpoint.safetensors is of an earlier run: give --resume', '--data', array, '--out', out, *small)
    glow.fails(1, 'nf_fitter_load', '--data', noise, '--out', out, *small, '--resume')

    # A time instead of steps, and epochs.
    begin = time.time()
    result, _ = fit(tmp, 'minutes', noise, '--minutes', 0.02)
    assert result['steps'] > 0 and 1.1 < result['seconds'] < 1.2 + 60, result
    again, _ = fit(tmp, 'minutes', noise, '--minutes', 0.02, '--resume')
    assert same(again, result)
    assert fit(tmp, 'epochs', noise, '--epochs', 2)[0]['steps'] == 30  # 240 images, 16 a step

    # PNG files, grey, with few bits, and in colour: all of them are images that come back.
    for name, channels, depth in ('grey', 1, 8), ('pairs', 1, 2), ('colours', 3, 8), ('transparent', 4, 8):
        pictures = smooth(30, channels, 2, 4)
        if depth == 2:
            pictures = [bytes(rng.randrange(4) * 85 for _ in p) for p in pictures]
        rows = [last_axis(p, channels) for p in pictures]
        if depth == 2:
            rows = [bytes(sum(p[k + i] // 85 << 6 - 2 * i for i in range(4)) for k in (0, 4)) for p in pictures]
        where = folder(tmp, f'{name}-pngs', {f'{i:02}.{"PNG" if i % 2 else "png"}': png.encode(4, 2, channels, row, depth)
                                             for i, row in enumerate(rows)})
        _, text = fit(tmp, name, where, '--steps', 2)
        assert f'24 training, 3 validation, 3 test images of 2 x 4, {channels} channel' in text, text
        known = {p for row in table(tmp, name, 'nearest', 2, 4) for p in row[1:]}
        known |= {p for row in table(tmp, name, 'reconstructions', 2, 4) for p in row if any(p)}
        assert known <= set(pictures) and len(known) > 5, name

    # IDX files and their labels: dark images and bright ones.
    def idx(magic, *extents, data):
        return struct.pack(f'>{1 + len(extents)}I', magic, *extents) + data

    def digits(name, n, labels):
        classes = [rng.randrange(2) for _ in range(n)]
        pixels = b''.join(bytes(rng.randrange(190, 230) if c else rng.randrange(20, 60) for _ in range(16)) for c in classes)
        return {f'{name}-images-idx3-ubyte': idx(0x803, n, 4, 4, data=pixels),
                f'{name}-labels-idx1-ubyte': idx(0x801, labels, data=bytes(classes[:labels]))}

    root = folder(tmp, 'root', {})
    mnist = folder(root, 'mnist', {**digits('train', 240, 240), **digits('t10k', 40, 40)})
    glow.env = {**environment, 'NFLOW_DATA': root}
    result, text = fit(tmp, 'labels', 'mnist', '--labels', '--steps', 150 if thin else 300, '--temperature', 0.7)
    assert '200 training, 40 validation, 40 test images of 4 x 4, 1 channel' in text, text
    for row in table(tmp, 'labels', 'samples', 4, 4):
        assert all(sum(p) / 16 < 110 for p in row[0::2]) and all(sum(p) / 16 > 140 for p in row[1::2]), row
    for row in table(tmp, 'labels', 'interpolations', 4, 4):
        assert (sum(row[0]) < 16 * 128) == (sum(row[9]) < 16 * 128), row
    train = content(mnist, 'train-images-idx3-ubyte')[16:16 + 200 * 16]
    train = [train[i:i + 16] for i in range(0, len(train), 16)]
    for row in table(tmp, 'labels', 'nearest', 4, 4):
        distances = sorted(sum((a - b) ** 2 for a, b in zip(row[0], i)) for i in train)
        assert [sum((a - b) ** 2 for a, b in zip(row[0], i)) for i in row[1:]] == distances[:7], row

    # Small CIFAR, with the last axis for channels and labels beside it.
    cifar = folder(root, 'cifar8', {'cifar10_8x8_train_u8.npy.xz': lzma.compress(npy((100, 8, 8, 3), rng.randbytes(19200))),
                                    'cifar10_8x8_test_u8.npy': npy((20, 8, 8, 3), rng.randbytes(20 * 192)),
                                    'cifar10_train_labels_u8.bin': bytes(i % 3 for i in range(100)),
                                    'cifar10_test_labels_u8.bin': bytes(i % 3 for i in range(20))})
    sizes = [fit(tmp, f'cifar{len(a)}', 'cifar8', '--steps', 2, '--levels', 1, *a) for a in ([], ['--labels'])]
    assert all('90 training, 10 validation, 20 test images of 8 x 8, 3 channels' in text for _, text in sizes), sizes
    assert sizes[0][0]['parameters'] < sizes[1][0]['parameters'], sizes

    # Bad data.
    def refused(message, data, *args, status=1):
        glow.fails(status, message, '--data', data, '--out', os.path.join(tmp, 'refused'), *small, *args)

    def bad(name, content, message):
        refused(message, write(tmp, name + '.npy', content))

    good = content(array)
    bad('floats', npy((20, 4, 4), bytes(20 * 64), '<f4'), r"floats.npy: its numbers are '<f4', but bytes \('\|u1'")
    bad('fortran', npy((20, 4, 4), bytes(320), order=True), "in Fortran's order")
    bad('flat', npy((20, 16), bytes(320)), r'must be \[n\]\[channels\]\[height\]\[width\]')
    bad('many', npy((2, 5, 4, 5), bytes(200)), 'with 1 to 4 channels')
    bad('deep', npy((2, 2, 2, 2, 2), bytes(32)), 'more than 4 indices')
    bad('none', npy((0, 4, 4), b''), 'the array is empty')
    bad('cut', good[:-1], 'damaged npy file: 14399 bytes of data do not fit')
    bad('longer', good + b'x', 'damaged npy file: 14401 bytes')
    bad('huge', npy((2**62, 2**62, 2**62), bytes(16)), 'damaged npy file: 16 bytes')
    bad('head', good[:40], 'its header is cut off')
    bad('shapeless', good.replace(b"'shape'", b"'shaqe'"), "its header has no 'shape'")
    bad('open', good.replace(b'4)', b'4 '), 'its header has no shape')
    bad('text', b'not an array at all\n', 'text.npy: no npy file')
    bad('nothing', b'', 'nothing.npy: no npy file')
    bad('xz', lzma.compress(good)[:-20], 'xz.npy: a damaged xz file')
    bad('few', npy((9, 4, 4), bytes(144)), '9 images are too few')
    bad('odd', npy((20, 5, 4), bytes(400)), 'nf_glow: the image is 5 x 4, .*must be multiples of 2')
    refused('6 x 4, .*with 2 levels.* must be multiples of 4', array, '--levels', 2)
    refused('nf_realnvp_image: `mixing`', array, '--flow', 'realnvp', '--mixing', 'lu')
    refused('PNG files and arrays have no labels', array, '--labels')
    refused('there is no file or folder .*nowhere', os.path.join(tmp, 'nowhere'))
    refused('holds neither PNG files nor train-images-idx3-ubyte', folder(tmp, 'empty', {'notes.txt': b'no pictures'}))

    one = png.encode(4, 2, 1, bytes(range(8)))
    for name, file, message in (
            ('size', png.encode(2, 4, 1, bytes(8)), '1.png: 4 x 2 of 1 channels, but 0.png is 2 x 4 of 1: all must be equal'),
            ('colour', png.encode(4, 2, 3, bytes(24)), '1.png: 2 x 4 of 3 channels, but 0.png is 2 x 4 of 1'),
            ('deep', png.encode(4, 2, 1, bytes(16), 16), '1.png: has 16 bits a channel'),
            ('palette', png.encode(4, 2, 1, bytes(8), 8, bytes(range(6))), '1.png: has a palette'),
            ('cutoff', one[:-30], '1.png: no sound PNG file'), ('void', b'', '1.png: no sound PNG file'),
            ('damaged', one.replace(b'IDAT', b'IDAT\xff', 1)[:len(one)], '1.png: no sound PNG file'),
            ('sum', one[:-20] + bytes([one[-20] ^ 1]) + one[-19:], '1.png: no sound PNG file'),
            ('no', b'GIF89a' + bytes(40), r'1.png: no sound PNG file \(.*Not a PNG')):
        refused(message, folder(tmp, f'bad-{name}', {'0.png': one, '1.png': file}))

    glow.env = environment
    refused(r'mnist: there is no folder \$NFLOW_DATA/mnist: put train-images-idx3-ubyte.gz .* set NFLOW_DATA', 'mnist')
    glow.env = {**environment, 'NFLOW_DATA': os.path.join(tmp, 'empty')}
    refused('cifar8: there is no folder .*empty/cifar8: put cifar10_8x8_train_u8.npy.xz', 'cifar8')
    if not os.path.exists('/usr/share/datasets/fashion-mnist'):
        refused('apt-get install dataset-fashion-mnist', 'fashion')
    os.remove(os.path.join(mnist, 't10k-labels-idx1-ubyte'))
    refused('holds no t10k-labels-idx1-ubyte', mnist, '--labels')
    write(mnist, 't10k-labels-idx1-ubyte', idx(0x801, 39, data=bytes(39)))
    refused('39 labels, but 40 images, for test', mnist, '--labels')
    write(cifar, 'cifar10_test_labels_u8.bin', bytes(21))
    glow.env = {**environment, 'NFLOW_DATA': root}
    refused('21 labels, but 20 images, for test', 'cifar8', '--labels')
    os.remove(os.path.join(cifar, 'cifar10_8x8_test_u8.npy'))
    refused('cannot read .*cifar10_8x8_test_u8.npy.xz: No such file', 'cifar8')

    # Bad options and places.
    glow.fails(2, 'no data: give --data', '--out', tmp)
    glow.fails(2, 'no folder for the results: give --out', '--data', array)
    for message, *args in (("--flow must be one of glow|realnvp, not 'nice'", '--flow', 'nice'),
                           ("--mixing must be .*not 'qr'", '--mixing', 'qr'), ("--bits must be .*not '9'", '--bits', 9),
                           ("--alpha must be .*not '0.5'", '--alpha', 0.5), ("--average must be .*not '1'", '--average', 1),
                           ("--minutes must be .*not '0'", '--minutes', 0), ("--batch must be .*not '0'", '--batch', 0),
                           ("--validate-every must be .*not '0'", '--validate-every', 0),
                           ('--steps and --epochs exclude', '--steps', 3, '--epochs', 1),
                           ("unknown option '--step'", '--step', 3)):
        refused(message, array, *args, status=2)
    glow.fails(1, 'cannot make the folder .*nowhere', '--data', array, '--out', os.path.join(tmp, 'nowhere', 'x'))
    glow.fails(1, 'cannot (make|write) .*', '--data', array, '--out', array)
    refused('cannot write .*nowhere', array, '--json', os.path.join(tmp, 'nowhere', 'x'))
    text = glow.succeeds('--help')
    assert all(f'--{o}' in text for o in ('data', 'labels', 'bits', 'levels', 'recompute', 'resume', 'temperature')), text
print('glow: all checks passed')
