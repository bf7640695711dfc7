#include "estimate.h"
#include <math.h>

estimate mean_of(size_t n, const double *x)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    const double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++)
        squares += (x[i] - mean) * (x[i] - mean);
    return (estimate){mean, sqrt(squares / ((double)n - 1) / (double)n)};
}

estimate weighted_mean_of(size_t n, const double *x, const double *w)
{
    if (!w)
        return mean_of(n, x);
    double sum = 0, weights = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        sum += w[i] > 0 ? w[i] * x[i] : 0;
        weights += w[i];
    }
    const double mean = sum / weights;
    for (size_t i = 0; i < n; i++)
        squares += w[i] > 0 ? w[i] * w[i] * (x[i] - mean) * (x[i] - mean) : 0;
    return (estimate){mean, sqrt(squares) / weights};
}
