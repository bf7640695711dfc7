/* Nets of convolutions (nf_conv_net): what their layers (conv_layers.c), constructor (conv_net.c), scales and
   beginning (conv_norm.c, conv_init.c) and passes (conv_pass.c, conv_back.c) share. */
#ifndef NFI_CONV_NET_H
#define NFI_CONV_NET_H
#include "nn/conv.h"
#include "nn/hidden.h"

typedef struct nfi_conv_net {
    nf_conv_options options; /* settled; the lists are in `list` */
    nf_image in;
    size_t out_channels, n_layers;
    size_t read;  /* channels that the first layer reads: x's, then those of the context's image */
    size_t n_ctx; /* features of the context after its image */
    nfi_grid grid;
    size_t pieces;  /* products of a hidden unit: 1, or 2 if they are gated */
    size_t widest;  /* the most channels that a layer's products have */
    bool is_scaled; /* some layer has a scale: passes then read the prepared numbers, else theta */
    size_t list[];  /* [n_hidden] channels, then [n_layers] (residual nets: 3) sides of kernels */
} nfi_conv_net;

/* How a layer's numbers follow from the parameters (conv_norm.c). Exponential scales are exp(NFI_CONV_SCALE s). */
enum { NFI_CONV_SCALE = 3 };
typedef enum nfi_conv_scale { NFI_UNSCALED, NFI_WEIGHT_NORM, NFI_EXP_SCALE } nfi_conv_scale;

/* One layer. Layer 0 of a residual net begins the stream h, and the layers that add go on with it. Every hidden layer
   has units, which read its products or the stream. */
typedef struct nfi_conv_layer {
    nfi_conv c;
    bool is_last, in_stream, adds;
    size_t units;  /* channels of the layer's units; 0: the last layer */
    size_t n_ctx;  /* features of context that the convolution has beside it */
    bool has_gate; /* the context gates what the layer adds */
    bool drops;    /* training drops some of its units */
    nfi_conv_scale scale_kind;
    size_t weight, context, bias, scale, beta, gate, end; /* where its numbers begin and end in theta */
} nfi_conv_layer;
static inline bool nfi_conv_is_residual(const nfi_conv_net *m)
{
    return m->options.n_blocks > 0;
}
/* A layer without its places; its places if its numbers begin at theta[at] (false on overflow); and both. */
nfi_conv_layer nfi_conv_structure(const nfi_conv_net *m, size_t layer);
bool nfi_conv_place(const nfi_conv_net *m, nfi_conv_layer *s, size_t at);
nfi_conv_layer nfi_conv_layer_of(const nfi_conv_net *m, size_t layer);

/* The maps of the context: U of the first layer, whose biases are the convolution's, and a block's gate. */
static inline nfi_dense nfi_conv_context(const nfi_conv_layer *s)
{
    return (nfi_dense){.n_ctx = s->n_ctx, .out = s->c.out};
}
static inline nfi_dense nfi_conv_gate(const nfi_conv_net *m, const nfi_conv_layer *s)
{
    return (nfi_dense){.n_ctx = m->n_ctx, .out = s->units};
}

/* What is kept of a hidden layer on the tape: its units [units x pixels ld]; of gated units value and gate
   [2 units x pixels ld]; where the context gates, what is added, t [units x pixels ld], and the gate [units x ld];
   where training drops units, the mask [units x pixels ld]. */
typedef struct nfi_conv_block {
    nfi_hidden u; /* u.rows is the number of channels */
    nf_real *pair, *t, *gate, *mask;
} nfi_conv_block;
/* Numbers for each of the ld samples that the blocks of the layers before `layer` take, and that the largest one
   does. */
size_t nfi_conv_kept_before(const nfi_conv_net *m, size_t layer);
size_t nfi_conv_kept_most(const nfi_conv_net *m);
/* The block of a layer that begins at `at`. p is a numbers pass; outside training nothing is dropped. */
nfi_conv_block nfi_conv_block_at(const nfi_conv_net *m, const nfi_conv_layer *s, const nf_pass *p, nf_real *at);

/* What the first layer reads, [read x pixels ld]: x and the image that ctx begins with. ctx NULL: zeros for it. */
void nfi_conv_read(const nfi_conv_net *m, size_t ld, const nf_real *x, const nf_real *ctx, nf_real *grid);
/* How many features the context's image has. */
static inline size_t nfi_conv_image_features(const nfi_conv_net *m)
{
    return m->options.ctx_channels * m->grid.height * m->grid.width;
}
/* The pass and the gradients in which theta stands for the numbers that passes read, and for their gradient, and ctx
   for the context after its image. */
nf_pass nfi_conv_numbers_pass(const nfi_conv_net *m, const nf_pass *p);
nf_grad nfi_conv_numbers_grad(const nfi_conv_net *m, size_t ld, const nf_grad *g);

/* The products of a layer, without the bias, in z [c.out x pixels ld]. In the stream they are added to h, and *bias
   [c.out] collects what h lacks (NULL in other layers). p is a numbers pass. Returns NF_OK or NF_ENOMEM. */
nf_status nfi_conv_products(const nfi_conv_net *m, const nfi_conv_layer *s, const nf_pass *p, const nfi_conv_block *b,
                            const nf_real *x, nf_real *z, nf_real *bias);
/* The layer's units, from its products or from the stream and what that lacks. */
void nfi_conv_units(const nfi_conv_net *m, const nfi_conv_layer *s, size_t ld, const nfi_conv_block *b,
                    const nf_real *bias, nf_real *z);
/* Where nfi_conv_products writes: the stream h, or the layer's own block. */
static inline nf_real *nfi_conv_target(const nfi_conv_layer *s, const nfi_conv_block *b, nf_real *h)
{
    return s->in_stream ? h : b->pair ? b->pair : b->u.z ? b->u.z : b->u.h;
}

/* Numbers [k ld] that a tangent keeps of a hidden layer: ds, and with a gate what is added. */
size_t nfi_conv_kept_tangent(const nfi_conv_net *m, const nfi_conv_layer *s);
/* da of a layer's units from what was kept. spare [units x pixels ld]. */
void nfi_conv_units_tangent(const nfi_conv_net *m, const nfi_conv_block *b, size_t ld, size_t k, const nf_real *ds,
                            nf_real *spare, nf_real *da);

/* The layer's numbers as passes read them, from the parameters; both arrays are those of the net. */
void nfi_conv_prepare_layer(const nfi_conv_layer *s, const nf_real *theta, nf_real *prep);

/* Hooks. */
nf_status nfi_conv_net_apply(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved);
nf_status nfi_conv_net_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                           const nf_real *gy, nf_real *gx, const nf_grad *g);
nf_status nfi_conv_net_tangent(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                               size_t k, const nf_real *dx, nf_real *dy, void **saved_tangent);
nf_status nfi_conv_net_tangent_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y,
                                   void *saved, size_t k, const nf_real *dx, const nf_real *dy, void *saved_tangent,
                                   const nf_real *gy, const nf_real *gdy, nf_real *gx, nf_real *gdx, const nf_grad *g);
nf_status nfi_conv_net_prepare(const nf_object *o, nf_mode mode, const nf_real *theta, nf_real *state, nf_real *prep);
nf_status nfi_conv_net_prepare_vjp(const nf_object *o, const nf_real *theta, const nf_real *state, const nf_real *prep,
                                   nf_real *g_prep, nf_real *g_theta);
nf_status nfi_conv_net_init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta,
                            nf_real *state);

#endif
