/**
 * @file residual.h
 * Residual flows y = x + g(x) with a log-det in closed form: planar, radial, Sylvester.
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

NF_END_DECLS
#endif
