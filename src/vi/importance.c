/*
 * What weights say without smoothing: Kish's effective sample size, and the importance-weighted bound
 *
 *     mean over groups of log (1/K sum_k p(x_k) / q(x_k)) + log (share of draws that are not rejected).
 *
 * Draws without a weight are left out, rejected ones are taken out before groups are made: see the header.
 */
#include "vi/weights.h"
#include <math.h>
#include <nflow/importance.h>

double nf_effective_size(size_t n, const double *log_weight)
{
    const double largest = log_weight ? nfi_largest_log(n, log_weight) : -INFINITY;
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n && isfinite(largest); i++) {
        const double w = nfi_weight(log_weight[i], largest);
        sum += w;
        squares += w * w;
    }
    return squares > 0 ? sum * sum / squares : 0;
}

/* The log of the mean of exp() over the next k finite numbers; *next moves behind them. */
static double log_mean_of(const double *log_ratio, size_t *next, size_t k)
{
    double largest = -INFINITY, sum = 0;
    size_t i = *next;
    for (size_t taken = 0; taken < k; i++)
        if (isfinite(log_ratio[i])) {
            const double l = log_ratio[i];
            sum = l > largest ? sum * exp(largest - l) + 1 : sum + exp(l - largest);
            largest = fmax(l, largest);
            taken++;
        }
    *next = i;
    return largest + log(sum / (double)k);
}

nf_status nf_importance_bound(size_t n, const double *log_ratio, size_t draws, nf_bound *bound)
{
    if (n == 0 || !log_ratio || !bound)
        return nf_error(NF_EARG, "nf_importance_bound: %s",
                        n == 0       ? "n is 0"
                        : !log_ratio ? "`log_ratio` is NULL"
                                     : "`bound` is NULL");
    if (draws == 0 || draws > n)
        return nf_error(NF_EARG, "nf_importance_bound: groups of %zu draws, but there are %zu", draws, n);
    *bound = (nf_bound){0};
    size_t finite = 0, next = 0;
    for (size_t i = 0; i < n; i++) {
        finite += isfinite(log_ratio[i]) != 0;
        bound->rejected += isinf(log_ratio[i]) && log_ratio[i] < 0;
    }
    bound->left_out = n - finite - bound->rejected;
    bound->groups = finite / draws;
    const double count = (double)bound->groups, all = (double)(finite + bound->rejected);
    double mean = 0, squares = 0; /* Welford's */
    for (size_t g = 0; g < bound->groups; g++) {
        const double value = log_mean_of(log_ratio, &next, draws), before = value - mean;
        mean += before / (double)(g + 1);
        squares += before * (value - mean);
    }
    const double share = (double)finite / all;
    bound->mean = bound->groups ? mean + log(share) : finite || !bound->rejected ? NAN : -INFINITY;
    bound->se = bound->groups < 2 ? NAN : sqrt(squares / (count - 1) / count + (1 - share) / share / all);
    return NF_OK;
}
