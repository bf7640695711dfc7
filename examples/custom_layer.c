/*
 * A layer of one's own. The sinh-arcsinh transformation (Jones & Pewsey 2009, Biometrika 96),
 *
 *     y = sinh(a asinh(x) + c),   a = exp(s),   elementwise,
 *
 * gives a normal variable skewness (c) and heavier or lighter tails (s). The library does not have it; below it is
 * written against the public headers as a formula, its derivative and a table (nflow/monotone.h), checked, and trained
 * in a chain beside the library's layers.
 *
 * The posterior: two counts, k1 ~ Poisson(exp x1) and k2 ~ Poisson(exp(x1 + x2)), seen under a flat prior, with
 * log evidence lgamma(k1) + lgamma(k2). A normal fit must fall short of it.
 *
 *     cc custom_layer.c $(pkg-config --cflags --libs nflow)
 *     ./a.out [STEPS [THREADS]]
 */
#include <math.h>
#include <nflow/nflow.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- the layer ---- */

/* Of a feature: s, c. The inverse has the same form, with a = exp(-s) and -c exp(-s). */
static nf_status map(const nf_feature *f, bool forward, const nf_real *x, nf_real *y, nf_real *log_slope)
{
    for (size_t i = 0; i < f->ld; i++) {
        const nf_real s = nf_feature_param(f, 0, i), c = nf_feature_param(f, 1, i), a = forward ? exp(s) : exp(-s);
        const nf_real v = a * asinh(x[i]) + (forward ? c : -c * a);
        y[i] = sinh(v);
        log_slope[i] = log(a * cosh(v)) - 0.5 * log1p(x[i] * x[i]);
    }
    return NF_OK;
}

static nf_status forward(const nf_feature *f, const nf_real *x, nf_real *y, nf_real *log_slope)
{
    return map(f, true, x, y, log_slope);
}

/* Without this hook the library solves y = f(x) by iteration. */
static nf_status inverse(const nf_feature *f, const nf_real *y, nf_real *x, nf_real *log_slope)
{
    return map(f, false, y, x, log_slope);
}

/* The gradients of the inverse follow from these. */
static nf_status vjp(const nf_feature *f, const nf_real *x, const nf_real *gy, const nf_real *g_log_slope, nf_real *gx,
                     nf_real *g_theta)
{
    for (size_t i = 0; i < f->ld; i++) {
        const nf_real a = exp(nf_feature_param(f, 0, i)), u = asinh(x[i]), v = a * u + nf_feature_param(f, 1, i);
        const nf_real gv = gy[i] * cosh(v) + g_log_slope[i] * tanh(v), square = 1 + x[i] * x[i];
        gx[i] = gv * a / sqrt(square) - g_log_slope[i] * x[i] / square;
        if (g_theta) {
            g_theta[i] = gv * a * u + g_log_slope[i];
            g_theta[f->ld + i] = gv;
        }
    }
    return NF_OK;
}

static nf_flow *sinh_arcsinh(size_t dim);
static nf_flow *rebuild(nf_reader *r)
{
    return sinh_arcsinh(nf_read_dim_in(r));
}

static const nf_formula formula = {
    .abi = sizeof(nf_formula), .parameters = "s_c", .forward = forward, .inverse = inverse, .vjp = vjp};
static const nf_flow_type type = {NF_FORMULA_HOOKS, .part.name = "sinh_arcsinh", .rebuild = rebuild};

/* Parameters start at 0: the identity. NF_PER_SAMPLE: it also goes into couplings and autoregressive flows. */
static nf_flow *sinh_arcsinh(size_t dim)
{
    const nf_shape own = {.dim_in = dim, .n_params = 2 * dim, .flags = NF_PER_SAMPLE};
    return nf_formula_flow(&type, &formula, &own, NULL, 0, NULL, 0);
}

/* ---- its use ---- */

static const double counts[2] = {1, 3};

static int log_posterior(void *user, size_t d, const double *x, double *log_p, double *grad)
{
    (void)user, (void)d;
    const double rate1 = exp(x[0]), rate2 = exp(x[0] + x[1]);
    *log_p = counts[0] * x[0] - rate1 + counts[1] * (x[0] + x[1]) - rate2;
    if (grad) {
        grad[1] = counts[1] - rate2;
        grad[0] = counts[0] - rate1 + grad[1];
    }
    return 0;
}

/* Ends the program with the library's message unless all went well. */
static void require(bool well)
{
    if (!well) {
        fprintf(stderr, "custom_layer: %s\n", nf_error_message());
        exit(1);
    }
}

/* Fits a flow and prints the Kullback-Leibler divergence that is left, by 100000 draws. */
static void fit(const char *what, nf_flow *flow, const nf_target *target, uint64_t steps, size_t threads)
{
    nf_model *q = nf_model_of_dist(nf_pushforward(nf_normal(2), flow), &(nf_model_options){.seed = 1});
    nf_objective *elbo = nf_elbo(q, target, &(nf_elbo_options){.draws = 200});
    nf_objective *many = nf_elbo(q, target, &(nf_elbo_options){.draws = 100000});
    require(elbo && many);
    const nf_fit_options options = {.steps = steps,
                                    .seed = 1,
                                    .threads = threads,
                                    .rate = 0.01,
                                    .schedule = {.kind = NF_COSINE, .from = 1, .to = 0.01}};
    nf_step_report step;
    require(nf_fit(elbo, &options, NULL) == NF_OK && nf_objective_value(many, NULL, 2, 0, &step) == NF_OK);
    printf("%-26s KL(q || p) = %.4f nats\n", what, step.loss + lgamma(counts[0]) + lgamma(counts[1]));
    nf_objective_free(many);
    nf_objective_free(elbo);
    nf_model_free(q);
}

static void check(void)
{
    nf_model *m = nf_model_of_flow(sinh_arcsinh(3), &(nf_model_options){.seed = 1});
    nf_check_report r;
    require(m && nf_check_flow(m, &(nf_check_options){.seed = 1, .theta_scale = 0.5}, &r) == NF_OK);
    for (int d = 0; d < 2; d++)
        printf("%s: worst errors: round trip %.1e, log-det %.1e, gradients %.1e (x) %.1e (theta) %.1e (penalty)\n",
               d ? "inverse" : "forward", r.inverse_error[d], r.log_det_error[d], r.x_error[d], r.theta_error[d],
               r.penalty_error[d]);
    nf_model_free(m);
}

int main(int argc, char **argv)
{
    const long steps = argc > 1 ? atol(argv[1]) : 4000, threads = argc > 2 ? atol(argv[2]) : 0;
    if (argc > 3 || steps < 1 || threads < 0) {
        fprintf(stderr, "usage: custom_layer [STEPS [THREADS]]   (0 threads: all processors)\n");
        return 2;
    }
    check();
    nf_target *target = nf_target_point_callback(2, log_posterior, NULL, NF_THREADSAFE);
    require(target);
    nf_flow *normal = nf_chain((nf_flow *[]){nf_affine(2), nf_lu_linear(2, 1)}, 2);
    nf_flow *skewed = nf_chain((nf_flow *[]){sinh_arcsinh(2), nf_affine(2), nf_lu_linear(2, 1), sinh_arcsinh(2)}, 4);
    fit("a normal", normal, target, (uint64_t)steps, (size_t)threads);
    fit("with sinh-arcsinh layers", skewed, target, (uint64_t)steps, (size_t)threads);
    nf_target_free(target);
    return 0;
}
