/* Gzip data for inputs: unpacked before a mutation, packed after it, so that checksums are right. */
#include "fuzz.h"
#include <zlib.h>

size_t fuzz_unpack(const uint8_t *data, size_t size, uint8_t *out, size_t room)
{
    z_stream z = {.next_in = (uint8_t *)data, .avail_in = (uInt)size, .next_out = out, .avail_out = (uInt)room};
    if (size < 3 || data[0] != 0x1f || data[1] != 0x8b || inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
        return 0;
    while (z.avail_in && z.avail_out) {
        const int result = inflate(&z, Z_NO_FLUSH);
        if (result == Z_STREAM_END && z.avail_in && inflateReset(&z) == Z_OK)
            continue;
        if (result != Z_OK)
            break;
    }
    inflateEnd(&z);
    return room - z.avail_out;
}

static size_t pack_member(const uint8_t *data, size_t size, uint8_t *out, size_t room, int level)
{
    z_stream z = {.next_in = (uint8_t *)data, .avail_in = (uInt)size, .next_out = out, .avail_out = (uInt)room};
    if (deflateInit2(&z, level, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return 0;
    const bool done = deflate(&z, Z_FINISH) == Z_STREAM_END;
    deflateEnd(&z);
    return done ? room - z.avail_out : 0;
}

size_t fuzz_pack(const uint8_t *data, size_t size, uint8_t *out, size_t room, fuzz_random *r)
{
    const size_t members = 1 + fuzz_below(r, 8) / 6;
    size_t at = 0, begin = 0;
    for (size_t i = 0; i < members; i++) {
        const size_t end = i + 1 == members ? size : fuzz_below(r, size + 1);
        const size_t n = pack_member(data + begin, end - begin, out + at, room - at, fuzz_below(r, 4) ? 6 : 0);
        if (n == 0)
            return 0;
        at += n;
        for (size_t zeros = fuzz_below(r, 4) ? 0 : fuzz_below(r, 20); zeros && at < room; zeros--)
            out[at++] = 0;
        begin = end;
    }
    return at;
}

size_t fuzz_packed(uint8_t *data, size_t size, size_t max_size, fuzz_random *r,
                   size_t (*change)(uint8_t *file, size_t size, size_t room, fuzz_random *r))
{
    static uint8_t file[FUZZ_UNPACKED];
    if (fuzz_below(r, 4) == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    size_t n = fuzz_unpack(data, size, file, sizeof file);
    if (n == 0)
        memcpy(file, data, n = size);
    n = change(file, n, sizeof file, r);
    const bool plain = n <= max_size && fuzz_below(r, 2);
    if (plain)
        memcpy(data, file, n);
    else
        n = fuzz_pack(file, n, data, max_size, r);
    return n ? n : LLVMFuzzerMutate(data, size, max_size);
}
