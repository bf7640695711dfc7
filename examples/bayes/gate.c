#include "gate.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double median_bound = 0.05, worst_bound = 0.15;

static void judge(gate_column *c)
{
    const nf_summary *s = &c->draws, *r = &c->reference;
    const double range = r->quantile[3] - r->quantile[1];
    c->heavy = r->no_variance;
    c->mean_error = fabs(s->mean - r->mean) / r->sd;
    c->sd_error = fabs(s->sd / r->sd - 1);
    for (size_t q = 0; q < NF_QUANTILES; q++)
        c->quantile_error[q] = fabs(s->quantile[q] - r->quantile[q]) / range;
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

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* w has room for all errors: each column has `each`. An error that is no number counts as infinite. */
static gate_errors collect(const gate *g, bool heavy, size_t each, double (*error)(const gate_column *, size_t),
                           double *w)
{
    gate_errors e = {.worst = 0};
    size_t n = 0;
    for (size_t i = 0; i < g->n * each; i++) {
        const gate_column *c = &g->column[i / each];
        if (c->heavy != heavy)
            continue;
        const double value = error(c, i % each);
        w[n] = isnan(value) ? INFINITY : value;
        if (w[n] > e.worst || !e.of) {
            e.worst = w[n];
            e.of = c->name;
        }
        n++;
    }
    qsort(w, n, sizeof *w, ascending);
    if (n > 0)
        e.median = 0.5 * (w[(n - 1) / 2] + w[n / 2]);
    return e;
}

static bool within(gate_errors e)
{
    return e.median <= median_bound && e.worst <= worst_bound;
}

/* ---- */

/* Both summaries of column i of the reference. */
static nf_status summarise(gate_column *c, const reference_draws *r, size_t i, size_t n, size_t k,
                           const char *const *name, const double *x, const double *weight)
{
    size_t j = 0;
    while (j < k && strcmp(r->name[i], name[j]) != 0)
        j++;
    memcpy(c->name, r->name[i], sizeof c->name);
    if (j == k)
        return nf_error(NF_EARG, "gate_draws: the reference has %s, the draws do not", c->name);
    nf_status s = nf_summarise(r->n, r->k, r->x + i, NULL, &c->reference);
    if (!s)
        s = nf_summarise(n, k, x + j, weight, &c->draws);
    if (!s && (c->draws.left_out > 0 || c->draws.n == 0))
        s = nf_error(NF_EARG,
                     c->draws.n ? "gate_draws: %s: %zu draws are not finite" : "gate_draws: %s: no draw counts",
                     c->name, c->draws.left_out);
    return s;
}

nf_status gate_draws(gate *g, const reference_draws *r, size_t n, size_t k, const char *const *name, const double *x,
                     const double *weight)
{
    double *w = calloc(r->k * NF_QUANTILES, sizeof *w);
    *g = (gate){.n = r->k, .column = calloc(r->k, sizeof *g->column)};
    nf_status s = w && g->column ? NF_OK : nf_error(NF_ENOMEM, "gate_draws: no memory for %zu parameters", r->k);
    for (size_t i = 0; i < r->k && !s; i++) {
        s = summarise(&g->column[i], r, i, n, k, name, x, weight);
        judge(&g->column[i]);
        g->n_heavy += g->column[i].heavy;
    }
    if (s)
        gate_free(g);
    else {
        g->mean = collect(g, false, 1, mean_error, w);
        g->sd = collect(g, false, 1, sd_error, w);
        g->quantile = collect(g, true, NF_QUANTILES, quantile_error, w);
        g->passed = within(g->mean) && within(g->sd) && within(g->quantile);
    }
    free(w);
    return s;
}

void gate_free(gate *g)
{
    free(g->column);
    *g = (gate){.passed = false};
}
