/* nf_import: state dicts of other packages. What is imported must describe itself, and compute. */
#include "fuzz.h"

/* The last byte chooses options, so that those of no state dict are tried, too. */
static nf_import_options options_of(const uint8_t *data, size_t size)
{
    const unsigned choice = size ? data[size - 1] : 0;
    return (nf_import_options){.activation = choice & 8 ? NF_SWISH : NF_RELU,
                               .scale = choice & 16 ? NF_IMPORT_SCALE_SIGMOID : NF_IMPORT_SCALE_DEFAULT,
                               .split = choice & 32 ? NF_IMPORT_SPLIT_CHANNEL_INV : NF_IMPORT_SPLIT_DEFAULT,
                               .n_flows = choice & 64 ? 4 : 0,
                               .height = choice & 128 ? 8 : 0,
                               .width = 4};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nf_import_options options = options_of(data, size);
    const char *path = fuzz_file(data, size);
    nf_model *m = nf_import(path, &options);
    options.family = NF_IMPORT_NSF; /* without which zuko and nflows have no splines */
    m = m ? m : nf_import(path, &options);
    if (!m)
        return 0;
    FUZZ_MUST(nf_model_shape(m)->n_params <= 2 * NF_IMPORT_MOST_NUMBERS * (size + 64),
              "more numbers than the file allows");
    fuzz_describes_itself(nf_model_object(m), NULL);
    fuzz_compute(m);
    nf_model_free(m);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    fuzz_random r = {seed};
    fuzz_container c;
    const size_t how = fuzz_below(&r, 16);
    if (how == 0 || !fuzz_take_apart(data, size, &c))
        return LLVMFuzzerMutate(data, size, max_size);
    if (how < 9)
        fuzz_json(&c.header, &r);
    else
        fuzz_numbers(&c, &r);
    if (how < 7)
        fuzz_settle(&c, &r);
    const size_t n = fuzz_put_together(&c, data, max_size);
    return n ? n : LLVMFuzzerMutate(data, size, max_size);
}
