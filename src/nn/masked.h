/* Masked nets, step by step. Time t = 0 .. dim-1: the inputs x_0 .. x_(t-1) are known, and with them all hidden units
   of degree t and then the outputs of dimension t. All times at once are a net; one after the other, the inverse of an
   autoregressive flow, which learns x_t from the outputs of dimension t. */
#ifndef NFI_MASKED_H
#define NFI_MASKED_H
#include "core/product.h"
#include "core/tree.h"

/* One masked layer, rows sorted by degree. */
typedef struct nfi_masked_layer {
    nfi_matrix inputs, context; /* ragged: columns of what is below; of context, in the first layer only (n_rows 0) */
    size_t weights, biases;     /* where its numbers begin */
    size_t unit;                /* first row among the hidden units */
    size_t *start;              /* [dim + 1]: rows start[t] .. start[t + 1] - 1 belong to time t */
} nfi_masked_layer;

typedef struct nfi_masked {
    size_t dim, per_dim, n_ctx;
    size_t n_layers; /* hidden layers and the last */
    size_t n_units;  /* hidden units of all layers */
    bool residual;
    nf_activation activation;
    nf_initialisation init;
    double last_scale;
    size_t *tables;           /* what the layers' pointers point into */
    nfi_masked_layer layer[]; /* [n_layers] */
} nfi_masked;

/* The numbers of one pass: on the tape where gradients will be asked. */
typedef struct nfi_masked_run {
    nf_real *unit;   /* [n_units x ld], hidden layer by hidden layer */
    nf_real *stream; /* [width x ld], residual: the sum that the blocks add to */
} nfi_masked_run;

bool nfi_is_masked(const nf_object *net);

nf_status nfi_masked_begin(const nf_object *net, const nf_pass *p, nf_arena *a, nfi_masked_run *run);
/* Units and outputs of the times first <= t < last; those before have been computed. x [dim x ld], y [dim P x ld]. */
void nfi_masked_times(const nf_object *net, const nf_pass *p, const nfi_masked_run *run, size_t first, size_t last,
                      const nf_real *x, nf_real *y);

/* g [n_units x ld] of the times first <= t < last from gy [dim P x ld]; those after have been computed. */
void nfi_masked_back(const nf_object *net, const nf_pass *p, const nfi_masked_run *run, size_t first, size_t last,
                     const nf_real *gy, nf_real *g);
/* gx[t] += for first <= t < last, from g of the later times. */
void nfi_masked_back_input(const nf_object *net, const nf_pass *p, size_t first, size_t last, const nf_real *g,
                           nf_real *gx);
/* Parameters' and context's gradients, once g is there for all times. */
nf_status nfi_masked_back_numbers(const nf_object *net, const nf_pass *p, const nfi_masked_run *run, const nf_real *x,
                                  const nf_real *gy, const nf_real *g, const nf_grad *grad);

#endif
