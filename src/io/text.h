/* Text files that appear whole or not at all. Numbers are written as in C, whatever the program's locale is. */
#ifndef NFI_TEXT_H
#define NFI_TEXT_H
#include "io/atomic.h"

typedef struct nfi_text nfi_text;

/* A new file. Until it is closed, the calling thread's locale is C's. `who` and `path` are borrowed. NULL on NF_EIO,
   NF_ENOMEM. */
nfi_text *nfi_text_open(const char *who, const char *path);
/* These append. A failure is kept, and later ones do nothing. */
void nfi_text_put(nfi_text *t, const char *text);
void nfi_text_put_part(nfi_text *t, const char *text, size_t length);
/* 17 significant digits; of what is not finite NaN, Inf or -Inf between two `quote`. */
void nfi_text_put_number(nfi_text *t, double x, const char *quote);
/* Replaces the old file if there was no failure and `status` is NF_OK. Returns the first failure. */
nf_status nfi_text_close(nfi_text *t, nf_status status);

#endif
