/*
 * lotka_volterra: pelts of hares u and lynxes v in Canada, 1900 to 1920 (posteriordb, data hudson_lynx_hare).
 *
 *     u' = (theta_1 - theta_2 v) u,   v' = (-theta_3 + theta_4 u) v,   (u, v)(0) = z_init,
 *     ln y_t ~ N(ln (u, v)(t), diag(sigma)^2), t = 0 .. 20,
 *     theta_1, theta_3 ~ N+(1, 0.5^2),   theta_2, theta_4 ~ N+(0.05, 0.05^2),   z_init_k ~ LogNormal(ln 10, 1),
 *     sigma_k ~ LogNormal(-1, 1)
 *
 * GSL integrates q = ln u and r = ln v, which stay real numbers, together with their sensitivities s = dq/dp, w = dr/dp
 * to p = (theta, q(0), r(0)):
 *
 *     q' = theta_1 - theta_2 v,      s' = -theta_2 v w + [p = theta_1] - v [p = theta_2],
 *     r' = -theta_3 + theta_4 u,     w' =  theta_4 u s - [p = theta_3] + u [p = theta_4].
 */
#include "bayes_models.h"
#include "data.h"
#include "priors.h"
#include <gsl/gsl_cdf.h>
#include <gsl/gsl_errno.h>
#include <gsl/gsl_odeiv2.h>
#include <stdlib.h>
#include <string.h>

enum { THETA = 0, Z_INIT = 4, SIGMA = 6, N_P = 6, STATES = 2 * (1 + N_P), MOST_TIMES = 100, MOST_STEPS = 10000 };
static const double tolerance = 1e-9; /* of the logarithms and of their sensitivities */

typedef struct pelts {
    size_t n;
    double log_share;     /* ln of the normal priors' probability of positive theta */
    double t[MOST_TIMES]; /* t[0] = 0 */
    double log_y[MOST_TIMES][2], sum_log_y;
} pelts;

static const double prior_mean[4] = {1, 0.05, 1, 0.05}, prior_sd[4] = {0.5, 0.05, 0.5, 0.05};

static void *read(const char *folder)
{
    data_file f = data_open(folder, "posteriordb/data/hudson_lynx_hare.json");
    const size_t n = data_count(&f, "N", 1, MOST_TIMES - 1);
    const double *t = data_numbers(&f, "ts", n), *first = data_numbers(&f, "y_init", 2);
    const double *y = data_numbers(&f, "y", 2 * n);
    pelts *d = data_good(&f) ? calloc(1, sizeof *d) : NULL;
    if (d) {
        d->n = n + 1;
        memcpy(d->t + 1, t, n * sizeof *t);
        for (size_t i = 0; i < 2 * (n + 1); i++) {
            d->log_y[i / 2][i % 2] = log(i < 2 ? first[i] : y[i - 2]);
            d->sum_log_y += d->log_y[i / 2][i % 2];
        }
        for (size_t i = 0; i < 4; i++)
            d->log_share += log(gsl_cdf_ugaussian_P(prior_mean[i] / prior_sd[i]));
    } else if (data_good(&f))
        nf_error(NF_ENOMEM, "lotka_volterra: no memory");
    data_close(&f);
    gsl_set_error_handler_off(); /* a path that cannot be followed is a point to reject */
    return d;
}

/* z: q, r, then s and w of each of the N_P parameters */
static int slope(double t, const double z[], double dz[], void *user)
{
    const double *theta = user, u = exp(z[0]), v = exp(z[1]);
    (void)t;
    dz[0] = theta[0] - theta[1] * v;
    dz[1] = -theta[2] + theta[3] * u;
    for (size_t i = 0; i < N_P; i++) {
        dz[2 + 2 * i] = -theta[1] * v * z[3 + 2 * i];
        dz[3 + 2 * i] = theta[3] * u * z[2 + 2 * i];
    }
    dz[2] += 1;
    dz[4] -= v;
    dz[7] -= 1;
    dz[9] += u;
    return isfinite(u) && isfinite(v) ? GSL_SUCCESS : GSL_EBADFUNC;
}

static double log_p(const void *data, const double *x, double *g)
{
    const pelts *d = data;
    double theta[4], z[STATES] = {log(x[Z_INIT]), log(x[Z_INIT + 1])}, t = 0;
    double sum = -d->log_share - d->sum_log_y;
    memcpy(theta, x, sizeof theta);
    z[2 + 2 * Z_INIT] = 1 / x[Z_INIT];
    z[3 + 2 * (Z_INIT + 1)] = 1 / x[Z_INIT + 1];
    gsl_odeiv2_system system = {slope, NULL, STATES, theta};
    gsl_odeiv2_driver *driver = gsl_odeiv2_driver_alloc_y_new(&system, gsl_odeiv2_step_rk8pd, 0.05, tolerance, 0);
    if (!driver) {
        nf_error(NF_ETARGET, "lotka_volterra: no memory for the solver");
        return -INFINITY;
    }
    gsl_odeiv2_driver_set_nmax(driver, MOST_STEPS);
    int status = GSL_SUCCESS;
    for (size_t i = 0; i < d->n && !status; i++) {
        status = d->t[i] > t ? gsl_odeiv2_driver_apply(driver, &t, d->t[i], z) : GSL_SUCCESS;
        for (size_t k = 0; k < 2; k++) {
            double g_log_z = 0, unused = 0;
            sum += normal_log_p_all(d->log_y[i][k], z[k], x[SIGMA + k], &unused, &g_log_z, &g[SIGMA + k]);
            for (size_t p = 0; p < N_P; p++)
                g[p] += g_log_z * z[2 + 2 * p + k];
        }
    }
    gsl_odeiv2_driver_free(driver);
    if (status) {
        nf_error(NF_ETARGET, "lotka_volterra: the path cannot be followed beyond t = %g: %s", t, gsl_strerror(status));
        return -INFINITY;
    }
    for (size_t i = 0; i < 4; i++)
        sum += normal_log_p(x[THETA + i], prior_mean[i], prior_sd[i], &g[THETA + i]);
    for (size_t k = 0; k < 2; k++)
        sum += lognormal_log_p(x[Z_INIT + k], log(10), 1, &g[Z_INIT + k]) +
               lognormal_log_p(x[SIGMA + k], -1, 1, &g[SIGMA + k]);
    return sum;
}

const bayes_model bayes_lotka_volterra = {
    .name = "lotka_volterra",
    .posterior = "hudson_lynx_hare-lotka_volterra",
    .about = "hares and lynxes, a differential equation",
    .parameters = {{.name = "theta", .n = 4, .constraint = bayes_positive},
                   {.name = "z_init", .n = 2, .constraint = bayes_positive},
                   {.name = "sigma", .n = 2, .constraint = bayes_positive}},
    .read = read,
    .log_p = log_p,
};
