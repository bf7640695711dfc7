/* Equations x + g(x) = y and (I + J)^T a = b of a contraction g, each sample until it has reached its own goal.

   F(x) = x + g(x) - y falls by the factor Lip(g) in a step x - F(x) = y - g(x), which is Banach's iteration (Behrmann
   et al. 2019, algorithm 1). Where the Jacobian is at hand (exact log-dets), the step is Newton's, (I + J)^-1 F,
   otherwise Anderson's with one former point. A step after which |F| is not smaller is replaced by Banach's from the
   best point, after which it is. |x - x*| <= |F| / (1 - Lip(g)). */
#include "flows/residual/contraction.h"
#include "base/memory.h"
#include "flows/compose.h"
#include <math.h>
#include <string.h>

static const nfi_contraction *self_of(const nf_object *o)
{
    return nf_self(o);
}

/* Computes F at it->x, and where Newton's step is wanted that, into it->step. */
typedef struct equation {
    const nf_object *o;
    const nf_pass *p;
    const nf_real *right, *x; /* the right side; of the transposed equation the point of the Jacobian */
    nfi_contraction_saved *at;
    bool newton;
} equation;

/* F = x + g(x) - y. The net's records are on scratch, which the caller rewinds. */
static nf_status residual(const equation *e, const nfi_iteration *it)
{
    const size_t size = it->dim * it->ld;
    const nf_object *o = e->o;
    nf_status status;
    if (e->at) { /* a + J^T a - b */
        const nf_pass inner = nf_child_pass(o, 0, e->p);
        const nf_grad none = {.theta = NULL};
        status = nf_net_vjp(nf_child(o, 0), &inner, e->x, e->at->g, e->at->net, it->x, it->F, &none);
        for (size_t i = 0; i < size; i++)
            it->F[i] = it->x[i] + it->F[i] - e->right[i];
        return status;
    }
    nfi_contraction_saved q = {.g = NULL};
    status = nfi_contraction_net(o, e->p, it->x, &q);
    for (size_t i = 0; i < size && status == NF_OK; i++)
        it->F[i] = it->x[i] + q.g[i] - e->right[i];
    if (status != NF_OK || !e->newton)
        return status;
    double *log_det = nfi_zero_doubles(e->p->scratch, it->ld);
    status = log_det ? nfi_contraction_factors(o, e->p, it->x, log_det, &q) : NF_ENOMEM;
    if (status == NF_OK) {
        memcpy(it->step, it->F, size * sizeof *it->step);
        nfi_contraction_lu_solve(it->dim, it->ld, q.factors, false, it->step);
    }
    return status;
}

/* No residual is asked for that rounding does not allow. */
static const double least_tolerance = sizeof(nf_real) == sizeof(double) ? 1e-13 : 1e-5;

static nf_status solve(const equation *e, nf_real *x)
{
    const nf_residual_flow_options *options = &self_of(e->o)->options;
    nf_arena *scratch = e->p->scratch;
    const size_t dim = nf_object_shape(e->o)->dim_in, ld = e->p->ld;
    const nf_mark mark = nf_arena_mark(scratch);
    nf_real *a = nfi_zeros(scratch, 7 * dim + 4, ld), *row = a ? a + 7 * dim * ld : NULL;
    if (!a)
        return NF_ENOMEM;
    const nfi_iteration it = {.dim = dim,
                              .ld = ld,
                              .x = a,
                              .F = a + dim * ld,
                              .best = a + 2 * dim * ld,
                              .best_F = a + 3 * dim * ld,
                              .former = a + 4 * dim * ld,
                              .former_F = a + 5 * dim * ld,
                              .step = a + 6 * dim * ld,
                              .error = row,
                              .goal = row + ld,
                              .active = row + 2 * ld,
                              .good = row + 3 * ld};
    nfi_iteration_begin(&it, (nf_real)fmax(options->tolerance, least_tolerance), e->right);
    nf_status status = NF_OK;
    for (size_t k = 0; k < options->max_steps; k++) {
        const nf_mark inner = nf_arena_mark(scratch);
        status = residual(e, &it);
        nf_arena_rewind(scratch, inner);
        if (status != NF_OK || nfi_iteration_judge(&it, e->newton) == 0)
            break;
        if (!e->newton)
            nfi_iteration_anderson(&it, k == 0);
        nfi_iteration_move(&it);
    }
    if (status == NF_OK)
        nfi_iteration_end(&it, x);
    nf_arena_rewind(scratch, mark);
    return status;
}

nf_status nfi_contraction_invert(const nf_object *o, const nf_pass *p, const nf_real *y, nf_real *x)
{
    const equation e = {.o = o, .p = p, .right = y, .newton = self_of(o)->options.log_det == NF_LOG_DET_EXACT};
    return solve(&e, x);
}

nf_status nfi_contraction_solve_jt(const nf_object *o, const nf_pass *p, const nf_real *x, nfi_contraction_saved *q,
                                   const nf_real *gx, nf_real *gy)
{
    const equation e = {.o = o, .p = p, .right = gx, .x = x, .at = q};
    return solve(&e, gy);
}
