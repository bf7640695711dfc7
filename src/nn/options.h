/* What all constructors of nets check, and what all of them read from model files. */
#ifndef NFI_NET_OPTIONS_H
#define NFI_NET_OPTIONS_H
#include <nflow/net.h>

/* NF_EARG, with a message that begins with `who`, if one of these values is unknown or impossible. */
nf_status nfi_check_units(const char *who, nf_activation activation, nf_activation output, nf_initialisation init);
nf_status nfi_check_dropout(const char *who, double dropout);
/* NF_EARG unless the option `name` is finite. */
nf_status nfi_check_scale(const char *who, const char *name, double scale);
/* NF_EARG unless the n widths are given and positive. */
nf_status nfi_check_hidden(const char *who, size_t n, const size_t *hidden);

/* nfi_scale_of gives the scale that an option means: 0 means `normal`, a negative option means 0. nfi_option_of gives
   the option that means a scale. */
static inline double nfi_scale_of(double option, double normal)
{
    return option > 0 ? option : option < 0 ? 0 : normal;
}
static inline double nfi_option_of(double scale)
{
    return scale > 0 ? scale : -1;
}

/* Units and initialisations by name. A field may be left out when reading: the value then stays as it is. */
nf_status nfi_write_unit(nf_writer *w, const char *name, nf_activation unit);
nf_status nfi_read_unit(nf_reader *r, const char *name, nf_activation *unit);
nf_status nfi_write_init(nf_writer *w, nf_initialisation init);
nf_status nfi_read_init(nf_reader *r, nf_initialisation *init);
/* The widths of the *n hidden layers; *n is 0 if they are left out. The array belongs to the caller (nfi_free). NULL
   with an error. */
size_t *nfi_read_hidden(nf_reader *r, size_t *n);

#endif
