/* nf_load: the container, the description in it and the numbers. What loads must describe itself, and compute. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nf_model *m = nf_load(fuzz_file(data, size), NULL);
    if (!m)
        return 0;
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
    if (how < 3)
        fuzz_json(&c.header, &r);
    else if (how < 10)
        fuzz_metadata(&c, "architecture", &r);
    else
        fuzz_numbers(&c, &r);
    if (how >= 3 && how < 10 && fuzz_below(&r, 8))
        fuzz_fit_tensors(&c, &r);
    if (how != 1)
        fuzz_settle(&c, &r);
    const size_t n = fuzz_put_together(&c, data, max_size);
    return n ? n : LLVMFuzzerMutate(data, size, max_size);
}
