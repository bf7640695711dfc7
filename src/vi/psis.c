/*
 * Pareto-smoothed importance sampling: Vehtari, Simpson, Gelman, Yao, Gabry: Pareto smoothed importance sampling, JMLR
 * 25 (2024), section 3. The weights are divided by the largest, whose log is then 0. With the tail's weights w_1 <= ..
 * <= w_M and u the largest weight below them, the generalised Pareto distribution is fitted to w_i - u, and
 *
 *     w_i  becomes  min(1, u + its quantile at (i - 1/2) / M).
 */
#include "base/memory.h"
#include "vi/pareto.h"
#include "vi/ranked.h"
#include <float.h>
#include <math.h>
#include <nflow/importance.h>

enum { LEAST_TAIL = 5 };
static const double SAME = 1e-8; /* a tail whose log weights differ by less is flat, if it cannot be fitted */

/* The draws with a finite log ratio. */
typedef struct weights {
    size_t n;         /* draws with a weight, those of weight 0 included */
    size_t m;         /* finite ones */
    nfi_ranked *list; /* [m], sorted; values are log ratios, then log weights: log ratios less their largest */
    double largest;   /* log ratio */
} weights;

static void count(size_t n, const double *log_ratio, weights *w, nf_psis_report *r)
{
    for (size_t i = 0; i < n; i++) {
        const double l = log_ratio[i];
        if (isfinite(l))
            w->list[r->finite++] = (nfi_ranked){l, i};
        else if (l < 0)
            r->zero++;
        else
            r->left_out++;
        r->infinite += isinf(l) && l > 0;
    }
    w->m = r->finite;
    w->n = r->finite + r->zero;
    nfi_rank(w->m, w->list);
    w->largest = w->m ? w->list[w->m - 1].value : -INFINITY;
    for (size_t i = 0; i < w->m; i++)
        w->list[i].value -= w->largest;
}

/* The mean of all weights, and the sum of squared differences from it. */
static double mean_weight(const weights *w, double *squares)
{
    double sum = 0;
    for (size_t i = 0; i < w->m; i++)
        sum += exp(w->list[i].value);
    const double mean = w->m ? sum / (double)w->n : 0;
    *squares = (double)(w->n - w->m) * mean * mean;
    for (size_t i = 0; i < w->m; i++) {
        const double difference = exp(w->list[i].value) - mean;
        *squares += difference * difference;
    }
    return mean;
}

/* The log weight below which the last `tail` draws begin. */
static double cut_below(const weights *w, size_t tail)
{
    return w->list[w->m - tail - 1].value;
}

/* The tail without draws that are equal to the cut, if a quarter of it or more are. */
static size_t without_ties(const weights *w, size_t tail)
{
    const nfi_ranked *list = w->list + w->m - tail;
    const double cut = cut_below(w, tail);
    if (list[nfi_pareto_quartile(tail)].value == cut)
        for (; tail > 0 && list->value == cut; list++)
            tail--;
    return tail;
}

/* Fits the tail and smooths it. Where there is no fit, k_hat stays as it is and so do the weights. */
static nf_status smooth(const weights *w, size_t tail, nf_psis_report *r)
{
    const double u = exp(cut_below(w, tail));
    nfi_ranked *list = w->list + w->m - tail;
    nfi_pareto fit;
    nf_status status = NF_OK;
    double *above = nfi_calloc(tail, sizeof *above);
    if (!above)
        return NF_ENOMEM;
    for (size_t i = 0; i < tail; i++)
        above[i] = exp(list[i].value) - u;
    if (nfi_pareto_fit(tail, above, &fit, &status)) {
        r->k_hat = fit.k;
        r->tail = tail;
        for (size_t i = 0; i < tail; i++)
            list[i].value = fmin(0, log(u + nfi_pareto_quantile(&fit, ((double)i + 0.5) / (double)tail)));
    }
    nfi_free(above);
    return status;
}

static nf_status smooth_tail(const weights *w, nf_psis_report *r)
{
    const double m = (double)w->m;
    size_t tail = (size_t)ceil(fmin(0.2 * m, 3 * sqrt(m)));
    r->k_hat = INFINITY;
    if (tail < LEAST_TAIL)
        return NF_OK;
    const double range = -w->list[w->m - tail].value;
    if (range < SAME)
        r->k_hat = -INFINITY;
    tail = without_ties(w, tail);
    return tail < LEAST_TAIL || range < DBL_EPSILON / 100 ? NF_OK : smooth(w, tail, r);
}

/* Smooths the weights. *sum is theirs. */
static nf_status report_on(const weights *w, nf_psis_report *r, double *sum)
{
    const double n = (double)w->n, none = w->m ? 0 : NAN;
    double squares;
    r->k_limit = fmin(0.7, 1 - 1 / log10((double)w->m));
    r->log_mean_raw = w->largest + log(mean_weight(w, &squares));
    nf_status status = smooth_tail(w, r);
    const double mean = mean_weight(w, &squares);
    *sum = n * mean;
    r->log_mean = w->largest + log(mean);
    r->log_mean_se = sqrt(squares / (n - 1) / n) / mean + none;
    r->ess = w->m ? *sum * *sum / (squares + *sum * mean) : 0;
    if (r->infinite)
        r->k_hat = INFINITY;
    return status;
}

static void write_weights(const weights *w, double log_sum, size_t n, double *log_weight)
{
    for (size_t i = 0; i < n; i++)
        log_weight[i] = -INFINITY;
    for (size_t i = 0; i < w->m; i++)
        log_weight[w->list[i].draw] = w->list[i].value - log_sum;
}

nf_status nf_psis(size_t n, const double *log_ratio, double *log_weight, nf_psis_report *report)
{
    if (n == 0 || !log_ratio || !report)
        return nf_error(NF_EARG, "nf_psis: %s",
                        n == 0       ? "n is 0"
                        : !log_ratio ? "`log_ratio` is NULL"
                                     : "`report` is NULL");
    *report = (nf_psis_report){0};
    weights w = {.list = nfi_calloc(n, sizeof *w.list)};
    nf_status status = w.list ? NF_OK : NF_ENOMEM;
    double sum;
    if (!status) {
        count(n, log_ratio, &w, report);
        status = report_on(&w, report, &sum);
    }
    if (!status && log_weight)
        write_weights(&w, log(sum), n, log_weight);
    nfi_free(w.list);
    return status;
}
