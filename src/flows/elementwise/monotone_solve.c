/* The loop of nf_monotone_solve: evaluations, and after each a step of all samples (monotone_kernels.c). */
#include "flows/elementwise/monotone.h"

enum { MOST_EVALUATIONS = 140 };

nf_status nf_monotone_solve(size_t ld, nf_monotone_fn *f, void *user, const nf_real *y, nf_real *x, nf_arena *scratch)
{
    const nf_mark mark = nf_arena_mark(scratch);
    nf_real *at = nf_arena_reals(scratch, 1, ld), *slope = nf_arena_reals(scratch, 1, ld);
    nf_real *work = nf_arena_reals(scratch, NFI_SOLVE_ROWS, ld);
    nf_status status = at && slope && work ? NF_OK : NF_ENOMEM;
    if (status == NF_OK)
        nfi_solve_begin(ld, y, x, work);
    for (int step = 0; step < MOST_EVALUATIONS && status == NF_OK; step++) {
        status = f(user, x, at, slope);
        if (status == NF_OK && !(nfi_solve_step(ld, step, y, at, slope, x, work) > 0))
            break;
    }
    if (status == NF_OK)
        nfi_solve_end(ld, x, work);
    nf_arena_rewind(scratch, mark);
    return status;
}
