/**
 * @file linear.h
 * Linear flows: general matrices by their factors, permutations, reflections.
 *
 * Constructors return NULL on failure; nf_error_message() says why.
 */
#ifndef NFLOW_LINEAR_H
#define NFLOW_LINEAR_H
#include <nflow/flow.h>
NF_BEGIN_DECLS

/**
 * y = W x + b, W = P L (U + diag(sign exp(s))). P is a fixed permutation, L unit lower triangular, U strictly upper
 * triangular (Kingma & Dhariwal 2018, section 3.2). This is the learnt permutation of Glow: it starts as a permutation
 * and moves away from it. theta: L's d(d-1)/2, U's d(d-1)/2, s [dim], b [dim], with d = dim. prep: M = P^T W, M^-1, the
 * log-det and e^s; rows of M may be stored with a stride larger than dim. P and the signs are drawn from `seed`, and W
 * starts as P diag(sign). With the seed NF_LU_IDENTITY there is no permutation and all signs are +: W = L U starts as
 * the identity (Durkan et al. 2019). b is in the units of y, and W in their quotients: put nf_actnorm() between the
 * layer and data.
 */
NF_API nf_flow *nf_lu_linear(size_t dim, uint64_t seed);
#define NF_LU_IDENTITY UINT64_MAX /**< the seed of an nf_lu_linear without permutation and signs */
/**
 * y = m + L x, L lower triangular with diagonal exp(s). It turns a standard normal into any normal distribution, whose
 * covariance is L L^T. Both directions are exact: products and substitution. theta: m [dim], s [dim], l: the rows of L
 * below the diagonal, of 1, 2, ... dim - 1 numbers. Starts as the identity. m and the rows below the diagonal are in
 * the units of y: put nf_actnorm() between the layer and data. It has NF_PER_SAMPLE, for amortised full
 * covariances.
 */
NF_API nf_flow *nf_full_affine(size_t dim);
/**
 * y = m + exp(s) (x + W W^T x), W [dim x rank]. It turns a standard normal into any normal distribution of covariance
 * D^2 + U U^T, with D diagonal and U [dim x rank] (factor analysis). The cost is of order dim rank a sample. The
 * log-det is sum s + log det(I + W^T W). The inverse is Woodbury's formula, which loses about log10(1 + |W|^2) digits;
 * the log-det loses as many if columns of W are nearly parallel. |W|^2 must not overflow. theta: m [dim], s [dim], W by
 * rows. Starts near the identity with small random W, because W = 0 has no gradient. m is in the units of y: put
 * nf_actnorm() between the layer and data. It has NF_PER_SAMPLE.
 * @param rank from 1 to dim
 */
NF_API nf_flow *nf_low_rank_affine(size_t dim, size_t rank);
/** The permutation y[i] = x[order[i]]. order [dim] is copied and must be a permutation of 0..dim-1. */
NF_API nf_flow *nf_permutation(size_t dim, const size_t *order);
/** The permutation y[i] = x[dim - 1 - i]. */
NF_API nf_flow *nf_reverse(size_t dim);
/** A permutation that is drawn from `seed`, the same in both precisions. For a learnt one take nf_lu_linear. */
NF_API nf_flow *nf_random_permutation(size_t dim, uint64_t seed);

/**
 * y = H_{n-1} ... H_0 x, H_j = I - 2 v_j v_j^T / |v_j|^2, a chain of reflections (Tomczak & Welling 2016). theta: v
 * [n x dim]. log-det 0; the inverse is the chain in reverse order. If the squared length of a v is below the smallest
 * normal number (0, say) or overflows, this v reflects nothing and has no gradient. v.x must not overflow. Starts with
 * random directions. v has no unit, but it mixes features, which should have one unit.
 * @param n reflections, >= 1; with n = dim every orthogonal map of determinant (-1)^dim is one
 * @return NULL on NF_EARG (dim or n is 0, or too large), NF_ENOMEM.
 */
NF_API nf_flow *nf_householder(size_t dim, size_t n);

NF_END_DECLS
#endif
