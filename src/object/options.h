/* The values of options, for those who read and write them by their tables. */
#ifndef NFI_OPTIONS_H
#define NFI_OPTIONS_H
#include <nflow/options.h>

/* The number of names in a list of choices, and the choices made of a list. */
#define NFI_N_NAMES(names) (sizeof(names) / sizeof *(names))
#define NFI_CHOICES(what_, names_)                                   \
    {                                                                \
        .what = (what_), .n = NFI_N_NAMES(names_), .names = (names_) \
    }

/* The rebuild hook `rebuild` of a type whose options are in `table`. `make` is a constructor's call that makes the
   object from the options *q and from what the reader r says besides. */
#define NFI_REBUILD(noun, type, make)               \
    static nf_##noun *rebuild(nf_reader *r)         \
    {                                               \
        const type *q = nf_options_read(r, &table); \
        return q ? make : NULL;                     \
    }

/* The member of a struct of options that holds an option, or that holds a list's length. NULL stays NULL. */
static inline void *nfi_option_at(size_t offset, const void *options)
{
    return options ? (char *)(uintptr_t)options + offset : NULL;
}
/* Whether the default of an option is a number or list other than 0 or none. Then 0 must be asked for. */
bool nfi_option_has_default(const nf_option_table *table, const nf_option *o);
/* NF_EARG unless the value, which is item `item` of a list or (item NF_NONE) the option itself, is in the range. */
nf_status nfi_option_check(const nf_option_table *table, const nf_option *o, double value, size_t item);
/* NF_EARG if the table is NULL or of another version. `who` is for the message. */
nf_status nfi_option_table_check(const char *who, const nf_option_table *table);

#endif
