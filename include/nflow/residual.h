/**
 * @file residual.h
 * Residual flows y = x + g(x): with a log-det in closed form (planar, radial, Sylvester), and of any contraction g.
 *
 * Constructors return NULL on failure; nf_error_message() says why.
 */
#ifndef NFLOW_RESIDUAL_H
#define NFLOW_RESIDUAL_H
#include <nflow/flow.h>
NF_BEGIN_DECLS

/**
 * y = x + u^ tanh(w.x + b) (Rezende & Mohamed 2015, eq. 10), u^ = u + (m(w.u) - w.u) w / |w|^2, m(a) = -1 + log(1+e^a)
 * (appendix A.1). theta: w [dim], u [dim], b. The inverse is a bracketed Newton iteration on w.x, to rounding. |w|^2,
 * w.u and w.x must not overflow. A w whose squared length is below the smallest normal number counts as 0. w, u and b
 * start for x of deviation 1: put nf_actnorm() between the layer and data.
 */
NF_API nf_flow *nf_planar(size_t dim);
/**
 * y = x + beta (x - z0) / (alpha + |x - z0|) (Rezende & Mohamed 2015, eq. 14), alpha = exp(a),
 * beta = -alpha + log(1+e^b) (appendix A.2). theta: z0 [dim], a, b. The inverse is in closed form. alpha and alpha +
 * beta are kept between 2^-500 and 2^500 (float: 2^-60 and 2^60), so that their quotients are finite. z0, alpha and
 * beta are in the units of x and start for x of deviation 1: put nf_actnorm() between the layer and data.
 */
NF_API nf_flow *nf_radial(size_t dim);
/** What Q is in nf_sylvester. */
typedef enum nf_sylvester_kind {
    NF_SYLVESTER_ORTHOGONAL,  /**< [dim x columns], by as many reflections; the default */
    NF_SYLVESTER_HOUSEHOLDER, /**< [dim x dim], by `reflections` reflections */
    NF_SYLVESTER_TRIANGULAR   /**< the identity, or the features in reverse order */
} nf_sylvester_kind;

/** Options of nf_sylvester; zero means the default. */
typedef struct nf_sylvester_options {
    nf_sylvester_kind kind; /**< what Q is */
    size_t columns;         /**< M of the orthogonal kind, at most dim; by default 8, or dim if that is less */
    size_t reflections;     /**< of the Householder kind; by default 8, or dim if that is less */
    bool reversed; /**< of the triangular kind: Q reverses the order of features; set it in every other layer */
} nf_sylvester_options;

/**
 * y = x + Q R tanh(R~ Q^T x + b) (van den Berg et al. 2018). R and R~ are upper triangular [M x M], and Q [dim x M] has
 * orthonormal columns. M = dim, except in the orthogonal kind.
 *
 * theta: v [n x dim], R above its diagonal row by row [M (M - 1) / 2], R~ likewise, alpha [M], alpha~ [M], b [M]. The
 * diagonals are tanh(alpha) and tanh(alpha~), which makes the map invertible for all parameters. Q is the first M
 * columns of H_0 ... H_{n-1}, H_j = I - 2 v_j v_j^T / |v_j|^2 (see nf_householder()), and is orthogonal to rounding. n
 * is M in the orthogonal kind; there the paper makes a matrix of as many numbers orthogonal by an iteration. n is 0 in
 * the triangular kind.
 *
 * The inverse solves one monotone equation for each feature of Q^T x, to rounding. Starts near the identity, with Q
 * drawn at random. Products of two parameters, and of a parameter and x, must not overflow. tanh bends where x is of
 * order 1: put nf_actnorm() between the layer and data.
 * @param options NULL: orthogonal, M = 8
 * @return NULL on NF_EARG (dim 0, more columns than rows, an option of another kind, overflow), NF_ENOMEM.
 */
NF_API nf_flow *nf_sylvester(size_t dim, const nf_sylvester_options *options);

