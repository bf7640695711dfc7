/**
 * @file net.h
 * Nets: differentiable functions with parameters.
 */
#ifndef NFLOW_NET_H
#define NFLOW_NET_H
#include <nflow/description.h>
#include <nflow/options.h>
NF_BEGIN_DECLS

typedef struct nf_net nf_net; /**< a differentiable function R^dim_in x context -> R^dim_out */

/** The table of a net type. Fields that are not used must be zero. */
typedef struct nf_net_type {
    size_t abi;   /**< sizeof(nf_net_type); see nf_part */
    nf_part part; /**< name and common hooks */
    /**
     * y = net(x). x is [dim_in x ld], y is [dim_out x ld]. *saved becomes what vjp needs. It is allocated on p->tape;
     * where p->tape is NULL, *saved is not changed.
     *
     * p->tape may be the same arena as p->scratch. A net with a tangent must then keep what it saves. It therefore
     * takes its mark of the scratch arena after it has allocated what it saves, and rewinds to that mark. A caller that
     * needs a tangent but no gradient has no tape; it passes its scratch arena as the tape, and rewinds it in the end.
     */
    nf_status (*apply)(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved);
    /**
     * gx = J^T gy (overwritten; NULL: not wanted). Gradients in parameters and context are added to g. g is never NULL,
     * its fields may be.
     */
    nf_status (*vjp)(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                     const nf_real *gy, nf_real *gx, const nf_grad *g);
    /**
     * Moves the initial output by shift [dim_out], by changing theta (the last biases). NULL: the net cannot do this,
     * and its theta is left unchanged.
     */
    nf_status (*shift_output)(const nf_object *o, const nf_real *shift, nf_real *theta);
    /** Makes the net from a description in a model file. NULL: the type cannot be loaded. */
    nf_net *(*rebuild)(nf_reader *r);
    /**
     * The tangent map dy = J dx in the net's input x, for k >= 1 directions at once; context and parameters are
     * constant. x, y and `saved` are those of an apply with a tape. p is the pass of that apply, but may have another
     * tape. The hook changes none of these, so any number of tangents may be computed at one point.
     *
     * A tile of directions has the features of x or y, each k ld long: direction j of sample s in feature r is at
     * [(r k + j) ld + s]. dx [dim_in x k ld] must be finite in the padding, s >= n; then dy [dim_out x k ld] is finite
     * there, too. *saved_tangent becomes what tangent_vjp needs. It is allocated on p->tape as by apply; where p->tape
     * is NULL, no gradient will be computed and *saved_tangent is not changed. The hook may be NULL: the net has no
     * tangent.
     */
    nf_status (*tangent)(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                         size_t k, const nf_real *dx, nf_real *dy, void **saved_tangent);
    /**
     * The gradient of <gy, y> + <gdy, dy>, where y = net(x) and dy = J(x) dx, in everything on which y and dy depend.
     * gx [dim_in x ld] and gdx [dim_in x k ld] are overwritten (NULL: not wanted). Gradients in parameters and context
     * are added to g. gy [dim_out x ld] and gdy [dim_out x k ld] are not NULL here. Both are 0 in the padding, and then
     * so are gx and gdx. Where a unit has a kink, its second derivative counts as 0. The hook does not change what was
     * saved, so it may be called any number of times.
     */
    nf_status (*tangent_vjp)(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                             size_t k, const nf_real *dx, const nf_real *dy, void *saved_tangent, const nf_real *gy,
                             const nf_real *gdy, nf_real *gx, nf_real *gdx, const nf_grad *g);
    /**
     * The options of the type's constructor; NULL: none. If part.describe is NULL, `self` begins with the settled
     * struct of options, and the library writes these as the fields of a description.
     */
    const nf_option_table *options;
} nf_net_type;

/**
 * A new net of a type. Consumes the `n_children` references in `children`, and owns `self`, which type->part.destroy
 * releases. If an entry of `children` is NULL, everything is released, NULL is returned, and the message of the
 * constructor that failed remains.
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
 * Runs a net (a child, say) on a tile. As nf_net_type.apply; `saved` may be NULL if p->tape is NULL.
 *
 * One rule holds for all calls of nets, flows and distributions on tiles. Inputs are never NULL. Results that are not
 * wanted may be NULL: saved, log_det, log_q, gx, g, and each field of g. Hooks get fewer NULLs, as their own comments
 * say.
 */
