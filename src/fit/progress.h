/* The counts and options of a fit in a checkpoint. */
#ifndef NFI_PROGRESS_H
#define NFI_PROGRESS_H
#include "fit/fitter.h"

struct json_t; /* Jansson's, which only .c files include */

/* Adds the fields to an object. NF_ENOMEM. */
nf_status nfi_progress_write(const nf_fitter *f, struct json_t *to);
/* Into a copy of the fitter, whose options say what is the caller's. NF_EARG for another optimizer, or a custom
   schedule where the fitter has none; NF_EFORMAT. */
nf_status nfi_progress_read(nf_fitter *f, const struct json_t *from, const char *path, const char *who);

#endif
