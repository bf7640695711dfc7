/* The counts and options of a fit, as a checkpoint holds them. */
#ifndef NFI_PROGRESS_H
#define NFI_PROGRESS_H
#include "fit/fitter.h"

struct json_t; /* a type of Jansson, whose header only .c files include */

/* Adds the fields to the object `to`. Returns NF_ENOMEM if there is no memory. */
nf_status nfi_progress_write(const nf_fitter *f, struct json_t *to);
/* Reads the fields into `f`, a copy of the fitter. Options that are not in the file stay as they are in `f`. Returns
   NF_EARG if the file is of another optimizer, or has a custom schedule and the fitter has none; NF_EFORMAT if the
   fields are damaged. */
nf_status nfi_progress_read(nf_fitter *f, const struct json_t *from, const char *path, const char *who);

#endif