NF_API NF_CHECKED nf_status nf_net_apply(const nf_object *net, const nf_pass *p, const nf_real *x, nf_real *y,
                                         void **saved);
/** As nf_net_type.vjp. */
NF_API NF_CHECKED nf_status nf_net_vjp(const nf_object *net, const nf_pass *p, const nf_real *x, const nf_real *y,
                                       void *saved, const nf_real *gy, nf_real *gx, const nf_grad *g);
/**
 * The tangent map of a net, dy = J dx for k directions: for exact traces (k = dim_in unit directions), Hutchinson's
 * estimates and power series. As nf_net_type.tangent, where the layout of directions is described. All nets of the
 * library have a tangent.
 * @return NF_EUNSUPPORTED if the net's type has no tangent, NF_EARG (k is 0, `net` NULL or not a net), NF_ENOMEM.
 */
NF_API NF_CHECKED nf_status nf_net_tangent(const nf_object *net, const nf_pass *p, const nf_real *x, const nf_real *y,
                                           void *saved, size_t k, const nf_real *dx, nf_real *dy, void **saved_tangent);
/**
 * The vector-Jacobian product of the tangent map. As nf_net_type.tangent_vjp, but gy may be NULL, which means zeros.
 * Errors as in nf_net_tangent().
 */
NF_API NF_CHECKED nf_status nf_net_tangent_vjp(const nf_object *net, const nf_pass *p, const nf_real *x,
                                               const nf_real *y, void *saved, size_t k, const nf_real *dx,
                                               const nf_real *dy, void *saved_tangent, const nf_real *gy,
                                               const nf_real *gdy, nf_real *gx, nf_real *gdx, const nf_grad *g);

/** The units of an MLP: their functions. */
typedef enum nf_activation {
    /** The default of the place: ReLU of hidden units (nf_iaf: ELU), the identity of a last layer. */
    NF_ACTIVATION_DEFAULT,
    NF_RELU,       /**< max(0, x) */
    NF_TANH,       /**< tanh x */
    NF_LEAKY_RELU, /**< x for x > 0, 0.01 x below */
    NF_ELU,        /**< x for x > 0, exp(x) - 1 below */
    NF_SOFTPLUS,   /**< log(1 + exp x) */
    NF_SIGMOID,    /**< 1 / (1 + exp(-x)) */
    NF_IDENTITY,   /**< x */
    /**
     * Swish, x sigmoid(b x) (Ramachandran et al. 2017), with b = log(1 + exp(beta)) > 0. Each layer of units has one
     * learnt beta, which starts at log(e - 1), so that b = 1. Swish is for hidden units; as `output` it is refused.
     * Among the parameters, beta comes after the biases of the layer that has these units; in nf_residual_mlp it comes
     * with the layer that reads them.
     */
    NF_SWISH,
    /**
     * LipSwish, x sigmoid(b x) / 1.1 (Chen et al. 2019, Residual Flows, section 3.3): swish with slopes of at most 1.
     * beta starts at 0.5; everything else is as with NF_SWISH.
     */
    NF_LIPSWISH
} nf_activation;

/** How weights start. Biases start at 0, except with NF_INIT_TORCH. */
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
    nf_activation activation; /**< of hidden units; ReLU */
    nf_activation output;     /**< of the last layer; by default the identity */
    nf_initialisation init;   /**< of all layers */
    double last_scale;        /**< of the last layer: multiplies its initial numbers; 0: 1; NF_ZERO: 0 */
    double dropout;           /**< probability, in [0, 1), that training drops a hidden unit (Srivastava et al. 2014) */
} nf_mlp_options;

/**
 * A multilayer perceptron x, context -> y. The first layer reads x's features and then the context's.
 * @param in   features of x; if both in and n_ctx are 0, the first layer has only biases
 * @param out  features of y, >= 1
 * @param n_ctx features of context, 0 for none
 * @param options NULL: an affine map
 * Parameters, layer by layer: W [out x in], row-major, over x's features, then the context's; b [out]; then, of hidden
 * layers with NF_SWISH or NF_LIPSWISH, beta.
 * In NF_TRAIN with dropout, hidden units are multiplied by 0 or 1 / (1 - dropout). The mask is noise of the pass, and
 * the gradient uses the same mask.
 * @return NULL on NF_EARG, NF_ENOMEM.
 */
NF_API nf_net *nf_mlp(size_t in, size_t out, size_t n_ctx, const nf_mlp_options *options);

