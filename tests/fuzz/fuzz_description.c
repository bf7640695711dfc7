/* nf_rebuild: descriptions as text. What rebuilds must describe itself. */
#include "fuzz.h"
#include <ctype.h>

enum { LONG_NUMBER = 5, MOST_LONG_NUMBERS = 1 };

/* Memory may grow with the number of features and the length of the text (model.h): numbers of features above 9999 are
   few here, so that what exceeds the limit of memory is a finding. */
static bool asks_for_much(const uint8_t *text, size_t size)
{
    size_t digits = 0, many = 0;
    for (size_t i = 0; i < size; i++) {
        digits = isdigit(text[i]) ? digits + 1 : 0;
        many += digits == LONG_NUMBER;
    }
    return many > MOST_LONG_NUMBERS;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (asks_for_much(data, size))
        return 0;
    char *text = malloc(size + 1);
    memcpy(text, data, size);
    text[size] = '\0';
    nf_object *o = nf_rebuild(text, NULL);
    free(text);
    if (o)
        fuzz_describes_itself(o, NULL);
    nf_object_free(o);
    return 0;
}
