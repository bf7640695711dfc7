/* Units of a layer, y = f(z), some of which may be dropped, with what a pass keeps of them. This is one interface to
   two sorts of units: those whose slope follows from their output (activation.h), and those that keep their argument
   and have a parameter (swish.h). The tangents of both (directions.h) are here, too. */
#ifndef NFI_HIDDEN_H
#define NFI_HIDDEN_H
#include "base/memory.h"
#include "nn/activation.h"
#include "nn/dense.h"

/* Room for what a pass keeps, on its nfi_saving_arena(). *mark is the place in scratch where
   the other temporaries begin. Tape and scratch may be the same arena (net.h). */
static inline nf_real *nfi_keep(const nf_pass *p, size_t rows, size_t ld, nf_mark *mark)
{
    *mark = nf_arena_mark(p->scratch);
    nf_real *kept = nf_arena_reals(nfi_saving_arena(p), rows, ld);
    if (p->tape)
        *mark = nf_arena_mark(p->scratch);
    return kept;
}

/* Units on a tile. All arrays are [rows x ld]. */
typedef struct nfi_hidden {
    nf_activation f;
    size_t rows;
    const nf_real *beta; /* the units' parameter, one number; NULL if f has none */
    nf_real *h;          /* outputs of the units, after dropout */
    nf_real *z;          /* arguments of the units; NULL if f does not keep them */
    const nf_real *mask; /* 0 or 1 / (1 - dropout); NULL: no units are dropped */
    double dropout;
} nfi_hidden;

/* How many parameters a layer's units have after its biases: 0 or 1. */
static inline size_t nfi_unit_betas(nf_activation f)
{
    return nfi_keeps_argument(f);
}
/* The initial value of beta. nfi_init_beta writes it for the layer d whose numbers begin at w, if its units have a
   parameter. */
nf_real nfi_first_beta(nf_activation f);
static inline void nfi_init_beta(const nfi_dense *d, nf_activation f, nf_real *w)
{
    if (d->betas)
        w[nfi_dense_beta(d)] = nfi_first_beta(f);
}

/* h = f(x + bias), before units are dropped. If f keeps arguments, z = x + bias. x may be h or z. */
void nfi_hidden_apply(const nfi_hidden *u, size_t ld, const nf_real *bias, const nf_real *x);

/* From the gradient gh of h: g = gz, or g += gz if `add`. If units are dropped, gh is overwritten, and spare
   [rows x ld] is needed. g may be gh unless `add`. g_bias[r] += the sum of row r of g (NULL: not wanted). g_beta [ld]:
   see nfi_beta_gradient(); NULL if f has no parameter. */
void nfi_hidden_vjp(const nfi_hidden *u, size_t ld, nf_real *spare, nf_real *gh, bool add, nf_real *g, nf_real *g_bias,
                    nf_real *g_beta);

/* dh = f'(z) dz, [rows x k ld], with the mask. spare [rows x ld]. */
void nfi_hidden_tangent(const nfi_hidden *u, size_t ld, size_t k, nf_real *spare, const nf_real *dz, nf_real *dh);

/* The gradient of <gh, h> + <gdh, dh>:

       gdz = f' gdh,   gz = f' gh + f'' sum_j dz_j gdh_j,

   with the mask; gz and gdz are written, or added to if `add`. gz may be gh and gdz may be gdh unless `add`. spare
   [3 rows x ld]; g_bias and g_beta as above. */
void nfi_hidden_tangent_vjp(const nfi_hidden *u, size_t ld, size_t k, nf_real *spare, const nf_real *dz,
                            const nf_real *gh, const nf_real *gdh, bool add, nf_real *gz, nf_real *gdz, nf_real *g_bias,
                            nf_real *g_beta);

/* The two products above add the gradient in b = softplus(beta) to a row g_beta [ld], one number per sample.
   nfi_beta_gradient sums the row to the gradient of beta, which is theta[at], and clears the row for the next layer. If
   f has no parameter, it does nothing. nfi_beta_row takes such a row of zeros from scratch; NULL if f has no parameter
   or memory is out. */
nf_real *nfi_beta_row(const nf_pass *p, nf_activation f);
void nfi_beta_gradient(const nfi_hidden *u, size_t ld, const nf_grad *g, size_t at, nf_real *g_beta);

#endif
