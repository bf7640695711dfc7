/* nf_load_idx and nf_load_idx_array: IDX files, plain and gzip, whose sizes agree most of the time. No result is larger
   than the limit, which a packed file can exceed a thousandfold. */
#include "fuzz.h"

enum { LIMIT = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file(data, size);
    nf_bytes b;
    nf_array a;
    if (nf_load_idx(path, LIMIT, &b) == NF_OK) {
        FUZZ_MUST(b.n && b.dim && b.n <= LIMIT / b.dim && b.data, "bytes beyond the limit");
        nf_bytes_free(&b);
        FUZZ_MUST(nf_load_idx_array(path, SIZE_MAX, &a) == NF_OK, "bytes that are no numbers");
        nf_array_free(&a);
    }
    if (nf_load_idx_array(path, LIMIT, &a) == NF_OK) {
        size_t all = 1;
        for (size_t i = 0; i < a.rank; i++)
            all *= a.extent[i];
        FUZZ_MUST(a.rank && all == a.n * a.dim && all <= LIMIT / sizeof(nf_real), "an array beyond the limit");
        nf_array_free(&a);
    }
    return 0;
}

/* A header whose extents have the product n x width or, seldom, another one. Returns the file's size. */
static size_t make_header(uint8_t *file, size_t n, fuzz_random *r)
{
    static const uint8_t type[] = {8, 8, 9, 11, 12, 13, 14, 8}, width[] = {1, 1, 1, 2, 4, 4, 8, 1};
    const size_t k = fuzz_below(r, 8), rank = 1 + fuzz_below(r, 4);
    size_t left = n / width[k];
    memcpy(file, (uint8_t[]){0, 0, type[k], (uint8_t)rank}, 4);
    for (size_t i = 0; i < rank; i++) {
        size_t extent = i + 1 == rank ? left : 1 + fuzz_below(r, 3);
        if (extent && left % extent)
            extent = 1;
        if (extent)
            left /= extent;
        if (fuzz_below(r, 40) == 0)
            extent = (size_t)fuzz_next(r);
        for (size_t b = 0; b < 4; b++)
            file[4 + 4 * i + b] = (uint8_t)(extent >> (24 - 8 * b));
    }
    return 4 + 4 * rank + n;
}

/* Changes the elements, and makes a header for as many as there are then. */
static size_t change(uint8_t *file, size_t n, size_t room, fuzz_random *r)
{
    const size_t rank = n > 4 ? file[3] % 5 : 0, begin = 4 + 4 * rank < n ? 4 + 4 * rank : 0;
    n = n - begin < room - 64 ? n - begin : room - 64;
    memmove(file + 64, file + begin, n);
    if (n < 512)
        n = LLVMFuzzerMutate(file + 64, n, 512);
    if (fuzz_below(r, 64) == 0) { /* a bomb */
        n = LIMIT + fuzz_below(r, room - 2 * LIMIT);
        memset(file + 64, 0, n);
    }
    const size_t head = make_header(file, n, r) - n;
    memmove(file + head, file + 64, n);
    return head + n;
}

FUZZ_PACKED_MUTATOR(change)
