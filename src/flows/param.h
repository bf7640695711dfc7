/* How a layer's kernels read parameters. The samples of a tile either share them, or each sample has its own. */
#ifndef NFI_PARAM_H
#define NFI_PARAM_H
#include "base/kernel.h"
#include <nflow/object.h>

/* Parameter i of sample s: theta is [n] if stride is 0, [n x ld] if it is 1. stride is a constant wherever this
   function is used. */
NFI_INLINE nf_real nfi_param(const nf_real *theta, size_t stride, size_t ld, size_t i, size_t s)
{
    return stride ? theta[i * ld + s] : theta[i];
}

/* The same for a vector of samples from s on. */
#define NFI_PARAM_VEC(theta, stride, ld, i, s)               \
    ((stride) ? NFI_CONST_VEC_AT((theta) + (i) * (ld) + (s)) \
              : (theta)[i] - (nfi_vec){0}) /* x - 0 is x and costs nothing */

/* Adds to the gradient of one parameter, g [1] or [ld]: row a, or the products of rows a and b (b may be NULL). If
   stride is 0 the sum over samples is added, else each sample's number. */
NFI_INLINE void nfi_param_add(size_t stride, size_t ld, const nf_real *a, const nf_real *b, nf_real *g)
{
    if (!stride) {
        *g += b ? nfi_dot(ld, a, b) : nfi_row_sum(ld, a);
        return;
    }
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        g[s] += b ? a[s] * b[s] : a[s];
}

/* The number of columns of a quantity that is computed from parameters alone. */
NFI_INLINE size_t nfi_param_columns(size_t stride, size_t ld)
{
    return stride ? ld : 1;
}

/* Memory for `rows` rows [ld], followed by `n` (at most NFI_LANES) such quantities. NULL if there is no memory. */
static inline nf_real *nfi_param_alloc(const nf_pass *p, nf_arena *a, size_t rows, size_t n)
{
    return p->theta_stride ? nf_arena_reals(a, rows + n, p->ld) : nf_arena_reals(a, 1, rows * p->ld + NFI_LANES);
}

/* Calls body(stride, ...). The compiler makes two copies: for shared parameters and for parameters per sample. */
#define NFI_BY_STRIDE(body, stride, ...) \
    do {                                 \
        if (stride)                      \
            body(1, __VA_ARGS__);        \
        else                             \
            body(0, __VA_ARGS__);        \
    } while (0)

#ifdef NF_SINGLE
#define NFI_MIN_NORMAL 1.17549435e-38F
#define NFI_LARGEST 3.40282347e+38F
#define NFI_FAR 0x1p120F /* stands for numbers that would overflow where infinity would become NaN */
#define NFI_EPSILON 1.1920929e-7F
#else
#define NFI_MIN_NORMAL 2.2250738585072014e-308
#define NFI_LARGEST 1.7976931348623157e+308
#define NFI_FAR 0x1p1000
#define NFI_EPSILON 2.220446049250313e-16
#endif

/* A positive number that has become 0 by underflow, or nearly, becomes the smallest normal one. NaN stays NaN. */
NFI_INLINE nf_real nfi_positive(nf_real v)
{
    return v < NFI_MIN_NORMAL ? NFI_MIN_NORMAL : v;
}

#endif
