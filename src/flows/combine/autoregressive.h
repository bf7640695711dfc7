/* Autoregressive flows: their structure and their passes. */
#ifndef NFI_AUTOREGRESSIVE_H
#define NFI_AUTOREGRESSIVE_H
#include "flows/combine/conditioned.h"

/* The layer's self. Child NFI_TRANSFORM has one dimension; child NFI_CONDITIONER is a masked net. */
typedef struct nfi_autoregressive {
    size_t dim, per_dim; /* per_dim: features that the net gives for each dimension */
    nf_direction parallel;
    size_t order[]; /* [dim]: the feature of the dimension that is t-th in the order */
} nfi_autoregressive;

/* The hooks of the type: see nf_flow_type. */
nf_status nfi_autoregressive_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                                   double *log_det, void **saved);
nf_status nfi_autoregressive_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                 const nf_real *y, void *saved, const nf_real *gy, const nf_real *g_log_det,
                                 nf_real *gx, const nf_grad *g);
nf_status nfi_autoregressive_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                      const nf_real *y, void *saved, const nf_real *gx, nf_real *gy);

#endif
