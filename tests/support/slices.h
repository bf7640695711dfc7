/* The tensors of an object's parameters as a text: "name@offset:rows" or "name@offset:rowsxcolumns", each with a space
   behind it. */
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
    at = strlen(text);
    snprintf(text + at, 1000 - at, rank == 2 ? "x%zu " : " ", extents[rank - 1]);
}

#endif