/**
 * An MLP with gated hidden units, (W h + b) * sigmoid(V h + c) (van den Oord et al. 2016, eq. 2; van den Berg et al.
 * 2018). The last layer is affine or has `output` units. Arguments are as those of nf_mlp; options->activation must be
 * zero (NF_ACTIVATION_DEFAULT). Parameters, layer by layer: W above V, [2 width x in], row-major; b, c. The last layer
 * is as nf_mlp's.
 * @return NULL on NF_EARG, NF_ENOMEM.
 */
NF_API nf_net *nf_gated_mlp(size_t in, size_t out, size_t n_ctx, const nf_mlp_options *options);

/** Options of nf_maxout_mlp; zero means the default. */
typedef struct nf_maxout_options {
    const size_t *hidden;   /**< [n_hidden] widths of the hidden layers; copied */
    size_t n_hidden;        /**< number of hidden layers, 0: an affine map */
    size_t window;          /**< affine pieces of each unit; 0 means 4 (Rezende & Mohamed 2015, sec. 6) */
    nf_activation output;   /**< as in nf_mlp_options */
    nf_initialisation init; /**< of all layers; NF_INIT_AUTO is Glorot */
    double last_scale;      /**< as in nf_mlp_options */
    double dropout;         /**< as in nf_mlp_options */
} nf_maxout_options;

/**
 * An MLP with maxout hidden units: each is the largest of `window` affine pieces (Goodfellow et al. 2013). Otherwise as
 * nf_mlp. Parameters, layer by layer: W [width * window x in], row-major, with the pieces of a unit next to each other;
 * b. The last layer is as nf_mlp's.
 * @return NULL on NF_EARG, NF_ENOMEM.
 */
NF_API nf_net *nf_maxout_mlp(size_t in, size_t out, size_t n_ctx, const nf_maxout_options *options);

/** Options of nf_residual_mlp; zero means the default. */
typedef struct nf_residual_mlp_options {
    size_t width;             /**< of all hidden layers; 0 means 64 */
    size_t n_blocks;          /**< residual blocks; 0 means 2 */
    nf_activation activation; /**< f; ReLU */
    nf_initialisation init;   /**< of all layers except the blocks' second; the reference code has NF_INIT_TORCH */
    double block_scale;       /**< of the blocks' second layer: uniform in +- block_scale; 0: 0.001; NF_ZERO: 0 */
    double last_scale;        /**< of the last layer, as in nf_mlp_options */
    double dropout;           /**< probability, in [0, 1), that training drops a unit inside a block */
} nf_residual_mlp_options;

/**
 * The residual net of neural spline flows (Durkan et al. 2019, sec. 4; pre-activation: He et al. 2016):
 *
 *     h = W0 (x, context) + b0,   out = Wl h + bl,   in between for each block
 *     t = W2 drop(f(W1 f(h) + b1)) + b2,   h += t,   or with context   h += t * sigmoid(Wc context + bc).
 *
 * @param in, out, n_ctx as in nf_mlp
 * @param options NULL: the defaults
 * Parameters: tensors have the names and the order of the authors' code. They are initial_layer; for each block k
 * blocks.k.context_layer (only with context), blocks.k.linear_layers.0, blocks.k.linear_layers.1; final_layer. Each has
 * weight [out x in], row-major, then bias. With NF_SWISH or NF_LIPSWISH, blocks.k.linear_layers.0 then has the beta of
 * the units f(h) that it reads, and blocks.k.linear_layers.1 has that of the units between the two layers.
 * @return NULL on NF_EARG, NF_ENOMEM.
 */
NF_API nf_net *nf_residual_mlp(size_t in, size_t out, size_t n_ctx, const nf_residual_mlp_options *options);

/**
 * An MLP for continuous flows, gated by the time ("concatsquash" in the code of FFJORD, Grathwohl et al. 2019). With
 * c = (t, context), each layer is
 *
 *     h' = f((W h + b) * sigmoid(G c + a) + U c).
 *
 * @param in   features of x, of which the last one is the time t; >= 1. The other ones enter the first layer
 * @param out, n_ctx as in nf_mlp
 * @param options as those of nf_mlp, but `activation` is tanh by default, and `dropout` must be 0. NULL: an affine map
 * that is gated
 * Parameters, layer by layer: W, b as in nf_mlp; G [out x (1 + n_ctx)], a [out]; U [out x (1 + n_ctx)]; then, of hidden
 * layers with NF_SWISH or NF_LIPSWISH, beta.
 * @return NULL on NF_EARG, NF_ENOMEM.
 */
