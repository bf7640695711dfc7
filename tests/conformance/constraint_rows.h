/* Rows of the constraints and of blocks. A constraint's row (and any whose inverse grows as fast) has a chart beside
   it: in which of y's entries its log-det is meant, and which points suit it. */
#ifndef CONFORMANCE_CONSTRAINT_ROWS_H
#define CONFORMANCE_CONSTRAINT_ROWS_H
#include "conditioned_rows.h"
#include <math.h>

/* The row has so many unconstrained features (in) and constrained ones (out). */
typedef struct chart {
    builder *build; /* the row's */
    double scale;   /* of unconstrained points */
    double huge[2]; /* an unconstrained number at which images are still finite: in float, in double */
    void (*coordinates)(size_t in, size_t out, double *C); /* y's coordinates are C y, C [in x out], zeros so far; NULL:
                                                              y itself */
} chart;

/* ---- layers ---- */

/* The kinds in turn. */
static inline nf_flow *build_bounds(size_t dim, size_t n_ctx)
{
    (void)n_ctx;
    double offset[64], multiplier[64], lower[64], upper[64];
    for (size_t i = 0; i < dim; i++) {
        offset[i] = 0.17 - 0.1 * (double)(i % 5);
        multiplier[i] = 0.31 + 0.13 * (double)(i % 3);
        lower[i] = i % 4 == 0 || i % 4 == 2 ? -0.937 : -(double)INFINITY;
        upper[i] = i % 4 == 1 || i % 4 == 2 ? 2.413 : (double)INFINITY;
    }
    return nf_chain((nf_flow *[]){nf_offset_multiplier(dim, offset, multiplier), nf_bounds(dim, lower, upper)}, 2);
}

static inline size_t matrix_size(size_t dim)
{
    return dim < 2 ? 1 : dim < 4 ? 2 : dim < 6 ? 3 : dim < 22 ? 4 : 5;
}

/* A constraint of a size that follows from dim, as a builder. */
#define CONSTRAINT(name, call)                                    \
    static inline nf_flow *build_##name(size_t dim, size_t n_ctx) \
    {                                                             \
        (void)n_ctx;                                              \
        return call;                                              \
    }
CONSTRAINT(identity, nf_identity(dim))
CONSTRAINT(ordered, nf_ordered(dim))
CONSTRAINT(positive_ordered, nf_positive_ordered(dim))
CONSTRAINT(simplex_stick, nf_simplex_stick(dim + 1))
CONSTRAINT(simplex_ilr, nf_simplex_ilr(dim + 1))
CONSTRAINT(sum_to_zero, nf_sum_to_zero(dim + 1))
CONSTRAINT(column_stochastic, nf_column_stochastic(1 + (dim + 2) / 3, 3, NF_SIMPLEX_STICK))
CONSTRAINT(row_stochastic, nf_row_stochastic(3, 1 + (dim + 2) / 3, NF_SIMPLEX_ILR))
CONSTRAINT(cholesky_corr, nf_cholesky_corr(1 + matrix_size(dim)))
CONSTRAINT(corr_matrix, nf_corr_matrix(1 + matrix_size(dim)))
CONSTRAINT(cholesky_cov, nf_cholesky_cov(dim + 1, 2))
CONSTRAINT(cov_matrix, nf_cov_matrix(matrix_size(dim)))
CONSTRAINT(blocks_of_constraints,
           nf_blocks((nf_flow *[]){nf_chain((nf_flow *[]){nf_affine(dim), nf_lower(dim, -0.37)}, 2),
                                   nf_simplex_stick(dim + 1)},
                     2))
CONSTRAINT(blocks_of_layers, dim < 2 ? nf_blocks((nf_flow *[]){nf_radial(dim)}, 1)
                                     : nf_blocks((nf_flow *[]){nf_affine(dim / 2), nf_planar(dim - dim / 2)}, 2))

/* Constraints whose size is data and happens to be 1: nine entries that are fixed stand around those of the rest. */
static inline nf_flow *build_blocks_of_size_one(size_t dim, size_t n_ctx)
{
    (void)n_ctx;
    return nf_blocks((nf_flow *[]){nf_simplex_stick(1), nf_corr_matrix(1), nf_affine(dim), nf_simplex_ilr(1),
                                   nf_sum_to_zero(1), nf_cholesky_corr(1), nf_column_stochastic(1, 2, NF_SIMPLEX_STICK),
                                   nf_row_stochastic(2, 1, NF_SIMPLEX_ILR)},
                     8);
}

static inline nf_flow *build_blocks_on_context(size_t dim, size_t n_ctx)
{
    return nf_blocks((nf_flow *[]){build_affine_on_halves(dim, n_ctx), nf_lu_linear(2, 57)}, 2);
}

/* ---- charts ---- */

