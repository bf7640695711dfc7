/**
 * @file net.h
 * Nets: differentiable functions with parameters.
 */
#ifndef NFLOW_NET_H
#define NFLOW_NET_H
#include <nflow/object.h>
NF_BEGIN_DECLS

typedef struct nf_net nf_net; /**< a differentiable function R^dim_in x context -> R^dim_out */

/** The table of a net type; zero-initialise what is not used. */
typedef struct nf_net_type {
    size_t abi;   /**< sizeof(nf_net_type); see nf_part */
    nf_part part; /**< name and common hooks */
    /**
     * y = net(x). x [dim_in x ld], y [dim_out x ld]; *saved: what vjp needs, allocated on p->tape, untouched where
     * p->tape is NULL. A net with a tangent keeps it also where p->tape is p->scratch: it takes its mark of the scratch
     * arena, to which it rewinds, after what it saves. So who needs a tangent, but has no tape because no gradient will
     * be asked, hands over its scratch arena as tape and rewinds it in the end.
     */
    nf_status (*apply)(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved);
    /** gx = J^T gy (overwritten; NULL: not wanted); g += parameters', context's. g is never NULL, its fields may be. */
    nf_status (*vjp)(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                     const nf_real *gy, nf_real *gx, const nf_grad *g);
    /** Moves the initial output by shift [dim_out], in theta (its last biases). NULL: the net cannot, and is left
     * alone. */
    nf_status (*shift_output)(const nf_object *o, const nf_real *shift, nf_real *theta);
    /** From a model file; may be NULL: the type cannot be loaded. */
    nf_net *(*rebuild)(nf_reader *r);
    /**
     * The tangent map dy = J dx in the net's input x, for k >= 1 directions at once; context and parameters are held.
     * x, y and `saved` are those of an apply with a tape, and p is its pass but for the tape. Nothing of that is
     * changed, so that any number of tangents may be taken at a point.
     *
     * A tile of directions has the rows of x or y, each k ld long: direction j of sample s in row r stands at
     * [(r k + j) ld + s]. dx [dim_in x k ld] must be finite in the padding, s >= n; dy [dim_out x k ld] is then finite
     * there, too. *saved_tangent: what tangent_vjp needs, allocated on p->tape as by apply; untouched where p->tape is
     * NULL (then no gradient will be asked). May be NULL: the net has no tangent.
     */
    nf_status (*tangent)(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                         size_t k, const nf_real *dx, nf_real *dy, void **saved_tangent);
    /**
     * The gradient of <gy, y> + <gdy, dy>, y = net(x) and dy = J(x) dx, in all that they depend on: gx [dim_in x ld]
     * and gdx [dim_in x k ld], overwritten (NULL: not wanted); g += parameters', context's. gy [dim_out x ld] is not
     * NULL here, gdy [dim_out x k ld]; both are 0 in the padding, and so are gx and gdx then. Where a unit has a kink
     * its second derivative counts as 0. Nothing saved is changed: it may be called any number of times.
     */
    nf_status (*tangent_vjp)(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                             size_t k, const nf_real *dx, const nf_real *dy, void *saved_tangent, const nf_real *gy,
                             const nf_real *gdy, nf_real *gx, nf_real *gdx, const nf_grad *g);
} nf_net_type;

/**
 * A new net of a type. Consumes the `n_children` references in `children` (NULL entries: everything is released, NULL
 * is returned and the message of whoever failed stays) and owns `self`, which type->part.destroy releases.
 */
NF_API nf_net *nf_net_new(const nf_net_type *type, const nf_shape *own, void *self, nf_object *const *children,
                          size_t n_children);
/** The net as a node; borrowed. */
NF_API nf_object *nf_net_object(nf_net *net);
/** One more reference. */
NF_API nf_net *nf_net_ref(nf_net *net);
/** Gives back a reference; NULL is allowed. */
NF_API void nf_net_free(nf_net *net);

/**
 * Runs a net (a child, say) on a tile. As nf_net_type.apply; `saved` may be NULL where p->tape is.
 *
 * One rule for all calls of nets, flows and distributions on tiles: what comes in is never NULL; a result that is not
 * wanted may be NULL (saved, log_det, log_q, gx, g, each field of g). Hooks see less of that: see their own comments.
 */
NF_API NF_CHECKED nf_status nf_net_apply(const nf_object *net, const nf_pass *p, const nf_real *x, nf_real *y,
                                         void **saved);
/** As nf_net_type.vjp. */
NF_API NF_CHECKED nf_status nf_net_vjp(const nf_object *net, const nf_pass *p, const nf_real *x, const nf_real *y,
                                       void *saved, const nf_real *gy, nf_real *gx, const nf_grad *g);
/**
 * The tangent map of a net, dy = J dx for k directions: exact traces (k = dim_in unit directions), Hutchinson's
 * estimates, power series. As nf_net_type.tangent, which has the layout of directions. All nets of the library have it.
 * @return NF_EUNSUPPORTED where the net's type has none, NF_EARG (k is 0, `net` NULL or not a net), NF_ENOMEM.
 */
