/* nf_check_flow from the inside: a run, and what is measured of a direction. */
#ifndef NFI_CHECK_H
#define NFI_CHECK_H
#include "core/memory.h"
#include <nflow/check.h>

/* The run: a copy of the model whose theta may be moved, and where its numbers come from. */
typedef struct nfi_check {
    nf_model *m;
    nf_workspace *ws;
    nf_arena memory;
    size_t n, n_ctx, n_params;
    uint64_t seed;
    nf_noise noise; /* of the flow, in both directions */
    double radius;
    nf_real *ctx;
} nfi_check;

/* One direction: points, images, cotangents, gradients, unit vectors to compare them along; row-major. */
typedef struct nfi_side {
    nf_direction d;
    size_t in, out;
    nf_real *x, *y, *gy, *g_l, *gx, *g_ctx, *g_theta, *along_x, *along_ctx, *along_theta;
    double *log_det;
} nfi_side;

/* The largest error of the way back; left alone where the other direction is refused. */
nf_status nfi_check_round_trip(nfi_check *c, const nfi_side *f, double *error);
/* Log-dets against the dense Jacobian; if `count`, also the dimensions that are never transformed. */
nf_status nfi_check_jacobian(nfi_check *c, const nfi_side *f, nf_check_report *r, bool count);
/* VJPs against central differences. */
nf_status nfi_check_gradients(nfi_check *c, const nfi_side *f, nf_check_report *r);

#endif
