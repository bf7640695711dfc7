/* An autoregressive flow from the inside: its structure and its passes. */
#ifndef NFI_AUTOREGRESSIVE_H
#define NFI_AUTOREGRESSIVE_H
#include "flows/conditioned.h"

/* The layer's self; child NFI_TRANSFORM is of one dimension, child NFI_CONDITIONER a masked net. */
typedef struct nfi_autoregressive {
    size_t dim, per_dim; /* per_dim: what the net gives for each */
    nf_direction parallel;
    size_t order[]; /* [dim]: the row of the t-th dimension */
} nfi_autoregressive;

/* Hooks: see nf_flow_type. */
nf_status nfi_autoregressive_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                                   double *log_det, void **saved);
nf_status nfi_autoregressive_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                 const nf_real *y, void *saved, const nf_real *gy, const nf_real *g_log_det,
                                 nf_real *gx, const nf_grad *g);
nf_status nfi_autoregressive_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                      const nf_real *y, void *saved, const nf_real *gx, nf_real *gy);

#endif
