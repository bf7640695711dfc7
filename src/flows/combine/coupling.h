/* Coupling layers: their structure (coupling.c) and their passes (coupling_pass.c). */
#ifndef NFI_COUPLING_H
#define NFI_COUPLING_H
#include "flows/combine/conditioned.h"

/* Some of the features of a tile, in ascending order. If they are consecutive, a pointer serves as well as a copy. */
typedef struct nfi_rows {
    size_t n;
    const size_t *row; /* [n] */
    bool consecutive;
} nfi_rows;

/* The layer's self. */
typedef struct nfi_coupling {
    size_t dim;
    nfi_rows a, b;
    size_t number[]; /* [dim]: the features of a, then those of b; [dim]: the mask */
} nfi_coupling;

/* The hooks of the types: see nf_flow_type and nf_part. */
nf_status nfi_coupling_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                             double *log_det, void **saved);
nf_status nfi_coupling_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                           void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g);
nf_status nfi_coupling_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                const nf_real *y, void *saved, const nf_real *gx, nf_real *gy);
nf_status nfi_coupling_init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta,
                            nf_real *state);

#endif
