/* Numbers in order, which know where they came from. */
#ifndef NFI_RANKED_H
#define NFI_RANKED_H
#include <stddef.h>

typedef struct nfi_ranked {
    double value;
    size_t draw;
} nfi_ranked;

/* Sorts the list upwards; of equal values the one with the lower draw comes first. No value may be NaN. */
void nfi_rank(size_t n, nfi_ranked *list);

#endif
