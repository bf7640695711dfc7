/**
 * @file recipes.h
 * The flows of papers: chains of couplings, autoregressive flows or residual blocks with the nets of the authors. Each
 * is an ordinary nf_flow, which is made of the layers in flow.h and starts as the identity or near it. Those of images
 * start as a reordering of the features.
 *
 * Their nets read data as they are, and their scales may be bounded. Data whose deviations are not near 1 need
 * nf_actnorm() next to them, nf_chain((nf_flow *[]){nf_maf(dim, NULL), nf_actnorm(dim)}, 2), or must be standardised.
 */
#ifndef NFLOW_RECIPES_H
#define NFLOW_RECIPES_H
#include <nflow/combine.h>
#include <nflow/elementwise.h>
#include <nflow/image.h>
#include <nflow/linear.h>
#include <nflow/ode.h>
#include <nflow/residual.h>
NF_BEGIN_DECLS

/** What is done between two layers, so that a dimension does not have the same role in all layers. */
typedef enum nf_mixing {
    NF_MIX_DEFAULT, /**< the recipe's own */
    NF_MIX_NONE,    /**< nothing; couplings nevertheless transform complementary features in turn */
    NF_MIX_REVERSE, /**< every other layer takes the features in reverse order; for autoregressive recipes */
    NF_MIX_PERMUTE, /**< each layer has its own order (each pair of couplings its own mask), drawn from `seed` */
    NF_MIX_LU /**< before each layer and after the last one: a fixed permutation, drawn from `seed` (the last one undoes
                 the others), and an nf_lu_linear that starts as the identity */
} nf_mixing;

/** Which direction of an autoregressive layer takes one pass of its net; see nf_autoregressive(). */
typedef enum nf_parallel {
    NF_PARALLEL_DEFAULT, /**< the recipe's own */
    NF_PARALLEL_FORWARD, /**< sampling, with log q of the draws: inference */
    NF_PARALLEL_INVERSE  /**< scoring: densities of data */
} nf_parallel;

/** What `n_layers` and `hidden` are if they are not given. */
typedef enum nf_recipe_sizes {
    NF_SIZES_PAPER, /**< the recipe's own, made for densities of many data */
    /**
     * Sizes for the posterior of a Bayesian model: 6 layers, and nets of 2 x 16 units up to 32 dimensions, 2 x 32 up to
     * 64, 2 x 64 up to 128, and 2 x 128 beyond (one hidden layer of that width if n_blocks asks for residual blocks).
     * With the papers' sizes a posterior of ten dimensions would have a million parameters and need an hour.
     */
    NF_SIZES_INFERENCE
} nf_recipe_sizes;

/**
 * Options of all recipes. Zero means the recipe's own value. These are the paper's values if the paper has them for
 * vectors, otherwise sizes that later became usual:
 *
 * | recipe                   | layers | hidden  | blocks | units | mixing  | parallel | transform                  |
 * |--------------------------|-------:|---------|-------:|-------|---------|----------|----------------------------|
 * | nf_nice                  |      4 | 5 x 1000|        | ReLU  | none    |          | shift                      |
 * | nf_realnvp               |     10 | 2 x 256 |        | ReLU  | none    |          | scale exp(2 tanh(a / 2))   |
 * | nf_made                  |      1 | 500     |        | ReLU  | reverse | inverse  | scale exp(u tanh(a / u))   |
 * | nf_maf                   |      5 | 2 x 512 |        | ReLU  | reverse | inverse  | scale exp(u tanh(a / u))   |
 * | nf_iaf                   |      8 | 2 x 320 |        | ELU   | reverse | forward  | gated, sigmoid(a + 2)      |
 * | nf_nsf_coupling          |     10 | 256     |      2 | ReLU  | LU      |          | spline, 8 bins in [-3, 3]  |
 * | nf_nsf_autoregressive    |     10 | 256     |      2 | ReLU  | LU      | inverse  | spline, 8 bins in [-3, 3]  |
 * | nf_ffjord                |      1 | 3 x 64  |        | tanh  | none    |          | continuous                 |
 *
 * u is ln 1000, so the scales of nf_made and nf_maf are between 1/1000 and 1000. The papers have exp(a) instead, which
 * overflows to infinity already in some draws of an untrained flow. To get exp(a), set `scale` to
 * &(nf_scaled_affine_options){.scale = NF_SCALE_EXP}. Near a = 0 the two forms agree; at |a| = 1.1 they differ by 1 %.
 *
 * If `seed` and the options are equal, the flows are equal. What `scale`, `spline` and `hidden` point to is copied.
 */
