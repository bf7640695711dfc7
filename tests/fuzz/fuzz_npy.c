/* nf_load_npy and nf_map_npy: NumPy's files, plain and gzip. Most inputs get a header whose text is sound but for one
   change. What both functions accept must be the same numbers. */
#include "fuzz.h"

enum { LIMIT = 1 << 16, PREFIX = 10 };

/* All rows from the last to the first, one by one. */
static void compare(const nf_mapped *m, const nf_array *a)
{
    nf_real *x = malloc(a->dim * sizeof *x);
    FUZZ_MUST(nf_mapped_rows(m) == a->n && nf_mapped_columns(m) == a->dim, "another shape when mapped");
    for (size_t i = a->n; i-- > 0;) {
        FUZZ_MUST(nf_mapped_read(m, 1, &i, x) == NF_OK, "a row that cannot be read");
        FUZZ_MUST(memcmp(x, a->data + i * a->dim, a->dim * sizeof *x) == 0, "another row when mapped");
    }
    free(x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file(data, size);
    nf_array a;
    nf_mapped *m = nf_map_npy(path);
    const nf_status status = nf_load_npy(path, LIMIT, &a);
    if (status == NF_OK) {
        size_t all = 1;
        for (size_t i = 0; i < a.rank; i++)
            all *= a.extent[i];
        FUZZ_MUST(all && all == a.n * a.dim && all <= LIMIT / sizeof(nf_real), "an array beyond the limit");
        FUZZ_MUST(m || data[0] == 0x1f, "what can be loaded cannot be mapped");
        if (m)
            compare(m, &a);
        nf_array_free(&a);
    }
    FUZZ_MUST(!m || status == NF_OK || strstr(nf_error_message(), "max_bytes"), "what can be mapped cannot be loaded");
    nf_mapped_free(m);
    return 0;
}

/* A header for an array of any type and shape, with elements that fit as a rule, or a mutation of the file. */
static size_t change(uint8_t *file, size_t n, size_t room, fuzz_random *r)
{
    static const char *const type[] = {"|b1", "|u1", "<i2", ">i4", "<u8", "<f2", ">f4", "<f8", "<c8"};
    static const size_t width[] = {1, 1, 2, 4, 8, 2, 4, 8, 8};
    if (fuzz_below(r, 2))
        return LLVMFuzzerMutate(file, n < 4096 ? n : 4096, 4096);
    char shape[64] = "";
    size_t elements = 1, at = 0;
    for (size_t rank = fuzz_below(r, 4); rank > 0; rank--) {
        const size_t extent = fuzz_below(r, 40) ? 1 + fuzz_below(r, 4) : (size_t)fuzz_next(r) % 100000000;
        elements *= extent;
        at += (size_t)snprintf(shape + at, sizeof shape - at, "%zu,", extent);
    }
    const size_t k = fuzz_below(r, 9);
    const size_t length =
        (size_t)snprintf((char *)file + PREFIX, 200, "{'descr': '%s', 'fortran_order': %s, 'shape': (%s), }\n", type[k],
                         fuzz_below(r, 2) ? "True" : "False", shape);
    memcpy(file, "\x93NUMPY\1\0", 8);
    file[8] = (uint8_t)length;
    file[9] = 0;
    const size_t most = room - PREFIX - length, wanted = width[k] * elements < most ? width[k] * elements : most;
    for (size_t i = 0; i < wanted; i++)
        file[PREFIX + length + i] = wanted < 512 ? (uint8_t)fuzz_next(r) : 1;
    const size_t all = PREFIX + length + wanted - (fuzz_below(r, 4) ? 0 : wanted % 3);
    return fuzz_below(r, 4) || all > 4096 ? all : LLVMFuzzerMutate(file, all, 4096);
}

FUZZ_PACKED_MUTATOR(change)
