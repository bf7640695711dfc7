/**
 * @file constraints.h
 * Constraints: flows from all of R^n to the values that a parameter may take, as probabilistic programs have them.
 *
 * Forward goes from unconstrained to constrained, so that a distribution pushed through one has its support there;
 * none has parameters. The maps, the order of the unconstrained numbers and the log-dets are those of Stan (Reference
 * Manual, "Constraint Transforms"); vectors and matrices are written as Stan writes them: matrices column by column,
 * in full, zeros and duplicates included. nf_blocks() joins the constraints of several parameters.
 *
 * Charts. A simplex or a correlation matrix has more entries than degrees of freedom: dim_out > dim_in. Its density is
 * then one of some of its entries, the chart, which every function names; the log-det is that of the map from the
 * unconstrained numbers to the chart. Densities in use (Dirichlet, LKJ, Wishart, ...) are meant in these charts.
 *
 * The inverse reads the entries that its function names, in a way that is exact on the set and extends smoothly beside
 * it; its gradient is that of this extension, 0 in entries that are not read.
 *
 * Extremes. Log-dets are finite wherever they are representable, and gradients where values are, too. Values that
 * overflow are infinite; a cotangent of 0, as of a draw that the target rejects, stays 0 there. Outside of its set the
 * inverse's log-det is -infinity, so that a density is 0, and its value that of a point near the edge. On the edge
 * itself, where the unconstrained number would be infinite, distances from it below 1e-290 (float: 1e-30) are taken for
 * that, which a gradient takes for a constant. (Diagonals of Cholesky factors that nf_corr_matrix and nf_cov_matrix go
 * through have 1e-306, float 1e-36, for that.) Bounds are rounded to nf_real, and where exp(x) is less than rounding y
 * is the bound itself.
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
 * a < y < b, y = a + (b - a) sigmoid(x), at either end as exact as that end allows. log-det: sum of
 * log(b - a) - |x| - 2 log(1 + exp(-|x|)).
 * @return NULL on NF_EARG (dim 0, not a < b, b - a not finite), NF_ENOMEM.
 */
NF_API nf_flow *nf_interval(size_t dim, double a, double b);
/**
 * Bounds of their own for every row: lower[i] < y[i] < upper[i], in the four ways above.
 * @param lower [dim], copied; -INFINITY: none. NULL: none at all
 * @param upper [dim], copied; INFINITY: none. NULL: none at all
 * @return NULL on NF_EARG (dim 0, bounds that are NaN, that cross or whose difference is not finite), NF_ENOMEM.
 */
NF_API nf_flow *nf_bounds(size_t dim, const double *lower, const double *upper);
/**
 * y = m + s x, elementwise: what Stan calls offset and multiplier. log-det: sum of log s.
 * @param offset     m [dim], copied, finite. NULL: zeros
 * @param multiplier s [dim], copied, positive and finite. NULL: ones
 * @return NULL on NF_EARG (dim 0, numbers that are not so), NF_ENOMEM.
 */
NF_API nf_flow *nf_offset_multiplier(size_t dim, const double *offset, const double *multiplier);

/* ---- vectors ---- */

/** y[0] = x[0], y[k] = y[k-1] + exp(x[k]), K rows. Chart: all entries; log-det: sum of x[1..]. K >= 1. */
NF_API nf_flow *nf_ordered(size_t K);
/** The same with y[0] = exp(x[0]): 0 < y[0] < y[1] < ... log-det: sum of x. K >= 1. */
NF_API nf_flow *nf_positive_ordered(size_t K);
/**
 * K - 1 rows to the simplex, K positive entries that sum to 1, by breaking a stick (Stan to 2.36): y[k] is the part
 * sigmoid(x[k] - log(K - 1 - k)) of what y[0..k-1] have left, y[K-1] the rest; x = 0 is the centre. Chart: y[0..K-2];
 * log-det: sum of the K log y. The inverse reads the ratios of all entries. K >= 2.
 */