typedef struct nf_recipe_options {
    size_t n_ctx;         /**< features of context, which every layer's net reads; 0: none */
    size_t n_layers;      /**< couplings or autoregressive flows */
    const size_t *hidden; /**< [n_hidden] widths of the nets' hidden layers */
    size_t
        n_hidden; /**< hidden layers; 1 with residual blocks, since all have one width. NF_NONE: the nets are affine */
    size_t n_blocks; /**< residual blocks; 0: the recipe's number, but none unless n_hidden is 0 or 1. NF_NONE: none */
    nf_activation activation; /**< of hidden units */
    double dropout;           /**< of the nets, in [0, 1) */
    double last_scale;        /**< of the nets' last layers, see nf_mlp_options; 0: 0.01; NF_ZERO: 0 */
    nf_initialisation init; /**< of the nets' weights, see nf_mlp_options. With few features NF_INIT_TORCH fits sooner,
                               since its hidden biases spread the kinks of ReLU over the data */
    const nf_scaled_affine_options *scale; /**< of nf_realnvp, nf_made, nf_maf and nf_iaf */
    const nf_spline_options *spline;       /**< of the nf_nsf recipes. With free_ends the flow maps the cube of the box
                                              onto itself: `mixing` is by default NF_MIX_PERMUTE, and not NF_MIX_LU */
    const nf_continuous_options *ode;      /**< of nf_ffjord; NULL: the defaults of nf_continuous() */
    nf_mixing mixing;                      /**< between layers */
    nf_parallel parallel;                  /**< of autoregressive recipes */
    uint64_t seed;         /**< of permutations and random masks; initial weights come from the model's seed */
    nf_recipe_sizes sizes; /**< what n_layers and hidden are by default */
} nf_recipe_options;

/**
 * NICE (Dinh, Krueger & Bengio 2014): additive couplings, which change one half of the features and the other half in
 * turn. At the base there is a diagonal scaling (with a shift: nf_affine), which alone changes volumes.
 * @param dim     features, >= 1. If there is one feature, couplings shift it by what their nets compute from the
 * context
 * @param options NULL: the paper's
 * @return NULL on NF_EARG (the message has the recipe and the option), NF_ENOMEM. This holds for all recipes.
 */
NF_API nf_flow *nf_nice(size_t dim, const nf_recipe_options *options);
/**
 * Real NVP (Dinh, Sohl-Dickstein & Bengio 2017) on vectors, in the form of Papamakarios et al. (2017): affine couplings
 * of alternating features.
 */
NF_API nf_flow *nf_realnvp(size_t dim, const nf_recipe_options *options);
/**
 * A Gaussian MADE (Germain et al. 2015; Papamakarios et al. 2017, section 2.2): each feature has a normal distribution
 * given the features before it.
 */
NF_API nf_flow *nf_made(size_t dim, const nf_recipe_options *options);
/**
 * Masked autoregressive flow (Papamakarios, Pavlakou & Murray 2017): a chain of MADEs, without the paper's batch
 * normalisation.
 */
NF_API nf_flow *nf_maf(size_t dim, const nf_recipe_options *options);
/**
 * Inverse autoregressive flow (Kingma et al. 2016): y = s x + (1 - s) m, where a masked net computes m and
 * s = sigmoid(a + 2) from x and the context h. With these gates the flow starts near y = sigmoid(2)^layers x, not
 * nearer to the identity.
 */