NF_API nf_net *nf_squash_mlp(size_t in, size_t out, size_t n_ctx, const nf_mlp_options *options);

/** Options of nf_masked_net; zero means the default. */
typedef struct nf_masked_options {
    const size_t *hidden;     /**< [n_hidden] widths of the hidden layers; copied */
    size_t n_hidden;          /**< number of hidden layers; 1 if there are residual blocks */
    size_t n_blocks;          /**< > 0: that many residual blocks of two masked layers, all of width hidden[0] */
    nf_activation activation; /**< of hidden units; ReLU */
    nf_initialisation init;   /**< of all layers; the second layers of blocks start at NF_INIT_SMALL */
    double last_scale;        /**< of the last layer: multiplies its initial numbers; 0: 1; NF_ZERO: 0 */
    double dropout; /**< probability, in [0, 1), that training drops a hidden unit; in a block, the inner units */
} nf_masked_options;

/**
 * A masked net for autoregressive flows (MADE, Germain et al. 2015; residual: Durkan et al. 2019). With P = n_per_dim,
 * outputs i P .. i P + P - 1 depend on x_0 .. x_(i-1) and on the context. The first layer reads the context, and, as in
 * nf_residual_mlp, the context gates what each residual block adds: h += t * sigmoid(Wc context + bc).
 *
 * Hidden units are sorted by degree. Degrees are 1 .. dim-1, or 0 .. dim-1 with context or if dim is 1. The units are
 * divided evenly among the degrees; if that leaves a remainder, each of the first degrees gets one unit more. A unit of
 * degree t sees inputs 0 .. t-1 and, in the layer below, the units of degree <= t. Outputs of dimension t see the units
 * of degree <= t.
 * @param dim inputs, >= 1; outputs: dim n_per_dim
 * @param options NULL: outputs are affine in the inputs
 * Parameters, layer by layer: the weights that are not masked, row by row without gaps (inputs in order; in the first
 * layer then the context's); the biases; then beta of the layer's units, if they are NF_SWISH or NF_LIPSWISH. (The
 * units after a block's last layer are those of the next block; after the last block there are none.) With context, a
 * block's second layer is followed by its gate's Wc [width x n_ctx], row-major, and bc. In NF_TRAIN with dropout, masks
 * are noise of the pass, as in nf_mlp. Both directions of an autoregressive flow draw the same masks for the same
 * noise, and so remain each other's inverse.
 * @return NULL on NF_EARG, NF_ENOMEM.
 */
NF_API nf_net *nf_masked_net(size_t dim, size_t n_per_dim, size_t n_ctx, const nf_masked_options *options);

/** Options of nf_lipschitz; zero means the default. */
typedef struct nf_lipschitz_options {
    double bound; /**< c, the bound of each layer's largest singular value, above 0 and below 1; 0: 0.97 */
} nf_lipschitz_options;

/**
 * A contraction in x: the net of nf_mlp in which each matrix W is replaced by W min(1, c / sigma(W)), with its largest
 * singular value sigma(W) (Behrmann et al. 2019, eq. 8; Miyato et al. 2018). With L layers, the net's Lipschitz
 * constant in x is at most c^L, since the slopes of its units are at most 1. Columns that read context are not scaled
 * and not counted, so that the net may depend on its context in any way. Parameters, state and names of tensors: the
 * parameters are those of the MLP; the state has a vector for each layer [in], from which power iteration begins.
 *
 * sigma is computed when the model is prepared (nf_model_update, and after each step of a fit): in training to about
 * one part in 1000, from the vectors of the last step; otherwise to rounding, as far as some millions of
 * multiplications a layer allow. What is not known of sigma is added to it, so the bound holds after training, after
 * loading and in either precision. Gradients go through sigma.
 * @param mlp consumed. Its units must not be NF_SWISH (NF_LIPSWISH, NF_ELU and NF_TANH are usual), and it must not have
 * dropout.
 * @param options NULL: the default
 * @return NULL on NF_EARG (another type of net, units or dropout that break the bound, a bound out of range),
 * NF_ENOMEM.
 */
NF_API nf_net *nf_lipschitz(nf_net *mlp, const nf_lipschitz_options *options);

NF_END_DECLS
#endif
