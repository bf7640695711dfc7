/* The option of benchmarks that says which instruction set to measure. */
#ifndef BENCH_ISA_H
#define BENCH_ISA_H
#include "cli.h"

/* Values and help of the option. */
#define BENCH_ISA_HELP "sse2|avx2|avx512|neon", "instruction set; by default the best"

/* Takes the set that the option named; NULL: as the library chooses. */
static inline void bench_isa(const char *name)
{
    if (name)
        cli_ok(nf_choose_instruction_set(name));
}

#endif
