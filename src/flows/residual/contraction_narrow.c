/* Narrower tiles: what is left of a tile when some of its samples are done, see contraction.h. The net has to run again
   in the new tile for those who need its records, which costs less than one evaluation in the old one. */
#include "flows/residual/contraction.h"
#include "object/pack.h"
#include <string.h>

nfi_narrow nfi_narrow_none(const nf_pass *p)
{
    nfi_narrow q = {.p = *p, .ld = p->ld};
    q.p.tape = NULL;
    q.p.failed = NULL; /* these are not moved with the samples */
    q.p.penalty = NULL;
    q.p.g_penalty = NULL;
    return q;
}

nf_real *nfi_narrow_copy(const nfi_narrow *q, size_t rows, const nf_real *wide)
{
    nf_real *narrow = nf_arena_reals(q->p.scratch, rows, q->p.ld);
    for (size_t r = 0; narrow && r < rows; r++)
        for (size_t s = 0; s < q->p.n; s++)
            narrow[r * q->p.ld + s] = wide[r * q->ld + q->from[s]];
    if (narrow)
        nfi_pad(rows, q->p.n, q->p.ld, narrow);
    return narrow;
}

void nfi_narrow_put(const nfi_narrow *q, size_t rows, const nf_real *narrow, size_t ld, nf_real *wide)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t s = 0; s < q->p.n; s++)
            wide[r * ld + (q->column ? q->column[s] : s)] = narrow[r * q->p.ld + s];
}

nf_status nfi_narrow_to(const nf_object *o, const nf_real *go_on, nfi_narrow *q, bool *done)
{
    const size_t n_ctx = nf_object_shape(o)->n_ctx;
    size_t n = 0;
    for (size_t s = 0; s < q->p.n; s++)
        n += go_on[s] != 0;
    const size_t ld = (n + NFI_LANES - 1) / NFI_LANES * NFI_LANES;
    *done = n > 0 && 2 * ld <= q->p.ld;
    if (!*done)
        return NF_OK;
    uint32_t *from = nf_arena_alloc(q->p.scratch, 3 * n * sizeof *from), *column = from + n, *name = from + 2 * n;
    if (!from)
        return NF_ENOMEM;
    for (size_t s = 0, i = 0; s < q->p.n; s++)
        if (go_on[s] != 0) {
            from[i] = (uint32_t)s;
            column[i] = q->column ? q->column[s] : (uint32_t)s;
            name[i++] = q->p.noise.column ? q->p.noise.column[s] : (uint32_t)s;
        }
    const nf_real *ctx = q->p.ctx;
    q->ld = q->p.ld;
    q->p.n = n;
    q->p.ld = ld;
    q->from = from;
    q->column = column;
    q->p.noise.column = name;
    if (n_ctx && !(q->p.ctx = nfi_narrow_copy(q, n_ctx, ctx)))
        return NF_ENOMEM;
    return NF_OK;
}
