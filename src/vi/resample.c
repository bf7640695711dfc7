/*
 * Draws chosen by their weights.
 *
 * Systematic: with one uniform u, choice j is the draw in whose share of the weights the number (j + u) / m lies.
 * Multinomial: the same with m uniforms in place of (j + u) / m. Without replacement: the m largest of log w_i + G_i,
 * where the G_i are independent Gumbel numbers (Efraimidis, Spirakis 2006; Vieira 2014): sorted from the largest on
 * they are draws in turn, each among those that are left.
 */
#include "base/memory.h"
#include "math/noise.h"
#include "vi/ranked.h"
#include "vi/weights.h"
#include <math.h>
#include <nflow/importance.h>

/* ends[i]: the sum of the first i + 1 weights, in units of the largest. Returns how many weights are above 0, also
   those that are 0 in double beside the largest. */
static size_t add_up(size_t n, const double *log_weight, double *ends)
{
    const double largest = nfi_largest_log(n, log_weight);
    size_t positive = 0;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        positive += isfinite(log_weight[i]) != 0;
        ends[i] = sum += nfi_weight(log_weight[i], largest);
    }
    return positive;
}

/* The first draw whose end is above `at`, which is below the last end but for rounding. */
static size_t draw_at(size_t n, const double *ends, double at)
{
    size_t low = 0, high = n - 1;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (ends[middle] > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static nf_status systematic(size_t n, const double *ends, const nf_noise *noise, size_t m, size_t *index)
{
    size_t *order = nfi_calloc(m, sizeof *order), at = 0;
    if (!order)
        return NF_ENOMEM;
    double u;
    nfi_noise_uniform_d(noise, 1, 1, 1, &u);
    nf_noise_permutation(noise, m, order);
    for (size_t j = 0; j < m; j++) {
        const double share = ((double)j + u) / (double)m * ends[n - 1];
        while (at + 1 < n && ends[at] <= share)
            at++;
        index[order[j]] = at;
    }
    nfi_free(order);
    return NF_OK;
}

static nf_status multinomial(size_t n, const double *ends, const nf_noise *noise, size_t m, size_t *index)
{
    double *u = nfi_calloc(m, sizeof *u);
    if (!u)
        return NF_ENOMEM;
    nfi_noise_uniform_d(noise, 1, m, m, u);
    for (size_t j = 0; j < m; j++)
        index[j] = draw_at(n, ends, u[j] * ends[n - 1]);
    nfi_free(u);
    return NF_OK;
}

static nf_status distinct(size_t n, const double *log_weight, const nf_noise *noise, size_t m, size_t *index)
{
    double *u = nfi_calloc(n, sizeof *u);
    nfi_ranked *list = nfi_calloc(n, sizeof *list);
    const nf_status status = u && list ? NF_OK : NF_ENOMEM;
    if (!status) {
        nfi_noise_uniform_d(noise, 1, n, n, u);
        for (size_t i = 0; i < n; i++) {
            const double l = log_weight[i] < INFINITY ? log_weight[i] : -INFINITY;
            list[i] = (nfi_ranked){l - log(-log(u[i])), i};
        }
        nfi_rank(n, list);
        for (size_t j = 0; j < m; j++)
            index[j] = list[n - 1 - j].draw;
    }
    nfi_free(u);
    nfi_free(list);
    return status;
}

static nf_status check(size_t n, const double *log_weight, nf_resampling how, const nf_noise *noise, size_t m,
                       const size_t *index)
{
    const char *what = !log_weight ? "log_weight" : !noise ? "noise" : "index";
    if (!log_weight || !noise || !index)
        return nf_error(NF_EARG, "nf_resample: `%s` is NULL", what);
    if (n == 0 || m == 0)
        return nf_error(NF_EARG, "nf_resample: `%s` is 0", n == 0 ? "n" : "m");
    if ((unsigned)how > NF_RESAMPLE_DISTINCT)
        return nf_error(NF_EARG, "nf_resample: unknown way to resample, %d", (int)how);
    return NF_OK;
}

nf_status nf_resample(size_t n, const double *log_weight, nf_resampling how, const nf_noise *noise, size_t m,
                      size_t *index)
{
    nf_status status = check(n, log_weight, how, noise, m, index);
    if (status)
        return status;
    double *ends = nfi_calloc(n, sizeof *ends);
    if (!ends)
        return NF_ENOMEM;
    nf_noise name = *noise;
    name.column = NULL;
    const size_t positive = add_up(n, log_weight, ends);
    size_t used = n; /* without weights of 0 at the end */
    while (used > 1 && ends[used - 2] == ends[n - 1])
        used--;
    if (positive == 0)
        status = nf_error(NF_EARG, "nf_resample: none of %zu weights is above 0", n);
    else if (how == NF_RESAMPLE_DISTINCT && m > positive)
        status = nf_error(NF_EARG, "nf_resample: %zu distinct draws of %zu whose weight is above 0", m, positive);
    else
        status = how == NF_RESAMPLE_SYSTEMATIC    ? systematic(used, ends, &name, m, index)
                 : how == NF_RESAMPLE_MULTINOMIAL ? multinomial(used, ends, &name, m, index)
                                                  : distinct(n, log_weight, &name, m, index);
    nfi_free(ends);
    return status;
}
