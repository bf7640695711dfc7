#include "gate.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double probability[GATE_QUANTILES] = {0.05, 0.25, 0.5, 0.75, 0.95};
static const double median_bound = 0.05, worst_bound = 0.15, least_tail = 2, tail_share = 0.02;

typedef struct weighted {
    double x, weight;
} weighted;

static int by_x(const void *a, const void *b)
{
    const double x = ((const weighted *)a)->x, y = ((const weighted *)b)->x;
    return (x > y) - (x < y);
}

/* What is wanted of a sample of one parameter. */
typedef struct summary {
    double mean, sd, quantile[GATE_QUANTILES];
} summary;

/* Sorts the sample. Draw i stands at the middle of its share of the weights; quantiles lie between two draws. */
static summary summarise(size_t n, weighted *w)
{
    summary s = {.mean = 0};
    double total = 0, square = 0, below = 0;
    qsort(w, n, sizeof *w, by_x);
    for (size_t i = 0; i < n; i++) {
        total += w[i].weight;
        s.mean += w[i].weight * w[i].x;
    }
    s.mean /= total;
    for (size_t i = 0; i < n; i++)
        square += w[i].weight * (w[i].x - s.mean) * (w[i].x - s.mean);
    s.sd = sqrt(square / total);
    double last = w[0].x, last_place = -1; /* of the draw before, -1: there was none */
    size_t q = 0;
    for (size_t i = 0; i < n; i++) {
        if (w[i].weight == 0)
            continue;
        const double place = (below + 0.5 * w[i].weight) / total;
        for (; q < GATE_QUANTILES && probability[q] <= place; q++) {
            const double back = last_place < 0 ? 0 : (place - probability[q]) / (place - last_place);
            s.quantile[q] = w[i].x - back * (w[i].x - last);
        }
        below += w[i].weight;
        last = w[i].x;
        last_place = place;
    }
    for (; q < GATE_QUANTILES; q++)
        s.quantile[q] = last;
    return s;
}

/* Of the sorted sample w [n]; sign 1: the right tail, -1: the left one. */
static double hill(size_t n, const weighted *w, double median, int sign)
{
    const size_t k = (size_t)(tail_share * (double)n);
    double sum = 0;
    if (k == 0)
        return INFINITY;
    const double edge = sign * (w[sign > 0 ? n - 1 - k : k].x - median);
    if (!(edge > 0))
        return INFINITY;
    for (size_t i = 0; i < k; i++)
        sum += log(sign * (w[sign > 0 ? n - 1 - i : i].x - median) / edge);
    return (double)k / sum;
}

static void judge(gate_column *c, const summary *s, const summary *ref)
{
    const double range = ref->quantile[3] - ref->quantile[1];
    c->mean = s->mean;
    c->sd = s->sd;
    c->mean_ref = ref->mean;
    c->sd_ref = ref->sd;
    c->mean_error = fabs(s->mean - ref->mean) / ref->sd;
    c->sd_error = fabs(s->sd / ref->sd - 1);
    for (size_t q = 0; q < GATE_QUANTILES; q++)
        c->quantile_error[q] = fabs(s->quantile[q] - ref->quantile[q]) / range;
}

/* ---- over the parameters ---- */

static double mean_error(const gate_column *c, size_t i)
{
    (void)i;
    return c->mean_error;
}

static double sd_error(const gate_column *c, size_t i)
{
    (void)i;
    return c->sd_error;
}

static double quantile_error(const gate_column *c, size_t i)
{
    return c->quantile_error[i];
}

