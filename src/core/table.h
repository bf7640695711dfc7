/* Tables of types that may be smaller than this library's, since they were compiled for an earlier version. */
#ifndef NFI_TABLE_H
#define NFI_TABLE_H
#include <nflow/object.h>

/* Where a member of a table ends. */
#define NFI_END_OF(type, member) (offsetof(type, member) + sizeof(((type *)0)->member))

/* Whether a table of `abi` bytes has what ends at `end`. Sizes that no table can have are not believed. */
static inline bool nfi_table_reaches(size_t abi, size_t end)
{
    enum { LARGEST = 4096 };
    return abi >= end && abi <= LARGEST;
}

/* NF_EARG, in the name of `who`, unless `abi` is the size of a table that this library, whose own has `size` bytes, can
   take: not larger, and with all up to `least`, the end of what every version has required. `table` names the argument
   in messages. */
nf_status nfi_check_abi(const char *who, const char *table, size_t abi, size_t least, size_t size);
/* The table in this library's size [size bytes]: what it lacks is zeros. */
void nfi_complete_table(void *to, const void *from, size_t abi, size_t size);

#endif