NF_API NF_CHECKED nf_status nf_net_tangent(const nf_object *net, const nf_pass *p, const nf_real *x, const nf_real *y,
                                           void *saved, size_t k, const nf_real *dx, nf_real *dy, void **saved_tangent);
/**
 * Its vector-Jacobian product. As nf_net_type.tangent_vjp, but gy may be NULL: zeros. Errors as nf_net_tangent()'s.
 */
NF_API NF_CHECKED nf_status nf_net_tangent_vjp(const nf_object *net, const nf_pass *p, const nf_real *x,
                                               const nf_real *y, void *saved, size_t k, const nf_real *dx,
                                               const nf_real *dy, void *saved_tangent, const nf_real *gy,
                                               const nf_real *gdy, nf_real *gx, nf_real *gdx, const nf_grad *g);

/** Units of an MLP. */
typedef enum nf_activation {
    NF_RELU,       /**< max(0, x); the default */
    NF_TANH,       /**< tanh x */
    NF_LEAKY_RELU, /**< x for x > 0, 0.01 x below */
    NF_ELU,        /**< x for x > 0, exp(x) - 1 below */
    NF_SOFTPLUS,   /**< log(1 + exp x) */
    NF_SIGMOID,    /**< 1 / (1 + exp(-x)) */
    NF_IDENTITY,   /**< x */
    /**
     * Swish, x sigmoid(b x) (Ramachandran et al. 2017), with b = log(1 + exp(beta)) > 0 and a learnt beta for each
     * layer of units, which starts at log(e - 1): b = 1. For hidden units; as `output` it is refused. The units' layer
     * has beta, one number, after its biases; in nf_residual_mlp the layer that reads them has it.
     */
    NF_SWISH,
    /**
     * LipSwish, x sigmoid(b x) / 1.1 (Chen et al. 2019, Residual Flows, section 3.3): swish with slopes of at most 1.
     * beta starts at 0.5; else as NF_SWISH.
     */
    NF_LIPSWISH
} nf_activation;

/** How weights start; biases start at 0. */
typedef enum nf_initialisation {
    NF_INIT_AUTO,   /**< He for ReLU, leaky ReLU, ELU, swish and LipSwish units, Glorot for the others */
    NF_INIT_HE,     /**< normal, variance 2 / fan_in (He et al. 2015) */
    NF_INIT_GLOROT, /**< normal, variance 2 / (fan_in + fan_out) (Glorot & Bengio 2010) */
    NF_INIT_LECUN,  /**< normal, variance 1 / fan_in */
    NF_INIT_TORCH,  /**< weights and biases uniform in +-1 / sqrt(fan_in), as PyTorch's Linear */
    NF_INIT_SMALL   /**< normal, standard deviation 0.001 */
} nf_initialisation;

/** Options of nf_mlp; zero means the default. */
typedef struct nf_mlp_options {
    const size_t *hidden;     /**< [n_hidden] widths of the hidden layers; copied */
    size_t n_hidden;          /**< number of hidden layers, 0: an affine map */
    nf_activation activation; /**< of hidden units */
    nf_activation output;     /**< of the last layer; NF_RELU (zero) here means NF_IDENTITY */
    nf_initialisation init;   /**< of all layers */
    double last_scale;        /**< of the last layer: multiplies its initial numbers; 0 means 1, negative means 0 */
    double dropout;           /**< probability, in [0, 1), that training drops a hidden unit (Srivastava et al. 2014) */
} nf_mlp_options;

/**
 * A multilayer perceptron x, context -> y. Context rows are concatenated to x at the first layer.
 * @param in   rows of x; 0, with n_ctx 0 too, leaves the first layer its biases alone
 * @param out  rows of y, >= 1
 * @param n_ctx rows of context, 0 for none
 * @param options NULL: an affine map
 * Parameters, layer by layer: W [out x in], row-major, over x's rows then the context's; b [out]; of hidden layers with
 * NF_SWISH or NF_LIPSWISH then beta.
 * In NF_TRAIN with dropout, hidden units are multiplied by 0 or 1 / (1 - dropout); the mask is noise of the pass, the
 * same in its gradient.
 * @return NULL on NF_EARG, NF_ENOMEM.
 */
NF_API nf_net *nf_mlp(size_t in, size_t out, size_t n_ctx, const nf_mlp_options *options);

/**
 * An MLP with gated hidden units, (W h + b) * sigmoid(V h + c) (van den Oord et al. 2016, eq. 2; van den Berg et al.
 * 2018); the last layer is affine or has `output` units. Arguments as nf_mlp's; options->activation must be zero.
 * Parameters, layer by layer: W above V, [2 width x in], row-major; b, c. The last layer as nf_mlp's.
 * @return NULL on NF_EARG, NF_ENOMEM.
 */
NF_API nf_net *nf_gated_mlp(size_t in, size_t out, size_t n_ctx, const nf_mlp_options *options);

