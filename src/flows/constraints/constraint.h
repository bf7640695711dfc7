/* What constraints have in common. They save nothing: a vector-Jacobian product is given x and y, which is enough.

   At the edge of its set an inverse takes logarithms of the distance u from the edge. If u < 0, y is outside the set,
   and the log-det is -infinity. If u < NFI_LEAST, the constant NFI_LEAST is taken instead of u. NaN stays NaN. */
#ifndef NFI_CONSTRAINT_H
#define NFI_CONSTRAINT_H
#include "base/kernel.h"
#include "math/vec.h"
#include "flows/compose.h"
#include "flows/constraints/types.h"

#ifdef NF_SINGLE
#define NFI_LEAST 1e-30F
#define NFI_TINY 1e-36F      /* its inverse, times a cotangent as large as a net may send, is finite */
#define NFI_MOST 1e18F       /* its square is far from overflow */
#define NFI_MOST_LOG 88.722F /* its exponential is finite */
#else
#define NFI_LEAST 1e-290
#define NFI_TINY 1e-306
#define NFI_MOST 1e150
#define NFI_MOST_LOG 709.78
#endif

/* e^y, where it is used as a derivative: always finite, so that its product with a cotangent of 0 is 0. */
NFI_INLINE nf_real nfi_slope_exp(nf_real y)
{
    return nfi_exp(y > NFI_MOST_LOG ? NFI_MOST_LOG : y);
}

/* The distance u from the edge whose logarithm is taken, and the derivative of that logarithm. */
NFI_INLINE nf_real nfi_inside(nf_real u)
{
    return u < NFI_LEAST ? NFI_LEAST : u;
}
NFI_INLINE nf_real nfi_inside_slope(nf_real u)
{
    return u < NFI_LEAST ? 0 : 1 / u;
}

/* -infinity outside the set, else 0. */
NFI_INLINE double nfi_support(nf_real u)
{
    return u < 0 ? -(double)INFINITY : 0;
}

/* Sets [rows x ld] to zeros. */
static inline void nfi_clear(nf_real *tile, size_t rows, size_t ld)
{
    for (size_t i = 0; i < rows * ld; i++)
        tile[i] = 0;
}

/* nf_flow_type.solve_jt for constraints: J^-T is J^T of the other direction. Forward, J may have more rows than
   columns, and J^T gy = gx many solutions; gy is the one that belongs to the inverse. In the inverse direction gx
   must be such that there is a solution. */
nf_status nfi_constraint_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                  const nf_real *y, void *saved, const nf_real *gx, nf_real *gy);

/* Makes a constraint without children. Its kernels must take any sample. `self` is freed by nfi_free, also on
   failure. */
nf_flow *nfi_constraint_new(const nf_flow_type *type, size_t dim_in, size_t dim_out, void *self);

/* L L^T, from [K x K] to [K x K], for a covariance or a correlation matrix (gram.c). */
nf_flow *nfi_gram(size_t K, bool correlation);

#endif
