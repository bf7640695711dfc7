/* Simplexes: the kernels of both forms, for one simplex of a tile. Entry i stands at [i * step] of x and y, step a
   multiple of ld. log_det += that of the direction. scratch: [K + 2 rows x ld]. */
#ifndef NFI_SIMPLEX_H
#define NFI_SIMPLEX_H
#include <nflow/base.h>

typedef void nfi_simplex_apply_fn(size_t K, size_t step, size_t ld, const nf_real *x, nf_real *y, double *log_det,
                                  nf_real *scratch);
/* from, to: what entered and what left in the direction; g_to to's cotangent, g_from is overwritten. */
typedef void nfi_simplex_vjp_fn(size_t K, size_t step, size_t ld, const nf_real *from, const nf_real *to,
                                const nf_real *g_to, const nf_real *gl, nf_real *g_from, nf_real *scratch);

/* By direction. */
typedef struct nfi_simplex_kernels {
    nfi_simplex_apply_fn *apply[2];
    nfi_simplex_vjp_fn *vjp[2];
} nfi_simplex_kernels;

extern const nfi_simplex_kernels nfi_simplex_stick, nfi_simplex_ilr;

#endif
