/* The table of distributions: one row each, put to every test of tests/test_dists.c. */
#ifndef CONFORMANCE_DIST_ROWS_H
#define CONFORMANCE_DIST_ROWS_H
#include <gsl/gsl_cdf.h>
#include <math.h>
#include <nflow/nflow.h>

typedef struct dist_row {
    const char *name;
    nf_dist *(*build)(size_t dim);
    /* Distribution function of dimension d of dim, GSL's; NULL: it depends on a context. */
    double (*cdf)(size_t dim, size_t d, const nf_real *theta, double x);
    double theta_scale; /* N(0, theta_scale^2) is added to the initial parameters */
    double low, high;   /* the support in every dimension */
    bool dependent;     /* dimensions are not independent */
} dist_row;

static const double t_df[] = {1.5, 0.7, 3.1, 2.2, 41.3};
#define LOW NF_R(-1.3)
#define HIGH NF_R(2.4)

static inline nf_dist *build_fixed_t(size_t dim)
{
    return nf_student_t(dim, &(nf_student_t_options){.each = t_df});
}

static inline nf_dist *build_learnt_t(size_t dim)
{
    return nf_student_t(dim, &(nf_student_t_options){.df = 2.3, .learn = true, .least = 0.8});
}

static inline nf_dist *build_moved_t(size_t dim)
{
    return nf_pushforward(nf_student_t(dim, &(nf_student_t_options){.df = 3, .learn = true}), nf_affine(dim));
}

static inline nf_dist *build_uniform(size_t dim)
{
    return nf_uniform(dim, (double)LOW, (double)HIGH);
}

static inline nf_dist *build_conditional(size_t dim)
{
    const size_t hidden[] = {7};
    return nf_conditional_normal(
        dim, nf_mlp(3, 2 * dim, 0, &(nf_mlp_options){.hidden = hidden, .n_hidden = 1, .activation = NF_TANH}));
}

static inline nf_dist *build_posterior(size_t dim)
{
    return nf_posterior(dim, nf_amortized_by_context(nf_scaled_affine(dim, NULL)));
}

static inline double softplus_of(nf_real t)
{
    return log1p(exp((double)t));
}

static inline double normal_cdf(size_t dim, size_t d, const nf_real *theta, double x)
{
    (void)dim, (void)d, (void)theta;
    return gsl_cdf_ugaussian_P(x);
}

static inline double diagonal_cdf(size_t dim, size_t d, const nf_real *theta, double x)
{
    return gsl_cdf_ugaussian_P((x - (double)theta[d]) * exp(-(double)theta[dim + d]));
}

/* theta: m, s, the rows of L below the diagonal. */
static inline double full_cdf(size_t dim, size_t d, const nf_real *theta, double x)
{
    const nf_real *l = theta + 2 * dim + d * (d - 1) / 2;
    double variance = exp(2 * (double)theta[dim + d]);
    for (size_t j = 0; j < d; j++)
        variance += (double)l[j] * (double)l[j];
    return gsl_cdf_ugaussian_P((x - (double)theta[d]) / sqrt(variance));
}

static inline double fixed_t_cdf(size_t dim, size_t d, const nf_real *theta, double x)
{
    (void)dim, (void)theta;
    return gsl_cdf_tdist_P(x, t_df[d]);
}

static inline double learnt_t_cdf(size_t dim, size_t d, const nf_real *theta, double x)
{
    (void)dim;
    return gsl_cdf_tdist_P(x, 0.8 + softplus_of(theta[d]));
}

static inline double moved_t_cdf(size_t dim, size_t d, const nf_real *theta, double x)
{
    return gsl_cdf_tdist_P((x - (double)theta[dim + d]) * exp(-(double)theta[2 * dim + d]), 1 + softplus_of(theta[d]));
}

static inline double logistic_cdf(size_t dim, size_t d, const nf_real *theta, double x)
{
    (void)dim, (void)d, (void)theta;
    return gsl_cdf_logistic_P(x, 1);
}