/** Options of nf_maxout_mlp; zero means the default. */
typedef struct nf_maxout_options {
    const size_t *hidden;   /**< [n_hidden] widths of the hidden layers; copied */
    size_t n_hidden;        /**< number of hidden layers, 0: an affine map */
    size_t window;          /**< affine pieces a unit; 0 means 4 (Rezende & Mohamed 2015, sec. 6) */
    nf_activation output;   /**< as in nf_mlp_options */
    nf_initialisation init; /**< of all layers; NF_INIT_AUTO is Glorot */
    double last_scale;      /**< as in nf_mlp_options */
    double dropout;         /**< as in nf_mlp_options */
} nf_maxout_options;

/**
 * An MLP with maxout hidden units, the largest of `window` affine pieces (Goodfellow et al. 2013); otherwise as nf_mlp.
 * Parameters, layer by layer: W [width * window x in], row-major, a unit's pieces next to each other; b. The last layer
 * as nf_mlp's.
 * @return NULL on NF_EARG, NF_ENOMEM.
 */
NF_API nf_net *nf_maxout_mlp(size_t in, size_t out, size_t n_ctx, const nf_maxout_options *options);

/** Options of nf_residual_mlp; zero means the default. */
typedef struct nf_residual_mlp_options {
    size_t width;             /**< of all hidden layers; 0 means 64 */
    size_t n_blocks;          /**< residual blocks; 0 means 2 */
    nf_activation activation; /**< f */
    nf_initialisation init;   /**< of all layers but the blocks' second; NF_INIT_TORCH is the reference's */
    double block_scale;       /**< of the blocks' second layer: uniform in +- this; 0 means 0.001, negative means 0 */
    double last_scale;        /**< of the last layer, as in nf_mlp_options */
    double dropout;           /**< probability, in [0, 1), that training drops a unit inside a block */
} nf_residual_mlp_options;

/**
 * The residual net of neural spline flows (Durkan et al. 2019, sec. 4; pre-activation: He et al. 2016):
 *
 *     h = W0 (x, context) + b0,   out = Wl h + bl,   in between for each block
 *     t = W2 drop(f(W1 f(h) + b1)) + b2,   h += t,   or with context   h += t * sigmoid(Wc context + bc).
 *
 * @param in, out, n_ctx as nf_mlp's
 * @param options NULL: the defaults
 * Parameters, tensors named and ordered as in the authors' code: initial_layer; for each block k blocks.k.context_layer
 * (only with context), blocks.k.linear_layers.0, blocks.k.linear_layers.1; final_layer. Each has weight [out x in],
 * row-major, then bias; with NF_SWISH or NF_LIPSWISH blocks.k.linear_layers.0 has then the beta of the units f(h) that
 * it reads, blocks.k.linear_layers.1 that of the units between the two.
 * @return NULL on NF_EARG, NF_ENOMEM.
 */
NF_API nf_net *nf_residual_mlp(size_t in, size_t out, size_t n_ctx, const nf_residual_mlp_options *options);

/** Options of nf_masked_net; zero means the default. */
typedef struct nf_masked_options {
    const size_t *hidden;     /**< [n_hidden] widths of the hidden layers; copied */
    size_t n_hidden;          /**< number of hidden layers; 1 where there are residual blocks */
    size_t n_blocks;          /**< > 0: that many residual blocks of two masked layers, all of width hidden[0] */
    nf_activation activation; /**< of hidden units */
    nf_initialisation init;   /**< of all layers; the second layers of blocks start at NF_INIT_SMALL */
    double last_scale;        /**< of the last layer: multiplies its initial numbers; 0 means 1, negative means 0 */
    double dropout; /**< probability, in [0, 1), that training drops a hidden unit; of blocks, the unit inside */
} nf_masked_options;

/**
 * A masked net for autoregressive flows (MADE, Germain et al. 2015; residual: Durkan et al. 2019): outputs i P .. i P +
 * P - 1, P = n_per_dim, depend on x_0 .. x_(i-1) and on the context, which enters the first layer and, as in
 * nf_residual_mlp, gates what each residual block adds: h += t * sigmoid(Wc context + bc).
 *
 * Hidden units are sorted by degree: 1 .. dim-1, or 0 .. dim-1 with context or where dim is 1, shared out evenly, one
 * more to the first degrees where it does not divide. A unit of degree t sees inputs 0 .. t-1 and, below it, the units
 * of degree <= t; outputs of dimension t see the units of degree <= t.
 * @param dim inputs, >= 1; outputs: dim n_per_dim
 * @param options NULL: outputs are affine in the inputs
 * Parameters, layer by layer: the weights that are not masked, row by row without gaps (inputs in order, in the first
 * layer then the context's); the biases; beta of its units, if they are NF_SWISH or NF_LIPSWISH (a block's last layer
 * is read through the next block's units, the last block's through none); after a block's second layer with context its
 * gate's Wc [width x n_ctx], row-major, and bc. In NF_TRAIN with dropout, masks are noise of the pass, as in nf_mlp;
 * both directions of an autoregressive flow draw the same ones for the same noise, and remain each other's inverse.
 * @return NULL on NF_EARG, NF_ENOMEM.
 */
NF_API nf_net *nf_masked_net(size_t dim, size_t n_per_dim, size_t n_ctx, const nf_masked_options *options);

NF_END_DECLS
#endif