NF_API nf_flow *nf_simplex_stick(size_t K);
/**
 * K - 1 rows to the simplex by the isometric log-ratio (Egozcue et al. 2003; Stan from 2.37): softmax of what
 * nf_sum_to_zero gives. Chart: y[0..K-2]; log-det: sum of the K log y, plus log(K) / 2. The inverse reads the ratios
 * of all entries. K >= 2.
 */
NF_API nf_flow *nf_simplex_ilr(size_t K);
/**
 * K - 1 rows to K entries with sum 0: y = V x, the columns of V orthonormal, V[i][k] = 1 / sqrt((k + 1) (k + 2)) for
 * i <= k and -(k + 1) times that for i = k + 1. Chart: the hyperplane with its own area, log-det 0. (In the first K - 1
 * entries a density is sqrt(K) times as large.) The inverse V^T y reads all entries. K >= 2.
 */
NF_API nf_flow *nf_sum_to_zero(size_t K);

/* ---- matrices, [rows x cols] column by column ---- */

/** How a simplex is parameterised: nf_simplex_stick or nf_simplex_ilr. */
typedef enum nf_simplex_form {
    NF_SIMPLEX_STICK, /**< Stan to 2.36 */
    NF_SIMPLEX_ILR    /**< Stan from 2.37 */
} nf_simplex_form;

/**
 * Every column a simplex. dim_in: (rows - 1) cols, column after column; dim_out: rows cols. Chart: all but the last
 * row; log-det: the columns' sum. rows >= 2, cols >= 1.
 */
NF_API nf_flow *nf_column_stochastic(size_t rows, size_t cols, nf_simplex_form form);
/**
 * Every row a simplex. dim_in: rows (cols - 1), a [rows x (cols - 1)] matrix column by column; dim_out: rows cols.
 * Chart: all but the last column; log-det: the rows' sum. rows >= 1, cols >= 2.
 */
NF_API nf_flow *nf_row_stochastic(size_t rows, size_t cols, nf_simplex_form form);
/**
 * K (K - 1) / 2 rows to the Cholesky factor L of a correlation matrix: lower triangular, rows of length 1, positive
 * diagonal. x fills the strict lower triangle row by row; with z = tanh(x), L[i][j] = z[i][j] sqrt(1 - sum of
 * L[i][0..j-1]^2). Chart: the strict lower triangle; log-det: sum of log(1 - z^2) + half of sum over j > 0 of
 * log(1 - sum of L[i][0..j-1]^2). dim_out: K^2. The inverse reads the lower triangle's ratios within a row. K >= 2.
 */
NF_API nf_flow *nf_cholesky_corr(size_t K);
/**
 * K (K - 1) / 2 rows to a correlation matrix L L^T. L is that of nf_cholesky_corr, but x fills it column by column: in
 * Stan, too, the two orders differ. Chart: the strict lower triangle; log-det: sum over i > j of
 * (1 + (K - 2 - j) / 2) log(1 - z[i][j]^2), j from 0. dim_out: K^2. The inverse reads the strict lower triangle;
 * it is as badly conditioned as the matrix, whose condition is that of L squared. K >= 2.
 */
NF_API nf_flow *nf_corr_matrix(size_t K);
/**
 * N (N + 1) / 2 + (M - N) N rows to the [M x N] Cholesky factor of a covariance matrix: x fills the lower triangle row
 * by row, and the diagonal is exp(x). Chart: the lower triangle; log-det: sum of the diagonal's x. dim_out: M N. The
 * inverse reads the lower triangle. M >= N >= 1.
 */
NF_API nf_flow *nf_cholesky_cov(size_t M, size_t N);
/**
 * K (K + 1) / 2 rows to a covariance matrix L L^T, L = nf_cholesky_cov(K, K). Chart: the lower triangle; log-det:
 * K log 2 + sum over k of (K + 1 - k) x[k][k], k from 0. dim_out: K^2. The inverse reads the lower triangle;
 * it is as badly conditioned as the matrix, whose condition is that of L squared. Entries of L beyond 1e150 (float:
 * 1e18) are taken for that. K >= 1.
 */
NF_API nf_flow *nf_cov_matrix(size_t K);

NF_END_DECLS
#endif
