/* A net of one input and one output at several points for each sample, with the sample's context, and its derivative
   there: for layers that integrate a net. Point k of sample s is column k ld + s of a tile of its own, on which the net
   runs once. */
#ifndef NFI_POINTS_H
#define NFI_POINTS_H
#include <nflow/net.h>

/* Arrays [n], n = number of points * ld: the points, y = net(t, context), dy = d net / dt, and the net's records. All
   memory is from the pass's scratch. */
typedef struct nfi_points {
    size_t n;
    nf_real *t, *y, *dy, *one;
    nf_pass pass; /* the net's */
    void *saved, *saved_tangent;
} nfi_points;

/* Runs child `child` of o at the points node[k] x[s], k < n_nodes, those beyond +-2^100 (float: 2^60) at that limit.
   ctx [the net's n_ctx x ld]. The net runs as outside training: if it dropped units, its values at the points would be
   those of several functions. */
nf_status nfi_points_run(const nf_object *o, size_t child, const nf_pass *p, size_t n_nodes, const nf_real *node,
                         const nf_real *x, const nf_real *ctx, nfi_points *r);
/* From the cotangents of y and dy [n]: adds to gx [ld] and to the gradients g of o; that in the context is added to
   g_ctx, unless it is NULL. */
nf_status nfi_points_vjp(const nf_object *o, size_t child, const nf_pass *p, const nf_real *node, const nfi_points *r,
                         const nf_real *gy, const nf_real *gdy, nf_real *gx, nf_real *g_ctx, const nf_grad *g);

#endif