static inline void first_entries(size_t in, size_t out, double *C)
{
    for (size_t i = 0; i < in; i++)
        C[i * out + i] = 1;
}

/* After the first two blocks. */
static inline void after_two(size_t in, size_t out, double *C)
{
    for (size_t i = 0; i < in; i++)
        C[i * out + 2 + i] = 1;
}

/* An orthonormal basis of the hyperplane. */
static inline void helmert(size_t in, size_t out, double *C)
{
    for (size_t k = 0; k < in; k++)
        for (size_t i = 0; i <= k + 1; i++)
            C[k * out + i] = (i <= k ? 1 : -(double)(k + 1)) / sqrt((double)((k + 1) * (k + 2)));
}

/* Three columns, or three rows. */
static inline void but_last_row(size_t in, size_t out, double *C)
{
    for (size_t k = 0; k < in; k++)
        C[k * out + k + k / (in / 3)] = 1;
}

/* [out / cols x cols], the entries i >= j + (the diagonal left out). */
static inline void triangle(size_t out, size_t cols, bool strict, double *C)
{
    const size_t rows = out / cols;
    for (size_t j = 0, k = 0; j < cols; j++)
        for (size_t i = j + strict; i < rows; i++)
            C[k++ * out + j * rows + i] = 1;
}

static inline size_t square_root(size_t n)
{
    return (size_t)lround(sqrt((double)n));
}

static inline void strict_triangle(size_t in, size_t out, double *C)
{
    (void)in;
    triangle(out, square_root(out), true, C);
}

static inline void square_triangle(size_t in, size_t out, double *C)
{
    (void)in;
    triangle(out, square_root(out), false, C);
}

static inline void two_columns(size_t in, size_t out, double *C)
{
    (void)in;
    triangle(out, 2, false, C);
}

static const chart charts[] = {{build_soft_log, 1, {1e15, 1e15}, NULL},
                               {build_bounds, 1, {40, 300}, NULL},
                               {build_ordered, 0.5, {40, 300}, NULL},
                               {build_positive_ordered, 0.5, {40, 300}, NULL},
                               {build_simplex_stick, 1, {1e15, 1e15}, first_entries},
                               {build_simplex_ilr, 1, {1e15, 1e15}, first_entries},
                               {build_sum_to_zero, 1, {1e15, 1e15}, helmert},
                               {build_column_stochastic, 1, {1e15, 1e15}, but_last_row},
                               {build_row_stochastic, 1, {1e15, 1e15}, first_entries},
                               {build_cholesky_corr, 0.5, {1e15, 1e15}, strict_triangle},
                               {build_corr_matrix, 0.4, {1e15, 1e15}, strict_triangle},
                               {build_cholesky_cov, 1, {40, 300}, two_columns},
                               {build_cov_matrix, 0.4, {20, 100}, square_triangle},
                               {build_blocks_of_constraints, 0.5, {10, 100}, first_entries},
                               {build_blocks_of_size_one, 1, {1e15, 1e15}, after_two}};

/* NULL for rows that go from all of R^n to all of R^n. */
static inline const chart *find_chart(builder *build)
{
    for (size_t i = 0; i < sizeof charts / sizeof *charts; i++)
        if (charts[i].build == build)
            return &charts[i];
    return NULL;
}

#define CONSTRAINT_ROWS                                                                                                \
    {"bounds", build_bounds, 0, 10, false, 0}, {"identity", build_identity, 0, 1, false, 0},                           \
        {"ordered", build_ordered, 0, 100, false, 0}, {"positive_ordered", build_positive_ordered, 0, 100, false, 0},  \
        {"simplex_stick", build_simplex_stick, 0, 10, false, 0}, {"simplex_ilr", build_simplex_ilr, 0, 10, false, 0},  \
        {"sum_to_zero", build_sum_to_zero, 0, 10, false, 0},                                                           \
        {"column_stochastic", build_column_stochastic, 0, 10, false, 0},                                               \
        {"row_stochastic", build_row_stochastic, 0, 10, false, 0},                                                     \
        {"cholesky_corr", build_cholesky_corr, 0, 10, false, 0}, {"corr_matrix", build_corr_matrix, 0, 100, false, 0}, \
        {"cholesky_cov", build_cholesky_cov, 0, 10, false, 0}, {"cov_matrix", build_cov_matrix, 0, 100, false, 0},     \
        {"blocks of constraints", build_blocks_of_constraints, 0.3, 10, false, 0},                                     \
        {"blocks of size one", build_blocks_of_size_one, 0.3, 10, false, 0},                                           \
        {"blocks of layers", build_blocks_of_layers, 0.4, 1, false, 0},                                                \
        {"blocks on context", build_blocks_on_context, 0.3, 10, true, 0},

#endif
