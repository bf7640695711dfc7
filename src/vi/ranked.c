/* See ranked.h. */
#include "vi/ranked.h"
#include <stdlib.h>

static int compare(const void *a, const void *b)
{
    const nfi_ranked *x = a, *y = b;
    if (x->value != y->value)
        return x->value < y->value ? -1 : 1;
    return x->draw < y->draw ? -1 : x->draw > y->draw;
}

void nfi_rank(size_t n, nfi_ranked *list)
{
    qsort(list, n, sizeof *list, compare);
}
