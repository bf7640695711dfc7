/* Units of a layer y = f(z), dropped or not, with what a pass keeps of them. One interface to units whose slope follows
   from their output (activation.h) and to those that keep their argument and have a parameter (swish.h), and to the
   tangents of both (directions.h). */
#ifndef NFI_HIDDEN_H
#define NFI_HIDDEN_H
#include "nn/activation.h"
#include "nn/dense.h"

/* Room for what a pass keeps: on its tape, or without one in scratch. *mark: where the other temporaries begin. Tape
   and scratch may be one arena (net.h). */
static inline nf_real *nfi_keep(const nf_pass *p, size_t rows, size_t ld, nf_mark *mark)
{
    *mark = nf_arena_mark(p->scratch);
    nf_real *kept = nf_arena_reals(p->tape ? p->tape : p->scratch, rows, ld);
    if (p->tape)
        *mark = nf_arena_mark(p->scratch);
    return kept;
}

/* Rows of units on a tile. All arrays [rows x ld]. */
typedef struct nfi_hidden {
    nf_activation f;
    size_t rows;
    const nf_real *beta; /* their parameter, one number; NULL where f has none */
    nf_real *h;          /* the units, as they are after some were dropped */
    nf_real *z;          /* their arguments; NULL where f does not keep them */
    const nf_real *mask; /* 0 or 1 / (1 - dropout); NULL: none are dropped */
    double dropout;
} nfi_hidden;

/* Parameters that a layer's units have after its biases, 0 or 1. */
static inline size_t nfi_unit_betas(nf_activation f)
{
    return nfi_keeps_argument(f);
}
/* What beta starts with; and where it is the parameter of a layer d whose numbers begin at w, that is written there. */
nf_real nfi_first_beta(nf_activation f);
static inline void nfi_init_beta(const nfi_dense *d, nf_activation f, nf_real *w)
{
    if (d->betas)
        w[nfi_dense_beta(d)] = nfi_first_beta(f);
}

/* h = f(x + bias), before any are dropped; where they are kept, z = x + bias. x may be h or z. */
void nfi_hidden_apply(const nfi_hidden *u, size_t ld, const nf_real *bias, const nf_real *x);

/* g = gz, or += it, from the gradient gh of h, which is overwritten where units are dropped; g may be gh unless it is
   added to. g_bias[r] += the sum of row r of g (NULL: not wanted). g_beta [ld]: see nfi_beta_gradient(); NULL where f
   has no parameter. spare [rows x ld], where units are dropped. */
void nfi_hidden_vjp(const nfi_hidden *u, size_t ld, nf_real *spare, nf_real *gh, bool add, nf_real *g, nf_real *g_bias,
                    nf_real *g_beta);

/* dh = f'(z) dz, [rows x k ld], the mask included. spare [rows x ld]. */
void nfi_hidden_tangent(const nfi_hidden *u, size_t ld, size_t k, nf_real *spare, const nf_real *dz, nf_real *dh);

/* The gradient of <gh, h> + <gdh, dh>:

       gdz = f' gdh,   gz = f' gh + f'' sum_j dz_j gdh_j,   the mask included, written or added.

   gz may be gh and gdz may be gdh unless they are added to. spare [3 rows x ld]; g_bias, g_beta as above. */
void nfi_hidden_tangent_vjp(const nfi_hidden *u, size_t ld, size_t k, nf_real *spare, const nf_real *dz,
                            const nf_real *gh, const nf_real *gdh, bool add, nf_real *gz, nf_real *gdz, nf_real *g_bias,
                            nf_real *g_beta);

/* The products above add gradients in b = softplus(beta) to a row g_beta [ld], sample by sample. This sums it to the
   gradient of beta, which is theta[at], and clears it for the next layer. Where f has no parameter it does nothing.
   nfi_beta_row: such a row in scratch, zeros; NULL where f has no parameter or memory is out. */
nf_real *nfi_beta_row(const nf_pass *p, nf_activation f);
void nfi_beta_gradient(const nfi_hidden *u, size_t ld, const nf_grad *g, size_t at, nf_real *g_beta);

#endif
