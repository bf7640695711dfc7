/*
 * One parameter's draws in numbers. Formulas are at the fields of nf_summary: the delta method for self-normalised
 * importance sampling (Owen: Monte Carlo theory, methods and examples, section 9.2), Woodruff 1952 for quantiles, Hill
 * 1975 for the tails. Values are divided by a power of two near the largest before they are squared, so that nothing
 * overflows.
 */
#include "base/memory.h"
#include "vi/ranked.h"
#include <math.h>
#include <nflow/importance.h>

enum { LEAST_TAIL = 5 };
static const double LARGEST_TAIL = 0.05, ROUNDING = 1e-9;
static const double shares[NF_QUANTILES] = {0.05, 0.25, 0.5, 0.75, 0.95};

/* The draws that count, sorted by value. */
typedef struct sample {
    size_t n;
    nfi_ranked *x;
    double *w;             /* [n], their weights, the sum is 1 */
    double *end;           /* [n], the sum of the first i + 1 of them */
    double sum_of_squares; /* of w */
} sample;

static double weight_of(const double *weight, size_t i)
{
    return weight ? weight[i] : 1;
}

/* Takes the draws that count, with weights in units of the largest, and sorts them. */
static void take(size_t n, size_t stride, const double *value, const double *weight, double largest, sample *s,
                 nf_summary *out)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double x = value[i * stride];
        if (weight_of(weight, i) > 0 && isfinite(x))
            s->x[s->n++] = (nfi_ranked){x, i};
        else
            out->left_out += weight_of(weight, i) > 0;
    }
    nfi_rank(s->n, s->x);
    for (size_t i = 0; i < s->n; i++)
        sum += s->w[i] = weight_of(weight, s->x[i].draw) / largest;
    for (size_t i = 0; i < s->n; i++) {
        s->w[i] /= sum;
        s->end[i] = (i ? s->end[i - 1] : 0) + s->w[i];
        s->sum_of_squares += s->w[i] * s->w[i];
    }
}

static void moments(const sample *s, nf_summary *out)
{
    int exponent;
    (void)frexp(fmax(fabs(out->min), fabs(out->max)), &exponent);
    double mean = 0, variance = 0, of_mean = 0, of_variance = 0;
    const double rest = 1 - s->sum_of_squares;
    for (size_t i = 0; i < s->n; i++)
        mean += s->w[i] * ldexp(s->x[i].value, -exponent);
    for (size_t i = 0; i < s->n; i++) {
        const double d = ldexp(s->x[i].value, -exponent) - mean;
        variance += s->w[i] * d * d / rest;
        of_mean += s->w[i] * s->w[i] * d * d / rest;
    }
    for (size_t i = 0; i < s->n; i++) {
        const double d = ldexp(s->x[i].value, -exponent) - mean, e = s->w[i] * (d * d - variance);
        of_variance += e * e;
    }
    const double none = s->n > 1 ? 0 : NAN, sd = sqrt(variance);
    out->mean = ldexp(mean, exponent);
    out->mean_error = ldexp(sqrt(of_mean), exponent) + none;
    out->sd = ldexp(sd, exponent) + none;
    out->sd_error = (sd > 0 ? ldexp(sqrt(of_variance) / (2 * sd), exponent) : 0) + none;
}

/* Where draw i stands: between the shares of the weight below and above it. */
static double place(const sample *s, size_t i)
{
    return s->end[i] - s->w[i] / 2;
}

