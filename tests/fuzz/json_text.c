/* The mutator of targets whose input is JSON as text: as JSON if it is some, otherwise, and one time in eight, as
 * bytes. */
#include "fuzz.h"
#include <jansson.h>

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    fuzz_random r = {seed};
    json_t *root = fuzz_below(&r, 8) ? json_loadb((const char *)data, size, 0, NULL) : NULL;
    if (root)
        fuzz_json(&root, &r);
    const size_t n = root ? json_dumpb(root, (char *)data, max_size, JSON_COMPACT) : 0;
    json_decref(root);
    return n && n <= max_size ? n : LLVMFuzzerMutate(data, size, max_size);
}
