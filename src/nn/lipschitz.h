/* Kernels of nets whose matrices have a bounded largest singular value. */
#ifndef NFI_LIPSCHITZ_H
#define NFI_LIPSCHITZ_H
#include "base/kernel.h"

/* What an iteration for the largest singular value of W found: sigma = u^T W v, and how long W^T u - sigma v is. A
   singular value of W is within `residual` of sigma. */
typedef struct nfi_singular {
    nf_real sigma, residual;
} nfi_singular;

/* Power iteration, u = W v / |W v|, v = W^T u / |W^T u|: until the residual is at most tolerance sigma, or `most`
   times. W [rows x cols] is row-major with `stride` numbers a row. v [cols] is the unit vector to begin with, and is
   overwritten, as are u [rows] and spare [cols]. If W is 0, so are the results, and v stays. */
NFI_KERNEL void nfi_power_iteration(size_t rows, size_t cols, size_t stride, const nf_real *w, size_t most,
                                    nf_real tolerance, nf_real *u, nf_real *v, nf_real *spare, nfi_singular *result);
/* W += a u v^T */
NFI_KERNEL void nfi_add_rank_one(size_t rows, size_t cols, size_t stride, nf_real a, const nf_real *u, const nf_real *v,
                                 nf_real *w);
/* The sum of all products of the numbers of A and B, two matrices that lie as W does. */
NFI_KERNEL double nfi_matrix_dot(size_t rows, size_t cols, size_t stride, const nf_real *a, const nf_real *b);

#endif