/* The number of draws that stand below p. */
static size_t count_below(const sample *s, double p)
{
    size_t low = 0, high = s->n;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (place(s, middle) < p)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static double quantile(const sample *s, double p)
{
    const size_t i = count_below(s, p);
    if (i == 0 || i == s->n)
        return s->x[i ? i - 1 : 0].value;
    const double from = place(s, i - 1), part = (p - from) / (place(s, i) - from);
    return s->x[i - 1].value * (1 - part) + s->x[i].value * part;
}

/* The standard error of the share of draws that are at most x. */
static double share_error(const sample *s, double x, double p)
{
    double sum = 0;
    for (size_t i = 0; i < s->n; i++) {
        const double e = s->w[i] * ((s->x[i].value <= x) - p);
        sum += e * e;
    }
    return sqrt(sum);
}

/* The number of draw k, counted from the end of that side. */
static size_t from_end(const sample *s, size_t k, int side)
{
    return side < 0 ? k : s->n - 1 - k;
}

/* How far draw k from the end is beyond the median. Halves, so that nothing overflows: only ratios are used. */
static double distance(const sample *s, size_t k, double median, int side)
{
    return side * (s->x[from_end(s, k, side)].value / 2 - median / 2);
}

/* Hill's estimate for the tail below the median (side -1) or above it (side 1): k draws beyond u, the next one. */
static double hill(const sample *s, double median, int side)
{
    const double share = fmin(LARGEST_TAIL, 3 * sqrt(s->sum_of_squares)) * (1 - ROUNDING);
    double beyond = 0, sum = 0;
    size_t k = 0;
    while (k < s->n && beyond < share)
        beyond += s->w[from_end(s, k++, side)];
    const double u = k < s->n ? distance(s, k, median, side) : 0;
    if (k < LEAST_TAIL || u <= 0)
        return NAN;
    for (size_t i = 0; i < k; i++)
        sum += s->w[from_end(s, i, side)] * log(distance(s, i, median, side) / u);
    return sum > 0 ? beyond / sum : INFINITY;
}

static void summarise(const sample *s, nf_summary *out)
{
    out->n = s->n;
    out->ess = 1 / s->sum_of_squares;
    out->min = s->x[0].value;
    out->max = s->x[s->n - 1].value;
    moments(s, out);
    for (size_t i = 0; i < NF_QUANTILES; i++) {
        const double p = shares[i], q = quantile(s, p), e = share_error(s, q, p);
        out->quantile[i] = q;
        out->quantile_error[i] = quantile(s, p + e) / 2 - quantile(s, p - e) / 2;
    }
    const double median = out->quantile[NF_QUANTILES / 2];
    out->tail_index = fmin(hill(s, median, -1), hill(s, median, 1));
    out->no_variance = out->tail_index <= 2;
}

static void no_numbers(nf_summary *s)
{
    *s = (nf_summary){.ess = NAN,
                      .mean = NAN,
                      .mean_error = NAN,
                      .sd = NAN,
                      .sd_error = NAN,
                      .min = NAN,
                      .max = NAN,
                      .tail_index = NAN};
    for (size_t i = 0; i < NF_QUANTILES; i++)
        s->quantile[i] = s->quantile_error[i] = NAN;
}

nf_status nf_summarise(size_t n, size_t stride, const double *value, const double *weight, nf_summary *s)
{
    if (!value || !s)
        return nf_error(NF_EARG, "nf_summarise: `%s` is NULL", value ? "s" : "value");
    if (n == 0 || stride == 0)
        return nf_error(NF_EARG, "nf_summarise: `%s` is 0", n == 0 ? "n" : "stride");
    double largest = weight ? 0 : 1;
    for (size_t i = 0; weight && i < n; i++) {
        if (!(weight[i] >= 0 && isfinite(weight[i])))
            return nf_error(NF_EARG, "nf_summarise: weight %zu is %g", i, weight[i]);
        largest = fmax(largest, weight[i]);
    }
    no_numbers(s);
    sample draws = {.x = nfi_calloc(n, sizeof *draws.x), .w = nfi_calloc(n, 2 * sizeof *draws.w)};
    const nf_status status = draws.x && draws.w ? NF_OK : NF_ENOMEM;
    if (!status) {
        draws.end = draws.w + n;
        take(n, stride, value, weight, largest, &draws, s);
        if (draws.n)
            summarise(&draws, s);
    }
    nfi_free(draws.x);
    nfi_free(draws.w);
    return status;
}
