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