/* w has room for all errors: each column has `each`. An error that is no number counts as infinite. */
static gate_errors collect(const gate *g, bool heavy, size_t each, double (*error)(const gate_column *, size_t),
                           weighted *w)
{
    gate_errors e = {.worst = 0};
    size_t n = 0;
    for (size_t i = 0; i < g->n * each; i++) {
        const gate_column *c = &g->column[i / each];
        if (c->heavy != heavy)
            continue;
        const double value = error(c, i % each);
        w[n].x = isnan(value) ? INFINITY : value;
        if (w[n].x > e.worst || !e.of) {
            e.worst = w[n].x;
            e.of = c->name;
        }
        n++;
    }
    qsort(w, n, sizeof *w, by_x);
    if (n > 0)
        e.median = 0.5 * (w[(n - 1) / 2].x + w[n / 2].x);
    return e;
}

static bool within(gate_errors e)
{
    return e.median <= median_bound && e.worst <= worst_bound;
}

/* ---- */

static nf_status check(const reference_draws *r, size_t n, size_t k, const char *const *name, const double *x,
                       const double *weight)
{
    double total = 0;
    if (n == 0 || k == 0 || !x)
        return nf_error(NF_EARG, "gate_draws: there are no draws");
    for (size_t i = 0; i < n * k; i++)
        if (!isfinite(x[i]))
            return nf_error(NF_EARG, "gate_draws: draw %zu of %s is not finite", i / k, name[i % k]);
    for (size_t i = 0; i < n; i++) {
        if (weight && !(weight[i] >= 0 && isfinite(weight[i])))
            return nf_error(NF_EARG, "gate_draws: weight %zu is negative or not finite", i);
        total += weight ? weight[i] : 1;
    }
    if (!(total > 0))
        return nf_error(NF_EARG, "gate_draws: all weights are 0");
    for (size_t i = 0; i < r->k; i++) {
        size_t j = 0;
        while (j < k && strcmp(r->name[i], name[j]) != 0)
            j++;
        if (j == k)
            return nf_error(NF_EARG, "gate_draws: the reference has %s, the draws do not", r->name[i]);
    }
    return NF_OK;
}

/* Column `column` of x [n x k] */
static void gather(size_t n, size_t k, size_t column, const double *x, const double *weight, weighted *w)
{
    for (size_t i = 0; i < n; i++)
        w[i] = (weighted){x[i * k + column], weight ? weight[i] : 1};
}

nf_status gate_draws(gate *g, const reference_draws *r, size_t n, size_t k, const char *const *name, const double *x,
                     const double *weight)
{
    *g = (gate){.passed = false};
    const nf_status s = check(r, n, k, name, x, weight);
    if (s)
        return s;
    size_t most = n > r->n ? n : r->n;
    if (most < GATE_QUANTILES * r->k)
        most = GATE_QUANTILES * r->k;
    weighted *w = calloc(most, sizeof *w);
    g->column = calloc(r->k, sizeof *g->column);
    if (!w || !g->column) {
        free(w);
        gate_free(g);
        return nf_error(NF_ENOMEM, "gate_draws: no memory for %zu draws", most);
    }
    g->n = r->k;
    for (size_t i = 0; i < r->k; i++) {
        gate_column *c = &g->column[i];
        size_t j = 0;
        while (strcmp(r->name[i], name[j]) != 0)
            j++;
        memcpy(c->name, r->name[i], sizeof c->name);
        gather(n, k, j, x, weight, w);
        const summary s_draws = summarise(n, w);
        gather(r->n, r->k, i, r->x, NULL, w);
        const summary s_ref = summarise(r->n, w);
        c->tail = fmin(hill(r->n, w, s_ref.quantile[2], 1), hill(r->n, w, s_ref.quantile[2], -1));
        c->heavy = c->tail <= least_tail;
        g->n_heavy += c->heavy;
        judge(c, &s_draws, &s_ref);
    }
    g->mean = collect(g, false, 1, mean_error, w);
    g->sd = collect(g, false, 1, sd_error, w);
    g->quantile = collect(g, true, GATE_QUANTILES, quantile_error, w);
    g->passed = within(g->mean) && within(g->sd) && within(g->quantile);
    free(w);
    return NF_OK;
}

void gate_free(gate *g)
{
    free(g->column);
    *g = (gate){.passed = false};
}
