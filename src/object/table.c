/* See table.h. */
#include "object/table.h"
#include <string.h>

nf_status nfi_check_abi(const char *who, const char *table, size_t abi, size_t least, size_t size)
{
    if (abi > size)
        return nf_error(NF_EARG,
                        "%s: `%s->abi` is %zu, but this library's table has %zu bytes: the type was compiled for a "
                        "later version, or abi is not its size",
                        who, table, abi, size);
    if (abi < least || abi % _Alignof(void (*)(void)))
        return nf_error(NF_EARG,
                        "%s: `%s->abi` is %zu, which is no table's size: the required hooks end at byte %zu, and this "
                        "library's table has %zu bytes",
                        who, table, abi, least, size);
    return NF_OK;
}

void nfi_complete_table(void *to, const void *from, size_t abi, size_t size)
{
    memset(to, 0, size);
    memcpy(to, from, abi < size ? abi : size);
}
