#include "chains.h"
#include <gsl/gsl_cdf.h>
#include <math.h>
#include <stdlib.h>

/* Half chains of n draws each: the first and the last ones of each chain, without a middle one. */
typedef struct halves {
    size_t m, n, draws;
    const double *x;
} halves;

static halves split(size_t chains, size_t draws, const double *x)
{
    return (halves){2 * chains, draws / 2, draws, x};
}

static const double *half(const halves *h, size_t i)
{
    return h->x + i / 2 * h->draws + (i % 2 ? h->draws - h->n : 0);
}

static double mean(size_t n, const double *x)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    return sum / (double)n;
}

/* The mean over the halves of the autocovariance at a lag, each with the divisor n. */
static double autocovariance(const halves *h, size_t lag)
{
    double sum = 0;
    for (size_t i = 0; i < h->m; i++) {
        const double *x = half(h, i), centre = mean(h->n, x);
        for (size_t t = lag; t < h->n; t++)
            sum += (x[t] - centre) * (x[t - lag] - centre);
    }
    return sum / (double)(h->n * h->m);
}

/* The variance within halves, and that of all draws by the halves and their means. */
static void variances(const halves *h, double *within, double *all)
{
    const double n = (double)h->n;
    double centre = 0, between = 0;
    for (size_t i = 0; i < h->m; i++)
        centre += mean(h->n, half(h, i)) / (double)h->m;
    for (size_t i = 0; i < h->m; i++)
        between += pow(mean(h->n, half(h, i)) - centre, 2) / (double)(h->m - 1);
    *within = autocovariance(h, 0) * n / (n - 1);
    *all = *within * (n - 1) / n + between;
}

static double r_hat(const halves *h)
{
    double within, all;
    variances(h, &within, &all);
    return sqrt(all / within);
}

/* Draws / (1 + 2 sum of autocorrelations), which are added in pairs until a pair is negative; a pair is not larger than
   the one before it (Geyer 1992). */
double chains_effective_size(size_t chains, size_t draws, const double *x)
{
    const halves h = split(chains, draws, x);
    const double size = (double)(h.m * h.n);
    double within, all, sum = -1, before = INFINITY;
    if (h.n < 4)
        return NAN;
    variances(&h, &within, &all);
    if (!(within > 0) || !isfinite(all))
        return NAN;
    for (size_t lag = 0; lag + 1 < h.n; lag += 2) {
        const double even = lag ? 1 - (within - autocovariance(&h, lag)) / all : 1;
        const double pair = even + 1 - (within - autocovariance(&h, lag + 1)) / all;
        if (pair < 0) {
            sum += fmax(0, even);
            break;
        }
        before = fmin(before, pair);
        sum += 2 * before;
    }
    return size / fmax(sum, 1 / log10(size));
}

/* ---- ranks ---- */

typedef struct placed {
    double x;
    size_t place;
} placed;

static int by_value(const void *a, const void *b)
{
    const double x = ((const placed *)a)->x, y = ((const placed *)b)->x;
    return (x > y) - (x < y);
}

/* z [n] = normal scores of the ranks of x, equal numbers have the mean of their ranks; `sorted` [n] is x in order. */
static void scores(size_t n, const double *x, double *z, placed *sorted)
{
    for (size_t i = 0; i < n; i++)
        sorted[i] = (placed){x[i], i};
    qsort(sorted, n, sizeof *sorted, by_value);
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && !(sorted[end].x > sorted[i].x);)
            end++;
        const double rank = 0.5 * (double)(i + 1 + end);
        for (size_t k = i; k < end; k++)
            z[sorted[k].place] = gsl_cdf_ugaussian_Pinv((rank - 0.375) / ((double)n + 0.25));
    }
}

/* Quantile p of sorted numbers, in between interpolated (R's type 7). */
static double quantile(size_t n, const placed *sorted, double p)
{
    const double at = p * (double)(n - 1);
    const size_t low = (size_t)at, high = low + 1 < n ? low + 1 : low;
    return sorted[low].x + (at - (double)low) * (sorted[high].x - sorted[low].x);
}

nf_status chains_judge(size_t chains, size_t draws, const double *x, chains_report *report)
{
    const size_t n = chains * draws;
    *report = (chains_report){NAN, NAN, NAN};
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return NF_OK;
    if (draws < 8 || chains == 0)
        return NF_OK;
    double *y = calloc(n, sizeof *y), *z = calloc(n, sizeof *z);
    placed *sorted = calloc(n, sizeof *sorted);
    if (y && z && sorted) {
        const halves of_scores = split(chains, draws, z);
        scores(n, x, z, sorted);
        const double median = quantile(n, sorted, 0.5), low = quantile(n, sorted, 0.05);
        const double high = quantile(n, sorted, 0.95), plain = r_hat(&of_scores);
        report->bulk = chains_effective_size(chains, draws, z);
        for (size_t i = 0; i < n; i++)
            y[i] = x[i] <= low;
        report->tail = chains_effective_size(chains, draws, y);
        for (size_t i = 0; i < n; i++)
            y[i] = x[i] <= high;
        report->tail = fmin(report->tail, chains_effective_size(chains, draws, y));
        for (size_t i = 0; i < n; i++)
            y[i] = fabs(x[i] - median);
        scores(n, y, z, sorted);
        report->r_hat = fmax(plain, r_hat(&of_scores));
    }
    const nf_status status = y && z && sorted ? NF_OK : nf_error(NF_ENOMEM, "chains_judge: no memory for %zu draws", n);
    free(y);
    free(z);
    free(sorted);
    return status;
}