/** How nf_residual_flow computes log det(I + J), J = dg/dx. */
typedef enum nf_log_det {
    /**
     * Exact with up to NF_LOG_DET_EASY features, with more NF_LOG_DET_ROULETTE; outside training exact with up to
     * NF_LOG_DET_MOST features.
     */
    NF_LOG_DET_DEFAULT,
    NF_LOG_DET_EXACT, /**< from the dense J of each sample; with up to NF_LOG_DET_MOST features */
    /**
     * The first `terms` terms of sum_k (-1)^(k+1) / k tr(J^k), with Hutchinson's estimate of traces. If L < 1 is the
     * Lipschitz constant of g and n the number of terms, the mean differs from the log-det by at most
     * dim L^(n+1) / ((n + 1) (1 - L)).
     */
    NF_LOG_DET_SERIES,
    /**
     * The same with a random number of terms N, which makes the estimate unbiased (Chen et al. 2019): the first `terms`
     * terms, then each further one with the probability `survival`; term k is divided by P(N >= k).
     */
    NF_LOG_DET_ROULETTE
} nf_log_det;

/** Sizes that concern exact log-dets. */
enum {
    NF_LOG_DET_EASY = 8, /**< the most features for which log-dets are exact in training by default */
    NF_LOG_DET_MOST = 64 /**< the most features for which log-dets may be exact, and are by default outside training */
};

/** Options of nf_residual_flow; zero means the default. */
typedef struct nf_residual_flow_options {
    nf_log_det log_det; /**< how log-dets are computed in training (NF_TRAIN) */
    size_t terms;       /**< of a series, those that are always computed; 0: 8 */
    double survival;    /**< of the roulette, above 0 and below 1; 0: 0.5. Variances need Lip(g)^2 < survival */
    size_t probes;      /**< vectors of random signs, over which an estimate is the mean; 0: 1 */
    /**
     * The inverse of y has converged for a sample if |x + g(x) - y| is at most tolerance (1 + |y|), in the largest
     * feature. The error of x is then at most 1 / (1 - Lip(g)) times as large. Above 0 and below 1; 0: 1e-10. Less than
     * rounding allows is not asked for: 1e-13, in float 1e-5. If `log_det` is exact, one more step of Newton's follows,
     * after which rounding errors are left.
     */
    double tolerance;
    size_t max_steps; /**< of the inverse; a sample that needs more has failed and is NaN; 0: 500 */
    /**
     * How log-dets are computed outside training (NF_EVAL): in scores, samples with log q, nf_transform() and its
     * gradients. By default they are exact, so that scores need no noise and have none, with up to NF_LOG_DET_MOST
     * features; that costs as many tangents as there are features. With more they are NF_LOG_DET_ROULETTE with
     * `score_terms`, as in the code of Chen et al., which also has 20 terms there and few in training.
     */
    nf_log_det score_log_det;
    size_t score_terms; /**< as `terms`, outside training; 0: 20 */
} nf_residual_flow_options;

/**
 * y = x + g(x; context) with a contraction g, the net (Behrmann et al. 2019; Chen et al. 2019). The parameters are the
 * net's.
 *
 * The inverse is iterated: by Newton's steps if `log_det` is exact, otherwise by Anderson acceleration of
 * x <- y - g(x); each step that does not make the error smaller is replaced by this. A density of data is faster if the
 * explicit direction goes from data to base: nf_invert() of this flow, or nf_residual().
 *
 * Estimates of the log-det are noise of the pass, by the names of the samples. If scores are estimates, too, the flow
 * is NF_STOCHASTIC, and scoring needs an nf_noise. Both directions draw the same numbers. Gradients of estimates are
 * those of Chen et al. (eq. 8), whose mean over the probes is the gradient of the mean; they need the memory of one
 * term, whatever the number of terms.
 * @param net consumed; a net with a tangent whose Lipschitz constant in x is below 1, as nf_lipschitz's is. With
 * another net nothing is promised: a sample whose inverse does not converge, or for which a leading minor of I + J is
 * not positive (exact log-dets), is NaN.
 * @param options NULL: the defaults
 * @return NULL on NF_EDIM (the net's features in and out differ), NF_EUNSUPPORTED (the net has no tangent), NF_EARG (an
 * option out of range; NF_LOG_DET_EXACT with too many features), NF_ENOMEM.
 */
NF_API nf_flow *nf_residual_flow(nf_net *net, const nf_residual_flow_options *options);

NF_END_DECLS
#endif
