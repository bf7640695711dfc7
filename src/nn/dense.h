/* One affine layer on a tile, z = W (x, context) + b, from which nets are built. Its numbers are: W
   [out x (in + n_ctx)], row-major, with columns for x first and then for the context; b [out]; the parameter of its
   units, if they have one (hidden.h). Biases are not added here: the kernels of the units add them and compute their
   gradients. */
#ifndef NFI_DENSE_H
#define NFI_DENSE_H
#include "math/product.h"
#include <nflow/net.h>

typedef struct nfi_dense {
    size_t in, n_ctx, out; /* features of x and features of context; either may be 0 */
    size_t betas;          /* parameters of the units, after the biases: 0 or 1 */
} nfi_dense;

static inline size_t nfi_dense_fan_in(const nfi_dense *d)
{
    return d->in + d->n_ctx;
}
/* Where b begins. */
static inline size_t nfi_dense_bias(const nfi_dense *d)
{
    return d->out * nfi_dense_fan_in(d);
}
/* Where the units' parameter is. */
static inline size_t nfi_dense_beta(const nfi_dense *d)
{
    return nfi_dense_bias(d) + d->out;
}
static inline size_t nfi_dense_size(const nfi_dense *d)
{
    return nfi_dense_beta(d) + d->betas;
}
/* *total += the number of the layer's parameters; false on overflow. */
bool nfi_dense_count(const nfi_dense *d, size_t *total);

/* z = W (x, p->ctx), or z += W (x, p->ctx) if `add`. w points to the layer's numbers. The padding of z repeats column
   n-1. */
void nfi_dense_apply(const nfi_dense *d, const nf_pass *p, const nf_real *w, const nf_real *x, bool add, nf_real *z);
/* gW = gz h^T, or gW += gz h^T if `add`, for a matrix W that was multiplied with h [rows x ld]. Returns NF_OK or
   NF_ENOMEM. */
nf_status nfi_weight_gradient(const nf_pass *p, const nfi_matrix *W, size_t rows, const nf_real *h, const nf_real *gz,
                              bool add, nf_real *gw);
/* From gz, for the layer whose numbers begin at theta[at]: the gradients of W and of the context, and gx = W^T gz with
   zeros in the padding. An array that is NULL is not wanted. */
nf_status nfi_dense_vjp(const nfi_dense *d, const nf_pass *p, size_t at, const nf_real *x, const nf_real *gz,
                        nf_real *gx, const nf_grad *g);
/* dz = W dx, or dz += W dx if `add`, for k directions, arrays [rows x k ld] (directions.h). The context does not
   move. */
void nfi_dense_tangent(const nfi_dense *d, const nf_pass *p, size_t k, const nf_real *w, const nf_real *dx, bool add,
                       nf_real *dz);
/* As nfi_dense_vjp, and adds the tangent's part, from gdz: gW += gdz dx^T, gdx = W^T gdz. */
nf_status nfi_dense_tangent_vjp(const nfi_dense *d, const nf_pass *p, size_t k, size_t at, const nf_real *x,
                                const nf_real *dx, const nf_real *gz, const nf_real *gdz, nf_real *gx, nf_real *gdx,
                                const nf_grad *g);
/* The place to which the gradient of the biases theta[at ...] is added; NULL if it is not wanted. If g is fresh, this
   call clears the place, so call it only once. */
nf_real *nfi_bias_gradient(const nf_grad *g, size_t at, size_t rows);

/* Initial weights and, after them, biases, times `factor`, of units of the kind `unit` that read `fan_in` numbers and
   feed `fan_out` units. Biases that start at 0 are not written. */
void nfi_draw_weights(nf_initialisation init, nf_activation unit, size_t fan_in, size_t fan_out, double factor,
                      const nf_noise *noise, size_t n_weights, size_t n_biases, nf_real *w);
/* The same for a layer whose outputs feed `fan_out` units of the kind `unit`.
   `noise` is the layer's own. */
void nfi_dense_init(const nfi_dense *d, nf_initialisation init, nf_activation unit, size_t fan_out, double factor,
                    const nf_noise *noise, nf_real *w);
/* Weights and biases, all uniform between -bound and bound. */
void nfi_dense_init_uniform(const nfi_dense *d, double bound, const nf_noise *noise, nf_real *w);
/* Names the layer's tensors, which begin at theta[at]: `layer`.weight, `layer`.bias and, if there is one,
   `layer`.beta. */
void nfi_dense_slices(const nfi_dense *d, const char *layer, size_t at, nf_slice_fn *each, void *user);

#endif
