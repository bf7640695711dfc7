/* A flow on some tiles of a batch, forward and back; in between somebody is asked about its results. */
#ifndef NFI_FLOW_TILES_H
#define NFI_FLOW_TILES_H
#include "model/model.h"
#include "object/live.h"

/* One tile, between the way forward and the way back. */
typedef struct nfi_flow_tile {
    size_t first; /* its first sample among those of all tiles */
    nf_pass p;
    nf_real *x, *y;
    double *log_det;
    void *saved;
    nfi_live live;
} nfi_flow_tile;

/* Neighbouring tiles, about whose samples somebody is asked together. The first five fields are the caller's, the
   others are written by nfi_flow_tiles_forward. The first k of n samples of x, grad, log_p, rejected are those that the
   flow has a result for. */
typedef struct nfi_flow_tiles {
    const nf_model *model;
    const nf_object *flow; /* the model's */
    nfi_thread *memory;
    bool gradient; /* there will be a way back */
    size_t n_tiles;
    size_t n, k;
    nf_real *z, *t;   /* [n x d] and [n x d_out]: points and what the flow makes of them; later their cotangents */
    double *log_det;  /* [n] */
    size_t *place;    /* [k]: the sample among the n */
    double *x, *grad; /* [k x d_out]: T(z), and room for a gradient there */
    double *log_p;    /* [k]: room for an answer */
    unsigned char *rejected; /* [k]: likewise */
    nfi_flow_tile *tiles;
} nfi_flow_tiles;

/* Runs the flow on tiles t0 .. t0 + n_tiles - 1 of a batch z. Arrays are taken from `shared`, tapes from the thread's
   memory: who calls rewinds both. */
nf_status nfi_flow_tiles_forward(nfi_flow_tiles *g, nf_arena *shared, const nfi_tiling *tiling, size_t t0,
                                 const double *z);
/* g->z [n x d] = J^T grad + d log|det J| / dz, for the samples that the flow has a result for. */
nf_status nfi_flow_tiles_backward(nfi_flow_tiles *g);

#endif
