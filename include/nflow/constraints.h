/**
 * @file constraints.h
 * Constraints: flows from all of R^n to the values that a parameter may have, as in probabilistic programming
 * languages.
 *
 * Forward goes from unconstrained to constrained values. A distribution that is pushed through a constraint therefore
 * has its support on the constrained values. No constraint has parameters. The maps, the order of the unconstrained
 * numbers and the log-dets are those of Stan (Reference Manual, "Constraint Transforms"). Vectors and matrices have
 * Stan's layout: matrices column by column, with all entries, also zeros and duplicates. nf_blocks() joins the
 * constraints of several parameters.
 *
 * Charts. A simplex or a correlation matrix has more entries than degrees of freedom: dim_out > dim_in. Its density is
 * then a density of some of its entries. These entries are the chart, which each function names. The log-det is that of
 * the map from the unconstrained numbers to the chart. The usual densities (Dirichlet, LKJ, Wishart, ...) are densities
 * in these charts.
 *
 * The inverse reads the entries that its function names. It is exact on the set, and it is a smooth function near the
 * set, too. Its gradient is that of this smooth function, and is 0 in entries that are not read.
 *
 * Extremes. Log-dets are finite if they can be represented, and gradients are finite if values are. Values that
 * overflow are infinite. A cotangent of 0, as of a draw that the target rejects, stays 0 there. Outside the set, the
 * inverse's log-det is -infinity, so that a density is 0, and the inverse's value is that of a point near the edge. On
 * the edge itself the unconstrained number would be infinite. There a distance from the edge below 1e-290 (float:
 * 1e-30) is replaced by this bound, which is a constant for the gradient. (For the diagonals of Cholesky factors in
 * nf_corr_matrix and nf_cov_matrix the bound is 1e-306, float: 1e-36.) Bounds a, b of y are rounded to nf_real. If
 * exp(x) is smaller than the rounding of the bound of y, y is that bound itself. Entries of simplexes that would be
 * smaller than the smallest normal number (2.2e-308, float: 1.2e-38) are that number, so that their logarithms are
 * finite.
 *
 * Ratios. The inverses of simplexes and of nf_cholesky_corr() read ratios. A vector of positive entries whose sum is
 * not 1, or a row whose length is not 1, is taken for the point of the set that is a multiple of it; it does not count
 * as outside the set.
 *
 * Size 1. Where the size is data it may be 1: a simplex of one entry is (1), a vector with sum 0 is (0), a correlation
 * matrix and its Cholesky factor are [1]. Such a set is one point. Its unconstrained side has no features (dim_in is 0)
 * and its log-det is 0. In nf_blocks() such a block stands beside the others as any block does. Calls with a model of
 * such a flow alone accept NULL for the array of no numbers; but no distribution has dimension 0, so that it cannot be
 * pushed forward alone.
 */
#ifndef NFLOW_CONSTRAINTS_H
#define NFLOW_CONSTRAINTS_H
#include <nflow/flow.h>
NF_BEGIN_DECLS

/* ---- numbers; elementwise, dim_out = dim_in = dim, chart: all entries ---- */

/** Any real number: y = x. log-det 0. */
NF_API nf_flow *nf_identity(size_t dim);
/** y = a + exp(x) > a. log-det: sum of x. @return NULL on NF_EARG (dim 0, a not finite), NF_ENOMEM. */
NF_API nf_flow *nf_lower(size_t dim, double a);
/** y = b - exp(x) < b. log-det: sum of x. @return NULL on NF_EARG (dim 0, b not finite), NF_ENOMEM. */
NF_API nf_flow *nf_upper(size_t dim, double b);
/**
 * a < y < b, y = a + (b - a) sigmoid(x). Near each end, y is as exact as numbers near that end can be. log-det: sum of
 * log(b - a) - |x| - 2 log(1 + exp(-|x|)).
 * @return NULL on NF_EARG (dim 0, not a < b, b - a not finite), NF_ENOMEM.
 */
NF_API nf_flow *nf_interval(size_t dim, double a, double b);
/**
 * Each feature has its own bounds: lower[i] < y[i] < upper[i]. The maps are the four above.
 * @param lower [dim], copied; -INFINITY: this feature has no lower bound. NULL: no feature has one
 * @param upper [dim], copied; INFINITY: this feature has no upper bound. NULL: no feature has one
 * @return NULL on NF_EARG (dim 0, bounds that are NaN, that cross or whose difference is not finite), NF_ENOMEM.
 */
NF_API nf_flow *nf_bounds(size_t dim, const double *lower, const double *upper);
/**
 * y = m + s x, elementwise: Stan's offset and multiplier. log-det: sum of log s.
 * @param offset     m [dim], copied, finite. NULL: zeros
 * @param multiplier s [dim], copied, positive and finite. NULL: ones
 * @return NULL on NF_EARG (dim 0, an offset or multiplier that is not as above), NF_ENOMEM.
 */
NF_API nf_flow *nf_offset_multiplier(size_t dim, const double *offset, const double *multiplier);

/* ---- vectors ---- */

