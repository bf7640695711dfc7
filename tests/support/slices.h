/* The tensors of an object's parameters as a text: "name@offset:extent" or "name@offset:extentxextent..." with all its
   extents, each with a space behind it. */
#ifndef SLICES_H
#define SLICES_H
#include <stdio.h>
#include <string.h>

/* An nf_slice_fn; user is the text, of 1000 bytes. */
static inline void list_slice(void *user, const char *name, size_t offset, size_t rank, const size_t *extents)
{
    char *text = user;
    size_t at = strlen(text);
    snprintf(text + at, 1000 - at, "%s@%zu:%zu", name, offset, extents[0]);
    for (size_t i = 1; i <= rank; i++) {
        at = strlen(text);
        snprintf(text + at, 1000 - at, i < rank ? "x%zu" : " ", i < rank ? extents[i] : 0);
    }
}

#endif
