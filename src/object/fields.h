/* Reading fields of a description that may be left out. If a field is left out, *value keeps the default that it has;
   otherwise as nf_read_*. */
#ifndef NFI_FIELDS_H
#define NFI_FIELDS_H
#include <nflow/description.h>

static inline nf_status nfi_maybe_size(nf_reader *r, const char *name, size_t *value)
{
    uint64_t read = 0;
    if (!nf_read_has(r, name))
        return NF_OK;
    nf_status status = nf_read_integer(r, name, &read);
    if (status == NF_OK)
        *value = (size_t)read;
    return status;
}
static inline nf_status nfi_maybe_number(nf_reader *r, const char *name, double *value)
{
    return nf_read_has(r, name) ? nf_read_number(r, name, value) : NF_OK;
}
static inline nf_status nfi_maybe_bool(nf_reader *r, const char *name, bool *value)
{
    return nf_read_has(r, name) ? nf_read_bool(r, name, value) : NF_OK;
}
static inline nf_status nfi_maybe_choice(nf_reader *r, const char *name, size_t n, const char *const *names,
                                         size_t *value)
{
    return nf_read_has(r, name) ? nf_read_choice(r, name, n, names, value) : NF_OK;
}

/* The number of names in a list of choices. */
#define NFI_N_NAMES(names) (sizeof(names) / sizeof *(names))

#endif
