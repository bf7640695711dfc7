/* nf_load_npy: NumPy's files, plain and gzip. Half of the inputs get a header whose text is sound but for one change.
 */
#include "fuzz.h"

enum { LIMIT = 1 << 16, PREFIX = 10 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nf_array a;
    if (nf_load_npy(fuzz_file(data, size), LIMIT, &a) == NF_OK) {
        size_t all = 1;
        for (size_t i = 0; i < a.rank; i++)
            all *= a.extent[i];
        FUZZ_MUST(all && all == a.n * a.dim && all <= LIMIT / sizeof(nf_real), "an array beyond the limit");
        nf_array_free(&a);
    }
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    static const char *const type[] = {"|b1", "|u1", "<i2", ">i4", "<u8", "<f2", ">f4", "<f8", "<c8"};
    fuzz_random r = {seed};
    if (fuzz_below(&r, 2) || max_size < 256)
        return LLVMFuzzerMutate(data, size, max_size);
    char shape[64] = "";
    size_t elements = 1, n = 0;
    for (size_t rank = fuzz_below(&r, 4); rank > 0; rank--) {
        const size_t extent = fuzz_below(&r, 40) ? 1 + fuzz_below(&r, 4) : (size_t)fuzz_next(&r);
        elements *= extent;
        n += (size_t)snprintf(shape + n, sizeof shape - n, "%zu,", extent % 100000000);
    }
    const size_t length =
        (size_t)snprintf((char *)data + PREFIX, 200, "{'descr': '%s', 'fortran_order': %s, 'shape': (%s), }\n",
                         type[fuzz_below(&r, 9)], fuzz_below(&r, 2) ? "True" : "False", shape);
    memcpy(data, "\x93NUMPY\1\0", 8);
    data[8] = (uint8_t)length;
    data[9] = 0;
    const size_t room = max_size - PREFIX - length, wanted = 8 * elements < room ? 8 * elements : room;
    memset(data + PREFIX + length, 1 + (int)fuzz_below(&r, 250), wanted);
    const size_t all = PREFIX + length + wanted - (fuzz_below(&r, 4) ? wanted % 3 : 0);
    return fuzz_below(&r, 2) ? all : LLVMFuzzerMutate(data, all, max_size);
}
