/* nf_load_csv: tables as text, plain and gzip, of every separator. */
#include "fuzz.h"
#include <math.h>

enum { LIMIT = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char separators[] = {0, ',', ';', '\t', ' '};
    if (size == 0)
        return 0;
    const nf_csv_options options = {
        .separator = separators[data[0] % 5], .header = (nf_csv_header)(data[0] / 5 % 3), .max_bytes = LIMIT};
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
