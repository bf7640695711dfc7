/* Masked nets, step by step. At time t = 0 .. dim-1, the inputs x_0 .. x_(t-1) are known. With them all hidden units of
   degree t can be computed, and then the outputs of dimension t. All times at once are a net. Time by time, it serves
   the inverse of an autoregressive flow, which learns x_t from the outputs of dimension t. */
#ifndef NFI_MASKED_H
#define NFI_MASKED_H
#include "math/product.h"
#include "object/tree.h"
#include "nn/hidden.h"

/* One masked layer, with its rows sorted by degree. */
typedef struct nfi_masked_layer {
    /* ragged columns for the layer below; columns for context, in the first layer only (else n_rows 0) */
    nfi_matrix inputs, context;
    nfi_matrix gate;        /* columns for context, dense: for a block's second layer (else n_rows 0) */
    size_t weights, biases; /* where the layer's weights and biases begin in theta */
    size_t beta;            /* place of the parameter of its units, if they have one */
    size_t gate_weights, gate_biases;
    size_t unit;       /* first row of this layer among all hidden units */
    size_t gated;      /* first row among all gated units */
    size_t dropped;    /* first row among the units that training drops */
    size_t drop_layer; /* number among the layers with dropout; NFI_KEPT: this layer has none */
    size_t *start;     /* [dim + 1]: rows start[t] .. start[t + 1] - 1 belong to time t */
} nfi_masked_layer;

#define NFI_KEPT SIZE_MAX

typedef struct nfi_masked {
    nf_masked_options options; /* settled; the list of hidden widths stands behind the layers */
    size_t dim, per_dim, n_ctx;
    size_t n_layers; /* the hidden layers and the last one */
    size_t n_params;
    size_t n_units, n_gated, n_dropped, n_drop_layers; /* rows of all layers together; layers with dropout */
    size_t widest;                                     /* rows of the widest hidden layer */
    bool residual;
    nf_activation activation;
    double dropout;
    size_t *tables;           /* the memory of the layers' tables */
    nfi_masked_layer layer[]; /* [n_layers] */
} nfi_masked;

/* Builds the structure of a net (masked_layout.c) from settled options; NULL with a message. */
nfi_masked *nfi_masked_new(size_t dim, size_t n_per_dim, size_t n_ctx, const nf_masked_options *options);
void nfi_masked_free(void *m);

static inline bool nfi_masked_last(const nfi_masked *m, size_t l)
{
    return l + 1 == m->n_layers;
}
/* In residual nets, the even hidden layers add to the stream. Units read the stream after each of these layers but the
   last. */
static inline bool nfi_masked_on_stream(const nfi_masked *m, size_t l)
{
    return m->residual && l % 2 == 0 && !nfi_masked_last(m, l);
}
static inline bool nfi_masked_has_units(const nfi_masked *m, size_t l)
{
    return !nfi_masked_last(m, l) && !(m->residual && l + 2 == m->n_layers);
}
static inline bool nfi_masked_has_gate(const nfi_masked *m, size_t l)
{
    return m->layer[l].gate.n_rows > 0;
}
/* Whether layer l's units have a parameter. */
static inline bool nfi_masked_has_beta(const nfi_masked *m, size_t l)
{
    return nfi_keeps_argument(m->activation) && nfi_masked_has_units(m, l);
}
/* The affine map of the context that gates layer l. */
static inline nfi_dense nfi_masked_gate(const nfi_masked *m, size_t l)
{
    return (nfi_dense){.n_ctx = m->n_ctx, .out = m->layer[l].gate.n_rows};
}

/* The numbers of one pass. They are on the tape if gradients will be asked for. */
typedef struct nfi_masked_run {
    nf_real *unit;          /* [n_units x ld], hidden layer by hidden layer, after dropout */
    nf_real *stream;        /* [width x ld], in residual nets: the sum that the blocks add to */
    nf_real *argument;      /* [n_units x ld] arguments, if the units keep them, else NULL */
    nf_real *value, *open;  /* [n_gated x ld] of each gated block: what it would add; the share that is added */
    nf_real *mask;          /* [n_dropped x ld], 0 or 1 / (1 - dropout); NULL if nothing is dropped */
    const nf_real *no_bias; /* [width] zeros */
} nfi_masked_run;

/* The units first .. first + rows - 1 of layer l. */
nfi_hidden nfi_masked_units(const nfi_masked *m, const nf_pass *p, const nfi_masked_run *run, size_t l, size_t first,
                            size_t rows);
bool nfi_is_masked(const nf_object *net);

/* Prepares a run; p is the net's own pass, `a` the arena for the run. While training, the masks for all times are drawn
   here, so that noise of the same name gives the same masks all at once and step by step. */
nf_status nfi_masked_begin(const nf_object *net, const nf_pass *p, nf_arena *a, nfi_masked_run *run);
/* Computes units and outputs of the times first <= t < last. Those of earlier times must have been computed. x
   [dim x ld], y [dim P x ld]. */
void nfi_masked_times(const nf_object *net, const nf_pass *p, const nfi_masked_run *run, size_t first, size_t last,
                      const nf_real *x, nf_real *y);

/* Rows of scratch that a layer needs. */
static inline size_t nfi_masked_spare(const nfi_masked *m)
{
    return m->residual || m->n_dropped ? m->widest : 0;
}
/* How many rows g has in the functions below: the gradients of the units, of the gated blocks' values and of their
   gates; then scratch for a layer; then one row for the parameter of each layer's units. */
static inline size_t nfi_masked_gradients(const nf_object *net)
{
    const nfi_masked *m = net->self;
    const size_t betas = nfi_keeps_argument(m->activation) ? m->n_layers : 0;
    return m->n_units + 2 * m->n_gated + nfi_masked_spare(m) + betas;
}
/* The row of layer l among these last rows: see nfi_beta_gradient(). */
static inline nf_real *nfi_masked_beta_row(const nfi_masked *m, size_t l, size_t ld, nf_real *g)
{
    return nfi_masked_has_beta(m, l) ? g + (m->n_units + 2 * m->n_gated + nfi_masked_spare(m) + l) * ld : NULL;
}
/* Computes g for the times first <= t < last from gy [dim P x ld]. That of later times must have been computed. */
void nfi_masked_back(const nf_object *net, const nf_pass *p, const nfi_masked_run *run, size_t first, size_t last,
                     const nf_real *gy, nf_real *g);
/* gx[t] += the gradient of x_t for first <= t < last, from g of the later times. */
void nfi_masked_back_input(const nf_object *net, const nf_pass *p, size_t first, size_t last, const nf_real *g,
                           nf_real *gx);
/* Computes the gradients of the parameters and of the context, once g is there for all times. The rows for the units'
   parameters are cleared. */
nf_status nfi_masked_back_numbers(const nf_object *net, const nf_pass *p, const nfi_masked_run *run, const nf_real *x,
                                  const nf_real *gy, nf_real *g, const nf_grad *grad);

/* Tangents, all times at once, and their products: as the hooks of nf_net_type. */
nf_status nfi_masked_tangent(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                             size_t k, const nf_real *dx, nf_real *dy, void **saved_tangent);
nf_status nfi_masked_tangent_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                                 size_t k, const nf_real *dx, const nf_real *dy, void *saved_tangent, const nf_real *gy,
                                 const nf_real *gdy, nf_real *gx, nf_real *gdx, const nf_grad *g);

#endif
