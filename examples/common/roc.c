#include "roc.h"
#include "cli.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The share of n sorted numbers below t, of equal ones half. */
static double share_below(size_t n, const double *sorted, double t)
{
    size_t least = 0, most = 0; /* of numbers below t, and of those not above it */
    for (size_t bit = (size_t)1 << 40; bit; bit /= 2) {
        if (least + bit <= n && sorted[least + bit - 1] < t)
            least += bit;
        if (most + bit <= n && sorted[most + bit - 1] <= t)
            most += bit;
    }
    return 0.5 * (double)(least + most) / (double)n;
}

/* Of each of n numbers, the share of m others below it. */
static void places(size_t n, const double *x, size_t m, const double *others, double *below)
{
    double *sorted = cli_allocate(m, sizeof *sorted);
    memcpy(sorted, others, m * sizeof *sorted);
    cli_sort(m, sorted);
    for (size_t i = 0; i < n; i++)
        below[i] = share_below(m, sorted, x[i]);
    free(sorted);
}

void roc_places(size_t n, const double *anomaly, size_t m, const double *ordinary, double *of_anomaly,
                double *of_ordinary)
{
    places(n, anomaly, m, ordinary, of_anomaly);
    places(m, ordinary, n, anomaly, of_ordinary);
    for (size_t i = 0; i < n; i++)
        of_anomaly[i] = 1 - of_anomaly[i];
}

estimate roc_area(size_t n, const double *of_anomaly, size_t m, const double *of_ordinary)
{
    const estimate a = mean_of(n, of_anomaly), b = mean_of(m, of_ordinary);
    return (estimate){a.mean, hypot(a.se, b.se)};
}

double roc_found(size_t n, const double *of_anomaly, double alarms)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++)
        found += of_anomaly[i] >= 1 - alarms;
    return (double)found / (double)n;
}