NF_API nf_flow *nf_iaf(size_t dim, const nf_recipe_options *options);
/** Neural spline flow with couplings (Durkan et al. 2019, RQ-NSF (C)) of alternating features. */
NF_API nf_flow *nf_nsf_coupling(size_t dim, const nf_recipe_options *options);
/** Neural spline flow, autoregressive (Durkan et al. 2019, RQ-NSF (AR)). */
NF_API nf_flow *nf_nsf_autoregressive(size_t dim, const nf_recipe_options *options);
/**
 * FFJORD (Grathwohl et al. 2019): n_layers continuous flows (nf_continuous()), whose fields are nf_squash_mlp().
 * Options that other recipes' layers have alone are refused: scale, spline, n_blocks, dropout, parallel, and of
 * `mixing` all but NF_MIX_NONE and NF_MIX_LU.
 */
NF_API nf_flow *nf_ffjord(size_t dim, const nf_recipe_options *options);

/** Options of nf_residual; zero means the default. */
typedef struct nf_residual_options {
    size_t n_ctx;             /**< features of context, which every block's net reads; 0: none */
    size_t n_layers;          /**< blocks; 0: 10 */
    const size_t *hidden;     /**< [n_hidden] widths of the nets' hidden layers; copied; by default 128, 128, 128 */
    size_t n_hidden;          /**< hidden layers. NF_NONE: the nets are affine */
    nf_activation activation; /**< of hidden units, not NF_SWISH; 0: NF_LIPSWISH */
    double last_scale;        /**< of the nets' last layers, see nf_mlp_options; 0: 0.01; NF_ZERO: 0 */
    double bound;             /**< of each layer's largest singular value, see nf_lipschitz_options; 0: 0.97 */
    /**
     * The explicit direction, the other one is iterated: NF_PARALLEL_INVERSE, the default, for densities of data,
     * NF_PARALLEL_FORWARD for inference.
     */
    nf_parallel parallel;
    bool no_actnorm;                       /**< leave out the nf_actnorm after each block */
    const nf_residual_flow_options *block; /**< log-dets and inverses of the blocks; NULL: the defaults */
} nf_residual_options;

/**
 * Residual flow (Chen et al. 2019; Behrmann et al. 2019) on vectors: blocks x + g(x) of nets with bounded Lipschitz
 * constants, from the base on each followed by an nf_actnorm. With more than NF_LOG_DET_EASY features log-dets are
 * estimates by default, see nf_residual_flow().
 * @return NULL on NF_EARG (the message has the option), NF_ENOMEM.
 */
NF_API nf_flow *nf_residual(size_t dim, const nf_residual_options *options);

/* ---- images ---- */

/** The distribution of the features that a flow of several scales splits off, given a standard normal base. */
typedef enum nf_split_prior {
    NF_PRIOR_DEFAULT,  /**< the recipe's own */
    NF_PRIOR_STANDARD, /**< a standard normal (Dinh, Sohl-Dickstein & Bengio 2017) */
    /**
     * A normal whose mean and deviation a convolution computes from the features that stay, and from the context
     * (Kingma & Dhariwal 2018). Those of the last scale, from which nothing is split, have a mean and a deviation for
     * each channel, which an affine map of the context gives if there is any: class-conditional priors.
     */
    NF_PRIOR_LEARNT
} nf_split_prior;

/** Whether the layers of a scale are an nf_recomputed_chain(), whose memory does not grow with their number. */
typedef enum nf_recompute {
    /**
     * Each scale's own choice: as NF_RECOMPUTE_ALWAYS if its layers would keep more than NF_RECOMPUTE_FROM numbers for
     * each sample (Glow with 64 channels on 14 x 14 pixels: from 20 steps on). So much leaves the caches, and computing
     * it again takes about as long. Otherwise as NF_RECOMPUTE_NEVER.
     */
    NF_RECOMPUTE_DEFAULT,
    NF_RECOMPUTE_NEVER, /**< what gradients need is kept */
    /**
     * It is computed again, from what comes out of the layers back to what entered: memory does not grow with their
     * number. A step takes up to a third longer, and gradients have the rounding errors of the inverses.
     */
    NF_RECOMPUTE_ALWAYS
} nf_recompute;

/** Numbers for each sample from which on NF_RECOMPUTE_DEFAULT computes them again. */
enum { NF_RECOMPUTE_FROM = 1 << 19 };

