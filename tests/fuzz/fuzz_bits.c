/* nf_load_packed_bits: the input's first two bytes are the number of bits in a row, what follows is the file, plain or
   gzip. No result is larger than the limit. */
#include "fuzz.h"

enum { LIMIT = 1 << 16, ROOM = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    const size_t dim = (size_t)data[0] | (size_t)data[1] << 8;
    nf_bytes b;
    if (nf_load_packed_bits(fuzz_file(data + 2, size - 2), dim, LIMIT, &b) == NF_OK) {
        FUZZ_MUST(b.n && b.dim == dim && b.n <= LIMIT / dim, "bits beyond the limit");
        for (size_t i = 0; i < b.n * b.dim; i++)
            FUZZ_MUST(b.data[i] == 0 || b.data[i] == 255, "a bit that is none");
        nf_bytes_free(&b);
    }
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    static uint8_t file[ROOM];
    fuzz_random r = {seed};
    if (fuzz_below(&r, 4) == 0 || size < 2)
        return LLVMFuzzerMutate(data, size, max_size);
    size_t n = fuzz_unpack(data + 2, size - 2, file, ROOM);
    if (n == 0)
        memcpy(file, data + 2, n = size - 2);
    if (n < 512)
        n = LLVMFuzzerMutate(file, n, 512);
    if (fuzz_below(&r, 64) == 0) { /* a bomb */
        n = fuzz_below(&r, ROOM);
        memset(file, 0, n);
    }
    size_t dim = (size_t)data[0] | (size_t)data[1] << 8;
    if (fuzz_below(&r, 2))
        dim = fuzz_below(&r, 3) ? fuzz_below(&r, 64) : fuzz_below(&r, 65536);
    const size_t row = dim / 8 + (dim % 8 != 0), rows = row ? n / row : 0;
    if (rows && fuzz_below(&r, 4))
        n = rows * row;
    data[0] = (uint8_t)dim;
    data[1] = (uint8_t)(dim >> 8);
    if (n + 2 <= max_size && fuzz_below(&r, 2)) {
        memcpy(data + 2, file, n);
        return n + 2;
    }
    n = fuzz_pack(file, n, data + 2, max_size - 2, &r);
    return n ? n + 2 : LLVMFuzzerMutate(data, size, max_size);
}
