/* nf_check_flow from the inside: the state of a run, and what is measured for each direction. */
#ifndef NFI_CHECK_H
#define NFI_CHECK_H
#include "base/memory.h"
#include <nflow/check.h>

/* One run: a copy of the model whose theta may be changed, and where the random numbers come from. */
typedef struct nfi_check {
    nf_model *m;
    nf_workspace *ws;
    nf_arena memory;
    size_t n, n_ctx, n_params;
    uint64_t seed;
    nf_noise noise; /* the flow's noise, the same in both directions */
    double radius;
    nf_real *ctx;
} nfi_check;

/* One direction's arrays, row-major: points, images, cotangents, gradients, and unit vectors along which gradients are
   compared. */
typedef struct nfi_side {
    nf_direction d;
    size_t in, out;
    nf_real *x, *y, *gy, *g_l, *g_penalty, *gx, *g_ctx, *g_theta, *along_x, *along_ctx, *along_theta;
    double *log_det, *penalty;
} nfi_side;

/* The largest error after going to the images and back. *error is left as it is if the flow refuses the other
   direction. */
nf_status nfi_check_round_trip(nfi_check *c, const nfi_side *f, double *error);
/* Compares log-dets with the dense Jacobian. If `count`, also counts the dimensions that are never transformed. */
nf_status nfi_check_jacobian(nfi_check *c, const nfi_side *f, nf_check_report *r, bool count);
/* Compares VJPs with central differences: those of images and log-dets, and those of penalties if there are any. */
nf_status nfi_check_gradients(nfi_check *c, const nfi_side *f, nf_check_report *r);

#endif