/** y[0] = x[0], y[k] = y[k-1] + exp(x[k]), K features. Chart: all entries; log-det: sum of x[1..]. K >= 1. */
NF_API nf_flow *nf_ordered(size_t K);
/** The same with y[0] = exp(x[0]): 0 < y[0] < y[1] < ... log-det: sum of x. K >= 1. */
NF_API nf_flow *nf_positive_ordered(size_t K);
/**
 * K - 1 features to the simplex (K positive entries whose sum is 1) by breaking a stick (Stan up to 2.36). y[k] is the
 * fraction sigmoid(x[k] - log(K - 1 - k)) of what y[0..k-1] leave of 1, and y[K-1] is the rest. x = 0 is the centre.
 * Chart: y[0..K-2]; log-det: sum of the K log y. The inverse reads the ratios of all entries. K >= 1.
 */
NF_API nf_flow *nf_simplex_stick(size_t K);
/**
 * K - 1 features to the simplex by the isometric log-ratio (Egozcue et al. 2003; Stan from 2.37): the softmax of the
 * result of nf_sum_to_zero. Chart: y[0..K-2]; log-det: sum of the K log y, plus log(K) / 2. The inverse reads the
 * ratios of all entries. K >= 1.
 */
NF_API nf_flow *nf_simplex_ilr(size_t K);
/**
 * K - 1 features to K entries whose sum is 0: y = V x. The columns of V are orthonormal: V[i][k] = 1 / sqrt((k + 1) (k
 * + 2)) for i <= k, and -(k + 1) times that for i = k + 1. Chart: the hyperplane with its own area, so the log-det is
 * 0. (As a density of the first K - 1 entries, a density is sqrt(K) times as large.) The inverse V^T y reads all
 * entries. K >= 1.
 */
NF_API nf_flow *nf_sum_to_zero(size_t K);

/* ---- matrices, [rows x cols] column by column ---- */

/** How a simplex is parameterised: as by nf_simplex_stick or by nf_simplex_ilr. */
typedef enum nf_simplex_form {
    NF_SIMPLEX_STICK, /**< Stan to 2.36 */
    NF_SIMPLEX_ILR    /**< Stan from 2.37 */
} nf_simplex_form;

/**
 * Every column is a simplex. dim_in: (rows - 1) cols, column after column; dim_out: rows cols. Chart: all but the last
 * row; log-det: the sum over columns. rows >= 1, cols >= 1.
 */
NF_API nf_flow *nf_column_stochastic(size_t rows, size_t cols, nf_simplex_form form);
/**
 * Every row is a simplex. dim_in: rows (cols - 1), a [rows x (cols - 1)] matrix column by column; dim_out: rows cols.
 * Chart: all but the last column; log-det: the sum over rows. rows >= 1, cols >= 1.
 */
NF_API nf_flow *nf_row_stochastic(size_t rows, size_t cols, nf_simplex_form form);
/**
 * K (K - 1) / 2 features to the Cholesky factor L of a correlation matrix: lower triangular, with rows of length 1 and
 * a positive diagonal. x fills the strict lower triangle row by row. With z = tanh(x), L[i][j] = z[i][j] sqrt(1 - sum
 * of L[i][0..j-1]^2). Chart: the strict lower triangle; log-det: sum of log(1 - z^2) + half of the sum over j > 0 of
 * log(1 - sum of L[i][0..j-1]^2). dim_out: K^2. The inverse reads ratios of the lower triangle's entries within a row.
 * K >= 1.
 */
NF_API nf_flow *nf_cholesky_corr(size_t K);
/**
 * K (K - 1) / 2 features to a correlation matrix L L^T. L is that of nf_cholesky_corr, but x fills it column by column:
 * Stan's two orders differ, too. Chart: the strict lower triangle; log-det: sum over i > j of (1 + (K - 2 - j) / 2)
 * log(1 - z[i][j]^2), j from 0. dim_out: K^2. The inverse reads the strict lower triangle. It is as badly conditioned
 * as the matrix, whose condition number is the square of L's. K >= 1.
 */
NF_API nf_flow *nf_corr_matrix(size_t K);
/**
 * N (N + 1) / 2 + (M - N) N features to the [M x N] Cholesky factor of a covariance matrix: x fills the lower triangle
 * row by row, and the diagonal is exp(x). Chart: the lower triangle; log-det: sum of the diagonal's x. dim_out: M N.
 * The inverse reads the lower triangle. M >= N >= 1.
 */
NF_API nf_flow *nf_cholesky_cov(size_t M, size_t N);
/**
 * K (K + 1) / 2 features to a covariance matrix L L^T, L = nf_cholesky_cov(K, K). Chart: the lower triangle; log-det: K
 * log 2 + sum over k of (K + 1 - k) x[k][k], k from 0. dim_out: K^2. The inverse reads the lower triangle. It is as
 * badly conditioned as the matrix, whose condition number is the square of L's. Entries of L beyond 1e150 (float: 1e18)
 * count as this bound. K >= 1.
 */
NF_API nf_flow *nf_cov_matrix(size_t K);

NF_END_DECLS
#endif