/**
 * Options of nf_glow and nf_realnvp_image; zero means the recipe's own value:
 *
 * | recipe           | levels | steps | nets                              | scale              | mixing | prior    |
 * |------------------|-------:|------:|-----------------------------------|--------------------|--------|----------|
 * | nf_glow          |   3    |    32 | 3x3, 1x1, 3x3; 512; actnorm       | sigmoid(a + 2)     | LU     | learnt   |
 * | nf_realnvp_image |   2    |     3 | 4 blocks of 32; weight norm       | exp(2 tanh(a / 2)) | none   | standard |
 *
 * These are the papers' sizes, made for days on graphics processors. On a few cores 8 to 16 steps and 64 channels are a
 * beginning. What `net` and `scale` point to is copied.
 */
typedef struct nf_image_recipe_options {
    size_t n_ctx; /**< features of context (a label as one-hot, say), which every net reads; 0: none */
    /**
     * How often height and width are halved. Both must be multiples of 2^n_levels. 0: the recipe's number, or fewer if
     * the image's sizes do not allow as many, but at least one.
     */
    size_t n_levels;
    size_t n_steps;  /**< Glow's steps of flow of each level; of Real NVP the couplings of each kind and level */
    size_t hidden;   /**< channels of the hidden layers of the recipe's own nets */
    size_t n_blocks; /**< residual blocks of nf_realnvp_image's own nets */
    /**
     * The nets of the couplings, if the recipe's own are not wanted; then neither `hidden` nor `n_blocks` is given. The
     * recipe sets in_pixels, out_pixels and n_per_feature.
     */
    const nf_conv_options *net;
    bool additive; /**< couplings shift and do not scale (Dinh et al. 2014); then there is no `scale` */
    const nf_scaled_affine_options *scale; /**< of the couplings */
    /**
     * What is done to the channels before each of Glow's couplings. NF_MIX_LU: an invertible 1x1 convolution;
     * NF_MIX_PERMUTE: a fixed permutation, drawn from `seed`; NF_MIX_REVERSE; NF_MIX_NONE: nothing, but couplings
     * change one half of the channels and the other half in turn. nf_realnvp_image has NF_MIX_NONE alone.
     */
    nf_mixing mixing;
    nf_split_prior prior;   /**< of the features that are split off */
    nf_recompute recompute; /**< what gradients need, of the layers of each scale */
    uint64_t seed;          /**< of permutations; initial weights come from the model's seed. NF_LU_IDENTITY: 1x1
                               convolutions start as the identity */
} nf_image_recipe_options;

/**
 * Glow (Kingma & Dhariwal 2018) from a standard normal base to images. At each of the levels, from the image on:
 * squeeze (nf_squeeze()), n_steps times (nf_actnorm() of each channel, 1x1 convolution, coupling of the second half of
 * the channels), and half of the channels is split off; the others go on to the next level. From the last level
 * nothing is split. As all of it is one flow, an image has one latent vector, z = inverse(x): the features of the last
 * scale come first, those that are split off first come last. Its actnorms begin from data: give the model some images
 * (nf_model_options.init_x).
 *
 * In the paper the scale of a coupling is 1 / sigmoid(a + 2) from base to image, which has no upper limit: untrained
 * images can overflow. Here it is sigmoid(a + 2).
 * @param image   its sizes; features are in the order [channels][height][width]
 * @param options NULL: the paper's
 * @return NULL on NF_EARG (sizes that cannot be halved so often; an option; the message has the recipe's name),
 * NF_ENOMEM.
 */
NF_API nf_flow *nf_glow(nf_image image, const nf_image_recipe_options *options);
/**
 * Real NVP on images (Dinh, Sohl-Dickstein & Bengio 2017), from a standard normal base to images. At each of the
 * levels, from the image on: n_steps couplings over checkerboards, squeeze, n_steps couplings of channels, and half of
 * the channels is split off. After the last level n_steps + 1 couplings over checkerboards follow. Each coupling has an
 * nf_actnorm() of channels on the image's side, in place of the paper's batch normalisation.
 * @param image   its sizes, as for nf_glow()
 * @param options NULL: the paper's
 * @return as nf_glow().
 */
NF_API nf_flow *nf_realnvp_image(nf_image image, const nf_image_recipe_options *options);

NF_END_DECLS
#endif
