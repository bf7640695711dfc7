/* What the files of draws have in common. */
#ifndef NFI_DRAWS_FILE_H
#define NFI_DRAWS_FILE_H
#include <nflow/draws.h>

/* NF_EARG if something is missing or, where they are wanted, if the names are bad; NF_ENOMEM. */
nf_status nfi_check_draws(const char *who, const char *path, const nf_draws *draws, bool names);

#endif
