/* What the tables of options of all nets have in common. */
#ifndef NFI_NET_OPTIONS_H
#define NFI_NET_OPTIONS_H
#include "object/options.h"
#include <nflow/net.h>

/* Units and initialisations by name. */
extern const nf_choices nfi_units, nfi_initialisations;

/* The members of rows of tables, for a struct of options of that type. */
#define NFI_HIDDEN_OPTION(type) \
    NF_OPTION_LIST(NF_OPTION_SIZES, type, hidden), .least = 1, .help = "widths of the hidden layers"
#define NFI_UNIT_OPTION(type, member, text) \
    NF_OPTION(NF_OPTION_CHOICE, type, member), .choices = &nfi_units, .help = text
#define NFI_INIT_OPTION(type) \
    NF_OPTION(NF_OPTION_CHOICE, type, init), .choices = &nfi_initialisations, .help = "how weights start"
#define NFI_LAST_SCALE_OPTION(type) \
    NF_OPTION(NF_OPTION_REAL, type, last_scale), .help = "multiplies the last layer's first numbers"
#define NFI_DROPOUT_OPTION(type) \
    NF_OPTION(NF_OPTION_REAL, type, dropout), .most = 1, .flags = NF_OPTION_BELOW, .help = "share of dropped units"

/* NF_EARG if the units of a last layer have a parameter. */
nf_status nfi_check_output(const char *who, nf_activation output);

#endif
