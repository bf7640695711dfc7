/*
 * Zhang, Stephens: A new and efficient estimation method for the generalized Pareto distribution, Technometrics 51
 * (2009). With theta = -k / sigma the profile log likelihood of n values is
 *
 *     l(theta) = n (log(-theta / k) - k - 1),   k(theta) = mean of log(1 - theta x_i),
 *
 * and theta is estimated by its mean under weights exp(l(theta_j)) on a grid of m = 30 + floor(sqrt(n)) points,
 *
 *     theta_j = 1 / x_n + (1 - sqrt(m / (j - 1/2))) / (3 x_q),   q = floor(n / 4 + 1/2),
 *
 * all of them below 1 / x_n. Their k is the negative of the one here. Vehtari, Simpson, Gelman, Yao, Gabry (2024)
 * shrink k afterwards to 1/2, as if 10 more values said so; sigma stays.
 */
#include "vi/pareto.h"
#include "base/memory.h"
#include <math.h>

enum { LEAST_POINTS = 30, PRIOR_VALUES = 10 };
static const double PRIOR_K = 0.5, PRIOR_SCALE = 3;

size_t nfi_pareto_quartile(size_t n)
{
    return (n + 2) / 4 - 1; /* floor(n / 4 + 1/2), counted from 0 */
}

static double shape(size_t n, const double *x, double theta)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += log1p(-theta * x[i]);
    return sum / (double)n;
}

/* The mean of theta over the grid. theta and l are arrays of m numbers. */
static double mean_theta(size_t n, const double *x, size_t m, double *theta, double *l)
{
    const double quartile = x[nfi_pareto_quartile(n)];
    double most = -INFINITY, sum = 0, mean = 0;
    for (size_t j = 0; j < m; j++) {
        theta[j] = 1 / x[n - 1] + (1 - sqrt((double)m / ((double)j + 0.5))) / PRIOR_SCALE / quartile;
        const double k = shape(n, x, theta[j]);
        l[j] = (double)n * (log(-theta[j] / k) - k - 1);
        most = l[j] > most || isnan(l[j]) ? l[j] : most;
    }
    for (size_t j = 0; j < m; j++) {
        const double weight = exp(l[j] - most);
        sum += weight;
        mean += weight * theta[j];
    }
    return mean / sum;
}

bool nfi_pareto_fit(size_t n, const double *x, nfi_pareto *fit, nf_status *status)
{
    const size_t m = LEAST_POINTS + (size_t)sqrt((double)n);
    const double count = (double)n;
    double *memory = nfi_calloc(2 * m, sizeof *memory);
    *status = memory ? NF_OK : NF_ENOMEM;
    if (!memory)
        return false;
    const double theta = mean_theta(n, x, m, memory, memory + m), k = shape(n, x, theta);
    nfi_free(memory);
    *fit = (nfi_pareto){.k = (k * count + PRIOR_K * PRIOR_VALUES) / (count + PRIOR_VALUES), .sigma = -k / theta};
    return isfinite(fit->k) && fit->sigma > 0;
}

double nfi_pareto_quantile(const nfi_pareto *fit, double p)
{
    const double log_beyond = log1p(-p);
    return fit->k == 0 ? -fit->sigma * log_beyond : fit->sigma * expm1(-fit->k * log_beyond) / fit->k;
}
