/* See live.h. */
#include "object/live.h"
#include "math/rows.h"
#include <float.h>
#include <math.h>
#include <string.h>

void nfi_live_begin(nfi_live *l, nf_pass *p)
{
    l->n_failed = 0;
    memset(l->failed, 0, p->n);
    p->failed = l->failed;
}

void nfi_live_resume(nfi_live *l, nf_pass *p, size_t n_failed, const uint32_t *column)
{
    nfi_live_begin(l, p);
    l->n_failed = n_failed;
    if (n_failed == 0)
        return;
    memcpy(l->column, column, p->n * sizeof *column);
    p->noise.column = l->column;
}

bool nfi_live_drop(nfi_live *l, nf_pass *p)
{
    size_t n = 0;
    if (!memchr(l->failed, 1, p->n))
        return false;
    for (size_t s = 0; s < p->n; s++)
        if (!l->failed[s])
            l->column[n++] = p->noise.column ? l->column[s] : (uint32_t)s;
    l->n_failed += p->n - n;
    p->n = n;
    p->noise.column = l->column;
    memset(l->failed, 0, n);
    return true;
}

nf_status nfi_live_run(nfi_live *l, nf_pass *p, nfi_thread *memory, nfi_live_fn *f, void *user)
{
    const nf_mark tape = nf_arena_mark(&memory->tape), scratch = nf_arena_mark(&memory->scratch);
    nfi_live_begin(l, p);
    for (;;) {
        const nf_status status = f(user, p, l->failed);
        if (status != NF_OK)
            return status;
        if (!nfi_live_drop(l, p) || p->n == 0)
            return NF_OK;
        nf_arena_rewind(&memory->tape, tape);
        nf_arena_rewind(&memory->scratch, scratch);
    }
}

bool nf_leave_out(const nf_pass *p, const double *value)
{
    uint64_t any = 0; /* nearly always 0; the compiler vectorises this loop */
    for (size_t s = 0; s < p->n; s++)
        any |= (uint64_t) !(fabs(value[s]) <= DBL_MAX);
    for (size_t s = 0; any && p->failed && s < p->n; s++)
        if (!isfinite(value[s]))
            p->failed[s] = 1;
    return any && p->failed;
}

size_t nfi_spoil(const nf_pass *p, const nfi_flow_of_tile *io, unsigned char *flags)
{
    size_t count = 0;
    nf_real mark[NFI_WIDEST] = {0};
    nfi_mark_nan(io->n_x, p->ld, io->x, mark);
    nfi_mark_nan(io->n_ctx, p->ld, p->ctx, mark);
    nfi_mark_nan(io->n_y, p->ld, io->y, mark);
    for (size_t s = 0; s < p->n; s++) {
        const bool failed = isnan(mark[s]) || (io->log && isnan(io->log[s]));
        if (flags)
            flags[s] = failed;
        if (!failed)
            continue;
        count++;
        for (size_t r = 0; r < io->n_y; r++)
            io->y[r * p->ld + s] = NAN;
        if (io->log)
            io->log[s] = NAN;
    }
    return count;
}
