/* Logs of weights, of which some are none: NaN and +infinity count as weight 0. */
#ifndef NFI_WEIGHTS_H
#define NFI_WEIGHTS_H
#include <math.h>
#include <stddef.h>

/* The largest finite one; -infinity if there is none. */
static inline double nfi_largest_log(size_t n, const double *log_weight)
{
    double largest = -INFINITY;
    for (size_t i = 0; i < n; i++)
        if (log_weight[i] > largest && log_weight[i] < INFINITY)
            largest = log_weight[i];
    return largest;
}

/* The weight beside the largest one. */
static inline double nfi_weight(double log_weight, double largest)
{
    return log_weight <= largest ? exp(log_weight - largest) : 0;
}

#endif
