"""PNG files without a library: enough to read what the examples write, and to write good files and bad ones."""
import struct
import zlib

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
HEAD = b'\x89PNG\r\n\x1a\n'


def chunk(name, data):
    return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))


def encode(width, height, channels, pixels, depth=8, palette=b''):
    """`pixels`: row by row, channels next to each other. With a palette they are its indices."""
    colour = 3 if palette else {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    size = width * channels * depth // 8
    rows = b''.join(b'\0' + pixels[i * size:(i + 1) * size] for i in range(height))
    return (HEAD + chunk(b'IHDR', struct.pack('>2I5B', width, height, depth, colour, 0, 0, 0)) +
            (chunk(b'PLTE', palette) if palette else b'') + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))


def paeth(a, b, c):
    return min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]


def decode(data):
    """Width, height, channels and pixels of a file with 8 bits a channel."""
    assert data.startswith(HEAD), data[:8]
    at, packed = len(HEAD), b''
    while at < len(data):
        size, name = struct.unpack('>I4s', data[at:at + 8])
        body = data[at + 8:at + 8 + size]
        assert struct.unpack('>I', data[at + 8 + size:at + 12 + size])[0] == zlib.crc32(name + body), name
        if name == b'IHDR':
            width, height, depth, colour, *_, interlaced = struct.unpack('>2I5B', body)
            assert depth == 8 and not interlaced and colour != 3, body
        packed += body if name == b'IDAT' else b''
        at += 12 + size
    c = CHANNELS[colour]
    raw, row, pixels = zlib.decompress(packed), bytes(width * c), b''
    for i in range(height):
        kind, line = raw[i * (width * c + 1)], bytearray(raw[i * (width * c + 1) + 1:(i + 1) * (width * c + 1)])
        for k in range(len(line)):
            left, corner = (line[k - c], row[k - c]) if k >= c else (0, 0)
            line[k] = (line[k] + (0, left, row[k], (left + row[k]) // 2, paeth(left, row[k], corner))[kind]) % 256
        row = bytes(line)
        pixels += row
    return width, height, c, pixels


def table(data, height, width, gap=2, least=48):
    """The pictures of a table that an example has drawn: rows of [channels][height][width]. Each pixel must be a square
    of equal ones, and white must be between pictures."""
    full_width, full_height, c, pixels = decode(data)
    zoom = -(-least // height) if height < least else 1
    high, wide = zoom * height + gap, zoom * width + gap
    assert (full_height + gap) % high == 0 and (full_width + gap) % wide == 0, (full_width, full_height)
    found = [[bytearray(c * height * width) for _ in range((full_width + gap) // wide)]
             for _ in range((full_height + gap) // high)]
    for i in range(full_height):
        for j in range(full_width):
            here = pixels[(i * full_width + j) * c:(i * full_width + j + 1) * c]
            row, column, picture = i % high // zoom, j % wide // zoom, found[i // high][j // wide]
            if row >= height or column >= width:
                assert here == b'\xff' * c, (i, j)
                continue
            for k in range(c):
                at = (k * height + row) * width + column
                assert (i % high % zoom == 0 and j % wide % zoom == 0) or picture[at] == here[k], (i, j)
                picture[at] = here[k]
    return [[bytes(p) for p in row] for row in found]
