/* The choice among the instruction sets that the library's kernels were compiled for. At the first use it is the set
   that the environment variable NFLOW_ISA names, otherwise the best that the processor has. The choice is one number.
   This is the library's only writable state that threads share; if several make the first choice at once, all of them
   choose the same. */
#include "base/instruction_set.h"
#include <stdlib.h>
#include <string.h>

atomic_int nfi_set_in_use = -1;

/* Whether the processor and the system have what meson.build tells the compiler about a set. The least set needs
   nothing. */
static bool processor_has(const char *name)
{
#ifdef __x86_64__
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (strcmp(name, "avx2") == 0)
        return avx2;
    if (strcmp(name, "avx512") == 0)
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
#endif
    return strcmp(name, nfi_set_names[0]) == 0;
}

static int best(void)
{
    int set = 0;
    for (int i = 0; nfi_set_names[i]; i++)
        if (processor_has(nfi_set_names[i]))
            set = i;
    return set;
}

/* The number of the set with this name; -1 if the library has no such set. */
static int find(const char *name)
{
    for (int i = 0; nfi_set_names[i]; i++)
        if (strcmp(name, nfi_set_names[i]) == 0)
            return i;
    return -1;
}

int nfi_first_set(void)
{
    const char *wanted = getenv("NFLOW_ISA");
    int set = wanted ? find(wanted) : -1;
    if (set < 0 || !processor_has(wanted))
        set = best();
    atomic_store_explicit(&nfi_set_in_use, set, memory_order_relaxed);
    return set;
}

const char *nf_instruction_set(void)
{
    return nfi_set_names[nfi_set()];
}

nf_status nf_choose_instruction_set(const char *name)
{
    const int set = name ? find(name) : best();
    if (set < 0)
        return nf_error(NF_EARG, "nf_choose_instruction_set: this library was not built for '%s'", name);
    if (name && !processor_has(name))
        return nf_error(NF_EUNSUPPORTED, "nf_choose_instruction_set: this processor does not have '%s'", name);
    atomic_store_explicit(&nfi_set_in_use, set, memory_order_relaxed);
    return NF_OK;
}