static inline double uniform_cdf(size_t dim, size_t d, const nf_real *theta, double x)
{
    (void)dim, (void)d, (void)theta;
    return gsl_cdf_flat_P(x, (double)LOW, (double)HIGH);
}

static inline nf_dist *build_mixture(size_t dim)
{
    return nf_mixture(dim, 3);
}

static inline nf_dist *build_moved_mixture(size_t dim)
{
    return nf_pushforward(nf_mixture(dim, 4), nf_affine(dim));
}

static inline nf_net *context_head(size_t n_params)
{
    return nf_mlp(3, n_params, 0,
                  &(nf_mlp_options){.hidden = (size_t[]){7}, .n_hidden = 1, .activation = NF_TANH, .last_scale = 0.4});
}

static inline nf_dist *build_conditional_mixture(size_t dim)
{
    return nf_conditional_mixture(dim, 3, context_head(3 + 6 * dim));
}

static inline nf_dist *build_amortised_mixture(size_t dim)
{
    nf_dist *q = nf_pushforward(nf_mixture(dim, 2), nf_planar(dim));
    return nf_amortized_dist(q, context_head(nf_dist_shape(q)->n_params));
}

static inline nf_dist *build_amortised_logistic(size_t dim)
{
    return nf_amortized_dist(nf_pushforward(nf_logistic(dim), nf_affine(dim)), context_head(2 * dim));
}

static inline nf_net *head_of(size_t n_in, size_t dim)
{
    return nf_mlp(n_in, 2 * dim, 0,
                  &(nf_mlp_options){.hidden = (size_t[]){6}, .n_hidden = 1, .activation = NF_TANH, .last_scale = 0.5});
}

/* The second part reads the first. One dimension has no second part. */
static inline nf_dist *build_joint(size_t dim)
{
    const size_t h = dim / 2;
    if (dim == 1)
        return nf_mixture(1, 2);
    return nf_joint(nf_mixture(h, 2), nf_conditional_normal(dim - h, head_of(h, dim - h)));
}

/* Both parts read the context, 3 features, and the second the first; its own second part is independent. */
static inline nf_dist *build_conditional_joint(size_t dim)
{
    const size_t h = dim / 2, z = dim - h;
    if (dim == 1)
        return nf_conditional_normal(1, head_of(3, 1));
    nf_dist *rest = nf_conditional_normal(z > 1 ? z - 1 : z, head_of(h + 3, z > 1 ? z - 1 : z));
    return nf_pushforward(nf_joint(nf_conditional_normal(h, head_of(3, h)),
                                   z > 1 ? nf_joint(rest, nf_pushforward(nf_logistic(1), nf_affine(1))) : rest),
                          nf_affine(dim));
}

/* The context goes past the first part to the second. */
static inline nf_dist *build_joint_of_context(size_t dim)
{
    const size_t h = dim / 2;
    if (dim == 1)
        return nf_conditional_normal(1, head_of(3, 1));
    return nf_joint(nf_diagonal_normal(h), nf_conditional_normal(dim - h, head_of(h + 3, dim - h)));
}

/* K components: logits, means, log-scales. */
static inline double mixture_cdf_of(size_t K, size_t dim, size_t d, const nf_real *theta, double x)
{
    double all = 0, sum = 0;
    for (size_t k = 0; k < K; k++) {
        const double m = (double)theta[K + k * dim + d], s = (double)theta[K + (K + k) * dim + d];
        const double w = exp((double)theta[k]);
        all += w;
        sum += w * gsl_cdf_ugaussian_P((x - m) * exp(-s));
    }
    return sum / all;
}

static inline double mixture_cdf(size_t dim, size_t d, const nf_real *theta, double x)
{
    return mixture_cdf_of(3, dim, d, theta, x);
}

