/* nf_load_csv: tables as text, plain and gzip, of every separator. */
#include "fuzz.h"
#include <math.h>

enum { LIMIT = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char separators[] = {0, ',', ';', '\t', ' '};
    if (size == 0)
        return 0;
    const nf_csv_options options = {.separator = separators[data[0] % 5],
                                    .header = (nf_csv_header)(data[0] / 5 % 3),
                                    .max_bytes = LIMIT,
                                    .comment = data[0] / 15 % 2 ? '#' : 0};
    nf_table t;
    if (nf_load_csv(fuzz_file(data + 1, size - 1), &options, &t) == NF_OK) {
        FUZZ_MUST(t.n && t.dim && t.n <= LIMIT / sizeof(nf_real) / t.dim && t.data, "a table beyond the limit");
        size_t letters = 0;
        for (size_t i = 0; t.name && i < t.dim; i++)
            letters += strlen(t.name[i]);
        FUZZ_MUST(letters <= LIMIT + 65536 + 4096, "names without an end");
        for (size_t i = 0; i < t.n * t.dim; i++)
            FUZZ_MUST(isfinite(t.data[i]), "a number that is not finite");
        nf_table_free(&t);
    }
    return 0;
}

/* Mutates the text, or seldom makes it a long one: columns, names or rows without an end. */
static size_t change(uint8_t *text, size_t n, size_t room, fuzz_random *r)
{
    static const char *const words[] = {"1,", "7\n", "name,", "\"a\"\"b\"\t", "3 ", ";", "\r\n", "#x\n"};
    if (fuzz_below(r, 64))
        return LLVMFuzzerMutate(text, n < 4096 ? n : 4096, 4096);
    const char *word = words[fuzz_below(r, 8)];
    const size_t length = strlen(word), all = fuzz_below(r, room);
    for (size_t i = 0; i < all; i++)
        text[i] = (uint8_t)word[i % length];
    return all;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    fuzz_random r = {seed};
    if (size < 2 || max_size < 2)
        return LLVMFuzzerMutate(data, size, max_size);
    if (fuzz_below(&r, 8) == 0)
        data[0] = (uint8_t)fuzz_next(&r);
    return 1 + fuzz_packed(data + 1, size - 1, max_size - 1, &r, change);
}
