/* What constraints share. They save nothing: a vector-Jacobian product has x and y, and that is enough.

   Edges. An inverse takes logarithms of distances u from the edge of its set. u < 0 is outside: the log-det becomes
   -infinity there. 0 <= u < NFI_LEAST is taken for NFI_LEAST, a constant; NaN stays NaN. */
#ifndef NFI_CONSTRAINT_H
#define NFI_CONSTRAINT_H
#include "core/kernel.h"
#include "core/vec.h"
#include "flows/compose.h"
#include "flows/constraints/types.h"

#ifdef NF_SINGLE
#define NFI_LEAST 1e-30F
#define NFI_TINY 1e-36F      /* whose inverse, times what a net may send, is finite */
#define NFI_MOST 1e18F       /* whose square is far from overflow */
#define NFI_MOST_LOG 88.722F /* whose exponential is finite */
#else
#define NFI_LEAST 1e-290
#define NFI_TINY 1e-306
#define NFI_MOST 1e150
#define NFI_MOST_LOG 709.78
#endif

/* e^y as a derivative: finite, so that a cotangent of 0 stays 0. */
NFI_INLINE nf_real nfi_slope_exp(nf_real y)
{
    return nfi_exp(y > NFI_MOST_LOG ? NFI_MOST_LOG : y);
}

/* A distance from the edge as logarithms take it, and the derivative of that logarithm. */
NFI_INLINE nf_real nfi_inside(nf_real u)
{
    return u < NFI_LEAST ? NFI_LEAST : u;
}
NFI_INLINE nf_real nfi_inside_slope(nf_real u)
{
    return u < NFI_LEAST ? 0 : 1 / u;
}

/* -infinity outside. */
NFI_INLINE double nfi_support(nf_real u)
{
    return u < 0 ? -(double)INFINITY : 0;
}

/* [rows x ld] becomes zeros. */
static inline void nfi_clear(nf_real *tile, size_t rows, size_t ld)
{
    for (size_t i = 0; i < rows * ld; i++)
        tile[i] = 0;
}

/* An nf_flow_type.solve_jt for constraints: J^-T by the other direction's J^T. Forward, where J is tall, gy is that of
   the solutions of J^T gy = gx which belongs to the inverse; in the inverse direction gx must have a solution. */
nf_status nfi_constraint_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                  const nf_real *y, void *saved, const nf_real *gx, nf_real *gy);

/* A constraint without children: every kernel takes any sample. `self` is nfi_free's, also on failure. */
nf_flow *nfi_constraint_new(const nf_flow_type *type, size_t dim_in, size_t dim_out, void *self);

/* L L^T, [K x K] to [K x K], of a covariance or of a correlation matrix (gram.c). */
nf_flow *nfi_gram(size_t K, bool correlation);

#endif