static inline double moved_mixture_cdf(size_t dim, size_t d, const nf_real *theta, double x)
{
    const nf_real *affine = theta + 4 + 8 * dim;
    return mixture_cdf_of(4, dim, d, theta, (x - (double)affine[d]) * exp(-(double)affine[dim + d]));
}

/* Three normals with full covariances: logits, means, log-diagonals, rows below the diagonal. */
static inline double gaussian_mixture_cdf(size_t dim, size_t d, const nf_real *theta, double x)
{
    enum { N = 3 };
    double all = 0, sum = 0;
    for (size_t k = 0; k < N; k++) {
        const double m = (double)theta[N + k * dim + d], s = (double)theta[N + (N + k) * dim + d];
        const nf_real *l = theta + N + 2 * N * dim + k * dim * (dim - 1) / 2 + d * (d - 1) / 2;
        const double w = exp((double)theta[k]);
        double variance = exp(2 * s);
        for (size_t j = 0; j < d; j++)
            variance += (double)l[j] * (double)l[j];
        all += w;
        sum += w * gsl_cdf_ugaussian_P((x - m) / sqrt(variance));
    }
    return sum / all;
}

static inline nf_dist *build_gaussian_mixture(size_t dim)
{
    return nf_gaussian_mixture(dim, 3);
}

static inline nf_dist *build_amortised_gaussian_mixture(size_t dim)
{
    nf_dist *q = nf_gaussian_mixture(dim, 2);
    return nf_amortized_dist(q, context_head(nf_dist_shape(q)->n_params));
}

static const dist_row dist_rows[] = {
    {"normal", nf_normal, normal_cdf, 0, -INFINITY, INFINITY, false},
    {"diagonal normal", nf_diagonal_normal, diagonal_cdf, 0.4, -INFINITY, INFINITY, false},
    {"full normal", nf_full_normal, full_cdf, 0.4, -INFINITY, INFINITY, true},
    {"conditional normal", build_conditional, NULL, 0.3, -INFINITY, INFINITY, false},
    {"posterior", build_posterior, NULL, 0, -INFINITY, INFINITY, false},
    {"Student-t", build_fixed_t, fixed_t_cdf, 0, -INFINITY, INFINITY, false},
    {"Student-t, learnt", build_learnt_t, learnt_t_cdf, 0.7, -INFINITY, INFINITY, false},
    {"Student-t, learnt and moved", build_moved_t, moved_t_cdf, 0.4, -INFINITY, INFINITY, false},
    {"logistic", nf_logistic, logistic_cdf, 0, -INFINITY, INFINITY, false},
    {"mixture", build_mixture, mixture_cdf, 0.4, -INFINITY, INFINITY, true},
    {"mixture, moved", build_moved_mixture, moved_mixture_cdf, 0.4, -INFINITY, INFINITY, true},
    {"Gaussian mixture", build_gaussian_mixture, gaussian_mixture_cdf, 0.4, -INFINITY, INFINITY, true},
    {"Gaussian mixture, amortised", build_amortised_gaussian_mixture, NULL, 0.3, -INFINITY, INFINITY, true},
    {"mixture, conditional", build_conditional_mixture, NULL, 0.3, -INFINITY, INFINITY, true},
    {"mixture and planar flow, amortised", build_amortised_mixture, NULL, 0.2, -INFINITY, INFINITY, true},
    {"logistic, amortised", build_amortised_logistic, NULL, 0.3, -INFINITY, INFINITY, false},
    {"joint", build_joint, NULL, 0.3, -INFINITY, INFINITY, true},
    {"joint, conditional", build_conditional_joint, NULL, 0.3, -INFINITY, INFINITY, true},
    {"joint, of a context", build_joint_of_context, NULL, 0.3, -INFINITY, INFINITY, true},
    {"uniform", build_uniform, uniform_cdf, 0, (double)LOW, (double)HIGH, false},
};
enum { N_DIST_ROWS = sizeof dist_rows / sizeof *dist_rows };

#endif
