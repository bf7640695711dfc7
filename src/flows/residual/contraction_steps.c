/* The steps of an iteration for F(x) = 0 of all samples of a tile; see contraction.h. A sample depends on no other: it
   keeps its best point, and stands still when it is done. */
#include "flows/residual/contraction.h"
#include "math/vec.h"
#include <math.h>

/* largest[s] = the largest |x| of column s; NaN if one of them is NaN. */
NFI_INLINE void column_most(size_t dim, size_t ld, const nf_real *x, nf_real *restrict largest)
{
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        largest[s] = 0;
    for (size_t i = 0; i < dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real a = nfi_abs(x[i * ld + s]);
            largest[s] = a <= largest[s] ? largest[s] : a;
        }
    }
}

void nfi_iteration_begin(const nfi_iteration *q, nf_real tolerance, const nf_real *b)
{
    const size_t dim = q->dim, ld = nfi_lanes(q->ld);
    nf_real *goal = q->goal, *active = q->active, *error = q->error;
    column_most(dim, ld, b, goal);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const nf_real none = goal[s] - goal[s]; /* 0, or NaN if it is infinite */
        active[s] = none == 0 ? 1 : 0;
        error[s] = NF_R(INFINITY);
        goal[s] = tolerance * (1 + goal[s]);
    }
    for (size_t i = 0; i < dim; i++) {
        NFI_SIMD
        for (size_t s = i * ld; s < (i + 1) * ld; s++)
            q->x[s] = q->best[s] = b[s];
    }
}

size_t nfi_iteration_judge(const nfi_iteration *q, bool polish)
{
    const size_t dim = q->dim, ld = nfi_lanes(q->ld);
    nf_real *good = q->good, *active = q->active, *error = q->error;
    size_t n = 0;
    column_most(dim, ld, q->F, good);
    for (size_t s = 0; s < ld; s++) {
        const nf_real now = good[s];
        good[s] = active[s] > 0 && now < error[s];
        error[s] = good[s] > 0 ? now : error[s];
        const nf_real rest = polish && active[s] > NF_R(0.5) ? NF_R(0.5) : 0;
        active[s] = active[s] > NF_R(0.5) && !(error[s] <= q->goal[s]) ? 1 : active[s] > 0 ? rest : 0;
        n += active[s] > 0;
    }
    for (size_t i = 0; i < dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const size_t at = i * ld + s;
            q->best[at] = good[s] > 0 ? q->x[at] : q->best[at];
            q->best_F[at] = good[s] > 0 ? q->F[at] : q->best_F[at];
        }
    }
    return n;
}

void nfi_iteration_move(const nfi_iteration *q)
{
    const size_t dim = q->dim, ld = nfi_lanes(q->ld);
    const nf_real *good = q->good, *active = q->active;
    for (size_t i = 0; i < dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const size_t at = i * ld + s;
            const nf_real to = good[s] > 0 ? q->x[at] - q->step[at] : q->best[at] - q->best_F[at];
            q->x[at] = active[s] > 0 ? to : q->best[at];
        }
    }
}

void nfi_iteration_anderson(const nfi_iteration *q, bool first)
{
    const size_t dim = q->dim, ld = nfi_lanes(q->ld);
    for (size_t s = 0; s < ld; s++) {
        double up = 0, down = 0;
        for (size_t i = 0; i < dim && !first; i++) {
            const double F = (double)q->F[i * ld + s], dF = F - (double)q->former_F[i * ld + s];
            up += F * dF;
            down += dF * dF;
        }
        const nf_real t = down > 0 ? (nf_real)(up / down) : 0;
        for (size_t i = 0; i < dim; i++) {
            const size_t at = i * ld + s;
            const nf_real F = q->F[at];
            const nf_real more = first ? 0 : t * ((F - q->former_F[at]) - (q->x[at] - q->former[at]));
            q->step[at] = F - more;
            q->former[at] = q->x[at];
            q->former_F[at] = F;
        }
    }
}

void nfi_iteration_end(const nfi_iteration *q, nf_real *x)
{
    const size_t dim = q->dim, ld = nfi_lanes(q->ld);
    for (size_t i = 0; i < dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            x[i * ld + s] = q->error[s] <= q->goal[s] ? q->best[i * ld + s] : NF_R(NAN);
    }
}
