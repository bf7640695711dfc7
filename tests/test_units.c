/* The units of data. A fit of a flow whose layer next to the data begins from them makes the same steps in every unit:
   if y = a x + c, its losses are those of x plus dim log a. */
#include "expect.h"
#include "support/numbers.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>

#ifdef NF_SINGLE
static const double rounding = 1.2e-7;
#else
static const double rounding = 2.3e-16;
#endif
enum { N = 400, DIM = 2, STEPS = 150 };

typedef struct units {
    double scale, origin;
} units;

/* Rows of a bent distribution, mean near (0.4, 0.9), deviations near (1, 2), in some unit. */
static void make_data(units u, nf_real *x)
{
    nf_noise_normal(&(nf_noise){.seed = 77, .site = 3}, N * DIM, 1, 1, x);
    for (size_t i = 0; i < N; i++) {
        const double a = (double)x[DIM * i], b = (double)x[DIM * i + 1];
        x[DIM * i] = (nf_real)(u.scale * (a + 0.4) + u.origin);
        x[DIM * i + 1] = (nf_real)(u.scale * (a * a + 1.3 * b) + u.origin);
    }
}

/* ---- one layer, which begins at the optimum ---- */

static double mean_loss(nf_model *m, const nf_real *x, size_t n, size_t dim)
{
    double *log_p = calloc(n, sizeof *log_p), sum = 0;
    cr_assert_eq(nf_log_prob(m, NULL, NULL, n, x, NULL, log_p), NF_OK, "%s", nf_error_message());
    for (size_t i = 0; i < n; i++)
        sum -= log_p[i] / (double)(n * dim);
    free(log_p);
    return sum;
}

/* A fit of nf_actnorm alone begins at the normal of the data, which is the optimum, and stays near it: with steps of
   0.001 the scatter of its two numbers costs far less than 0.01, whatever the deviation. */
Test(units, actnorm_stays_at_its_optimum)
{
    static const double deviations[] = {1e-6, 1e-4, 1, 1e6};
    nf_real x[1000];
    for (size_t k = 0; k < (NFLOW_THIN ? 1 : 4); k++)
        for (int turned = 0; turned < 2; turned++) {
            nf_noise_normal(&(nf_noise){.seed = 12}, 1000, 1, 1, x);
            for (size_t i = 0; i < 1000; i++)
                x[i] *= (nf_real)deviations[k];
            nf_flow *f = turned ? nf_invert(nf_actnorm(1)) : nf_actnorm(1);
            nf_model *m =
                nf_model_of_dist(nf_pushforward(nf_normal(1), f), &(nf_model_options){.n_init = 1000, .init_x = x});
            const double best = mean_loss(m, x, 1000, 1);
            cr_assert_float_eq(best, log(deviations[k]) + 1.42, 0.1);
            nf_objective *o = nf_maximum_likelihood(m, &(nf_data){.n = 1000, .dim = 1, .x = x}, NULL);
            cr_assert_eq(nf_fit(o, &(nf_fit_options){.seed = 1, .threads = 1}, NULL), NF_OK, "%s", nf_error_message());
            const double after = mean_loss(m, x, 1000, 1);
            cr_assert(after < best + 0.01 && after > best - 1e-5 * fabs(best), "deviation %g: from %g to %g",
                      deviations[k], best, after);
            nf_objective_free(o);
            nf_model_free(m);
        }
}

/* ---- the same steps in every unit ---- */

static nf_flow *small_maf(void)
{
    return nf_maf(DIM, &(nf_recipe_options){.n_layers = 2, .hidden = (size_t[]){16}, .n_hidden = 1, .seed = 3});
}
static nf_flow *maf(void)
{
    return nf_chain((nf_flow *[]){small_maf(), nf_actnorm(DIM)}, 2);
}
static nf_flow *turned(void)
{
    return nf_chain((nf_flow *[]){small_maf(), nf_invert(nf_actnorm(DIM))}, 2);
}
static nf_flow *lu_linear(void)
{
    return nf_chain((nf_flow *[]){nf_radial(DIM), nf_lu_linear(DIM, 5), nf_actnorm(DIM)}, 3);
}

static int keep_loss(void *losses, const nf_progress *p)
{
    ((double *)losses)[p->step - 1] = p->last->loss;
    return 0;
}

static void loss_curve(nf_flow *f, units u, double *losses)
{
    nf_real x[N * DIM];
    make_data(u, x);
    nf_model *m =
        nf_model_of_dist(nf_pushforward(nf_normal(DIM), f), &(nf_model_options){.seed = 8, .n_init = N, .init_x = x});
    cr_assert_not_null(m, "%s", nf_error_message());
    nf_objective *o = nf_maximum_likelihood(m, &(nf_data){.n = N, .dim = DIM, .x = x}, NULL);
    const nf_fit_options options = {.steps = STEPS, .rate = 0.01, .seed = 2, .callback = keep_loss, .user = losses};
    cr_assert_eq(nf_fit(o, &options, NULL), NF_OK, "%s", nf_error_message());
    nf_objective_free(o);
    nf_model_free(m);
}

static double mean(size_t n, const double *v)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += v[i] / (double)n;
    return sum;
}

/* What differs between two units is rounding of the data and of the log-scale (about 14 units of it here). In 150 steps
   the fits carry it on fifty times at most. */
Test(units, fits_make_the_same_steps)
{
    static const units others[] = {{1e-6, 0}, {1e6, 1e6}, {1e-4, -1e-4}};
    nf_flow *(*const flows[])(void) = {maf, turned, lu_linear};
    for (size_t k = 0; k < sizeof flows / sizeof *flows; k++) {
        double one[STEPS], other[STEPS], worst = 0;
        loss_curve(flows[k](), (units){1, 0}, one);
        const double first = mean(20, one), last = mean(20, one + STEPS - 20);
        cr_assert_lt(last, first - 0.02, "flow %zu learns nothing: from %g to %g", k, first, last);
        for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
            loss_curve(flows[k](), others[i], other);
            for (size_t t = 0; t < STEPS; t++)
                worst = fmax(worst, fabs(other[t] - DIM * log(others[i].scale) - one[t]));
        }
        cr_assert_lt(worst, 14 * 50 * rounding, "flow %zu: losses differ by %g", k, worst);
    }
}
