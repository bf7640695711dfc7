/* Rows of the conformance table: Householder chains and Sylvester flows. */
#ifndef CONFORMANCE_ORTHOGONAL_ROWS_H
#define CONFORMANCE_ORTHOGONAL_ROWS_H
#include <nflow/nflow.h>

/* An odd number of reflections, more of them than features where there are few. */
static inline nf_flow *build_householder(size_t dim, size_t n_ctx)
{
    (void)n_ctx;
    return nf_householder(dim, 5);
}

/* build_sylvester_<name>, with options. */
#define SYLVESTER(name, ...)                                                \
    static inline nf_flow *build_sylvester_##name(size_t dim, size_t n_ctx) \
    {                                                                       \
        (void)n_ctx;                                                        \
        return nf_sylvester(dim, &(nf_sylvester_options){__VA_ARGS__});     \
    }
SYLVESTER(orthogonal, .kind = NF_SYLVESTER_ORTHOGONAL)
SYLVESTER(two_columns, .columns = dim > 2 ? 2 : 1)
SYLVESTER(householder, .kind = NF_SYLVESTER_HOUSEHOLDER, .reflections = 3)
SYLVESTER(triangular, .kind = NF_SYLVESTER_TRIANGULAR)
SYLVESTER(reversed, .kind = NF_SYLVESTER_TRIANGULAR, .reversed = true)

/* As posteriors use them. */
static inline nf_flow *build_sylvester_chain(size_t dim, size_t n_ctx)
{
    return nf_chain((nf_flow *[]){build_sylvester_triangular(dim, n_ctx), build_sylvester_reversed(dim, n_ctx),
                                  build_sylvester_orthogonal(dim, n_ctx), build_householder(dim, n_ctx),
                                  nf_invert(build_sylvester_householder(dim, n_ctx))},
                    5);
}

#define ORTHOGONAL_ROWS                                                                  \
    {"Householder", build_householder, 0.1, 1, false, 0},                                \
        {"Sylvester, orthogonal", build_sylvester_orthogonal, 0.2, 3, false, 0},         \
        {"Sylvester, two columns", build_sylvester_two_columns, 0.5, 3, false, 0},       \
        {"Sylvester, Householder", build_sylvester_householder, 0.1, 10, false, 0},      \
        {"Sylvester, triangular", build_sylvester_triangular, 0.1, 10, false, 0},        \
        {"Sylvester, triangular reversed", build_sylvester_reversed, 0.1, 10, false, 0}, \
        {"chain of Sylvester flows", build_sylvester_chain, 0.05, 30, false, 0},

#endif
