/* Tables of types may be smaller than this library's if they were compiled for an earlier version. */
#ifndef NFI_TABLE_H
#define NFI_TABLE_H
#include <nflow/object.h>

/* Where a member of a table ends. */
#define NFI_END_OF(type, member) (offsetof(type, member) + sizeof(((type *)0)->member))

/* Whether a table of `abi` bytes contains the member that ends at byte `end`. A size that no table can have counts as
   no. */
static inline bool nfi_table_reaches(size_t abi, size_t end)
{
    enum { LARGEST = 4096 };
    return abi >= end && abi <= LARGEST;
}

/* Whether this library can take a table of `abi` bytes, if its own has `size` bytes. NF_EARG if abi is larger than
   size, or smaller than `least`, where the hooks end that every version has required. `who` and `table`, the argument's
   name, are for messages. */
nf_status nfi_check_abi(const char *who, const char *table, size_t abi, size_t least, size_t size);
/* Copies a table of `abi` bytes into one of this library's size [size bytes]. The members that it lacks become
   zeros. */
void nfi_complete_table(void *to, const void *from, size_t abi, size_t size);

#endif
