/* Equations x + g(x) = y and (I + J)^T a = b of a contraction g, each sample until it has reached its own goal.

   F(x) = x + g(x) - y falls by the factor Lip(g) in a step x - F(x) = y - g(x), which is Banach's iteration (Behrmann
   et al. 2019, algorithm 1). Where the Jacobian is at hand (exact log-dets), the step is Newton's, (I + J)^-1 F,
   otherwise Anderson's with one former point. A step after which |F| is not smaller is replaced by Banach's from the
   best point, after which it is. |x - x*| <= |F| / (1 - Lip(g)). Samples that are done are left out once half of a tile
   is free of them. */
#include "flows/residual/contraction.h"
#include "base/memory.h"
#include "flows/compose.h"
#include "object/pack.h"
#include <math.h>
#include <string.h>

/* The equation of the samples that go on: its right side; of the transposed one, `at` and x, the point of J. */
typedef struct equation {
    const nf_object *o;
    nfi_narrow tile;
    bool newton, transposed;
    const nf_real *right, *x;
    nfi_contraction_saved at;
} equation;

/* F at it->x, and with Newton's steps that step, into it->step, and the log-det. The net's records are on scratch,
   which the caller rewinds. */
static nf_status residual(const equation *e, const nfi_iteration *it, double *log_det)
{
    const size_t size = it->dim * it->ld;
    const nf_object *o = e->o;
    const nf_pass *p = &e->tile.p;
    nf_status status;
    if (e->transposed) { /* a + J^T a - b */
        const nf_pass inner = nf_child_pass(o, 0, p);
        const nf_grad none = {.theta = NULL};
        status = nf_net_vjp(nf_child(o, 0), &inner, e->x, e->at.g, e->at.net, it->x, it->F, &none);
        for (size_t i = 0; i < size; i++)
            it->F[i] = it->x[i] + it->F[i] - e->right[i];
        return status;
    }
    nfi_contraction_saved q = {.g = NULL};
    status = nfi_contraction_net(o, p, it->x, &q);
    for (size_t i = 0; i < size && status == NF_OK; i++)
        it->F[i] = it->x[i] + q.g[i] - e->right[i];
    if (status != NF_OK || !e->newton)
        return status;
    memset(log_det, 0, it->ld * sizeof *log_det);
    status = nfi_contraction_factors(o, p, it->x, log_det, &q);
    if (status == NF_OK) {
        memcpy(it->step, it->F, size * sizeof *it->step);
        nfi_contraction_lu_solve(it->dim, it->ld, q.factors, false, it->step);
    }
    return status;
}

/* The arrays of an iteration, one after the other. */
static size_t rows_of(size_t dim)
{
    return 7 * dim + 4;
}
static nfi_iteration iteration_at(size_t dim, size_t ld, nf_real *a)
{
    nf_real *row = a + 7 * dim * ld;
    return (nfi_iteration){.dim = dim,
                           .ld = ld,
                           .best = a,
                           .x = a + dim * ld,
                           .F = a + 2 * dim * ld,
                           .best_F = a + 3 * dim * ld,
                           .former = a + 4 * dim * ld,
                           .former_F = a + 5 * dim * ld,
                           .step = a + 6 * dim * ld,
                           .error = row,
                           .goal = row + ld,
                           .active = row + 2 * ld,
                           .good = row + 3 * ld};
}

/* Goes on without the samples that are done, if that pays, after these are put to their place in `whole`. */
static nf_status narrow(equation *e, nfi_iteration *it, const nfi_iteration *whole)
{
    bool done;
    const nfi_narrow before = e->tile;
    const size_t dim = it->dim;
    nf_status status = nfi_narrow_to(e->o, it->active, &e->tile, &done);
    if (status != NF_OK || !done)
        return status;
    if (it->best != whole->best)
        nfi_narrow_put(&before, rows_of(dim), it->best, whole->ld, whole->best);
    nf_real *a = nfi_narrow_copy(&e->tile, rows_of(dim), it->best);
    e->right = nfi_narrow_copy(&e->tile, dim, e->right);
    if (!a || !e->right)
        return NF_ENOMEM;
    *it = iteration_at(dim, e->tile.p.ld, a);
    if (!e->transposed)
        return NF_OK;
    e->x = nfi_narrow_copy(&e->tile, dim, e->x);
    return e->x ? nfi_contraction_net(e->o, &e->tile.p, e->x, &e->at) : NF_ENOMEM;
}

/* No residual is asked for that rounding does not allow. */
static const double least_tolerance = sizeof(nf_real) == sizeof(double) ? 1e-13 : 1e-5;

/* log_det [ld] is that of the solution, from Newton's steps; without them it may be NULL. */
static nf_status solve(equation *e, nf_real *x, double *log_det)
{
    const nf_residual_flow_options *options = &nfi_contraction_of(e->o)->options;
    nf_arena *scratch = e->tile.p.scratch;
    const size_t dim = nf_object_shape(e->o)->dim_in, n_samples = e->tile.p.n, ld = e->tile.p.ld;
    const nf_mark mark = nf_arena_mark(scratch);
    nf_real *a = nfi_zeros(scratch, rows_of(dim), ld);
    double *now = nfi_zero_doubles(scratch, ld);
    if (!a || !now) {
        nf_arena_rewind(scratch, mark);
        return NF_ENOMEM;
    }
    const nfi_iteration whole = iteration_at(dim, ld, a);
    nfi_iteration it = whole;
    nfi_iteration_begin(&it, (nf_real)fmax(options->tolerance, least_tolerance), e->right);
    nf_status status = NF_OK;
    for (size_t k = 0; k < options->max_steps; k++) {
        const nf_mark inner = nf_arena_mark(scratch);
        status = residual(e, &it, now);
        nf_arena_rewind(scratch, inner);
        if (status != NF_OK)
            break;
        const size_t n = nfi_iteration_judge(&it, e->newton);
        for (size_t s = 0; e->newton && s < e->tile.p.n; s++)
            if (it.good[s] > 0)
                log_det[e->tile.column ? e->tile.column[s] : s] = now[s];
        if (n == 0)
            break;
        if (!e->newton)
            nfi_iteration_anderson(&it, k == 0);
        nfi_iteration_move(&it);
        if ((status = narrow(e, &it, &whole)) != NF_OK)
            break;
    }
    if (status == NF_OK) {
        if (it.best != whole.best)
            nfi_narrow_put(&e->tile, rows_of(dim), it.best, ld, whole.best);
        nfi_iteration_end(&whole, x);
        if (e->transposed)
            nfi_pad_zero(dim, n_samples, ld, x);
        else
            nfi_pad(dim, n_samples, ld, x);
        for (size_t s = 0; e->newton && s < n_samples; s++)
            log_det[s] += (double)(x[s] - x[s]); /* NaN where there is no solution */
    }
    nf_arena_rewind(scratch, mark);
    return status;
}

nf_status nfi_contraction_invert(const nf_object *o, const nf_pass *p, const nf_real *y, nf_real *x, double *log_det)
{
    equation e = {.o = o, .tile = nfi_narrow_none(p), .right = y, .newton = nfi_contraction_of(o)->newton};
    return solve(&e, x, log_det);
}

nf_status nfi_contraction_solve_jt(const nf_object *o, const nf_pass *p, const nf_real *x, nfi_contraction_saved *q,
                                   const nf_real *gx, nf_real *gy)
{
    equation e = {.o = o, .tile = nfi_narrow_none(p), .transposed = true, .right = gx, .x = x, .at = *q};
    return solve(&e, gy, NULL);
}
