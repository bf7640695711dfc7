/* Which of the library's instruction sets its kernels use: a number, from the least set (0) to the best. */
#ifndef NFI_INSTRUCTION_SET_H
#define NFI_INSTRUCTION_SET_H
#include <nflow/base.h>
#include <stdatomic.h>

/* The names of the sets that the library was built with, the least first, then NULL. The array is in the generated
   table of kernels. */
extern const char *const nfi_set_names[];
/* The set in use, or -1 before the first use. */
extern atomic_int nfi_set_in_use;

/* Chooses the set at the first use. */
int nfi_first_set(void);

static inline int nfi_set(void)
{
    const int set = atomic_load_explicit(&nfi_set_in_use, memory_order_relaxed);
    return set >= 0 ? set : nfi_first_set();
}

#endif
