/**
 * @file recipes.h
 * The flows of papers: chains of couplings or of autoregressive flows with the authors' nets. Each is an ordinary
 * nf_flow made of the layers in flow.h, and starts as the identity or near it.
 */
#ifndef NFLOW_RECIPES_H
#define NFLOW_RECIPES_H
#include <nflow/flow.h>
NF_BEGIN_DECLS

/** What happens between two layers, so that no dimension always plays the same part. */
typedef enum nf_mixing {
    NF_MIX_DEFAULT, /**< the recipe's own */
    NF_MIX_NONE,    /**< nothing; couplings transform complementary rows in turn all the same */
    NF_MIX_REVERSE, /**< every other layer has the order reversed; for autoregressive recipes */
    NF_MIX_PERMUTE, /**< each layer has an order of its own, or pair of couplings a mask, drawn from `seed` */
    NF_MIX_LU /**< before each layer and after the last a fixed permutation, drawn from `seed` (the last one undoes
                 the others), and an nf_lu_linear that starts as the identity */
} nf_mixing;

/** Which direction of an autoregressive layer is one pass of its net; see nf_autoregressive(). */
typedef enum nf_parallel {
    NF_PARALLEL_DEFAULT, /**< the recipe's own */
    NF_PARALLEL_FORWARD, /**< sampling, with log q of the draws: inference */
    NF_PARALLEL_INVERSE  /**< scoring: densities of data */
} nf_parallel;

/**
 * Options of all recipes. Zero means the recipe's own: the paper's where it tells of vectors, else sizes usual since:
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
 *
 * u is ln 1000, so that the scales of nf_made and nf_maf lie between 1/1000 and 1000. The papers have exp(a) there,
 * which overflows to infinity in some draws of an untrained flow already; `scale` = &(nf_scaled_affine_options){.scale
 * = NF_SCALE_EXP} asks for it. Near a = 0 the two agree: they differ by 1 % at |a| = 1.1.
 *
 * With `seed` and the options equal, so is the flow. What `scale` and `spline` point to is copied, as is `hidden`.
 */
typedef struct nf_recipe_options {
    size_t n_ctx;             /**< rows of context, which every layer's net reads; 0: none */
    size_t n_layers;          /**< couplings or autoregressive flows */
    const size_t *hidden;     /**< [n_hidden] widths of the nets' hidden layers */
    size_t n_hidden;          /**< their number; where there are residual blocks, 1: the width of all */
    size_t n_blocks;          /**< residual blocks; 0 means the recipe's, but none if n_hidden is above 1 */
    nf_activation activation; /**< of hidden units; NF_RELU (zero) means NF_ELU in nf_iaf */
    double dropout;           /**< of the nets, in [0, 1) */
    double last_scale;        /**< of the nets' last layers, see nf_mlp_options; 0 means 0.01, negative means 0 */
    const nf_scaled_affine_options *scale; /**< of nf_realnvp, nf_made, nf_maf and nf_iaf */
    const nf_spline_options *spline;       /**< of the nf_nsf recipes */
    nf_mixing mixing;                      /**< between layers */
    nf_parallel parallel;                  /**< of autoregressive recipes */
    uint64_t seed;                         /**< of permutations and random masks; weights come from the model's seed */
} nf_recipe_options;

/**
 * NICE (Dinh, Krueger & Bengio 2014): additive couplings of one half of the rows, then the other, on a diagonal scaling
 * (with a shift: nf_affine) at the base. Only that changes volumes.
 * @param dim     rows, >= 1. Of one row, couplings shift it by what their nets make of the context
 * @param options NULL: the paper's
 * @return NULL on NF_EARG (the message names the recipe and the option), NF_ENOMEM. So do all recipes.
 */
NF_API nf_flow *nf_nice(size_t dim, const nf_recipe_options *options);
/**
 * Real NVP (Dinh, Sohl-Dickstein & Bengio 2017) on vectors, as Papamakarios et al. (2017) have it: affine couplings of
 * alternating rows.
 */
NF_API nf_flow *nf_realnvp(size_t dim, const nf_recipe_options *options);
/** A Gaussian MADE (Germain et al. 2015; Papamakarios et al. 2017, section 2.2): a normal for each row given those
 * before. */
NF_API nf_flow *nf_made(size_t dim, const nf_recipe_options *options);
/** Masked autoregressive flow (Papamakarios, Pavlakou & Murray 2017): MADEs on top of each other, without their batch
 * normalisation. */
NF_API nf_flow *nf_maf(size_t dim, const nf_recipe_options *options);
/**
 * Inverse autoregressive flow (Kingma et al. 2016): y = s x + (1 - s) m, with m and s = sigmoid(a + 2) from a masked
 * net of x and the context h. With its forget gates open that wide it starts near y = sigmoid(2)^layers x, not nearer
 * to the identity.
 */
NF_API nf_flow *nf_iaf(size_t dim, const nf_recipe_options *options);
/** Neural spline flow with couplings (Durkan et al. 2019, RQ-NSF (C)) of alternating rows. */
NF_API nf_flow *nf_nsf_coupling(size_t dim, const nf_recipe_options *options);
/** Neural spline flow, autoregressive (Durkan et al. 2019, RQ-NSF (AR)). */
NF_API nf_flow *nf_nsf_autoregressive(size_t dim, const nf_recipe_options *options);

NF_END_DECLS
#endif
