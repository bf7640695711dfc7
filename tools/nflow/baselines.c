/*
 * A mixture of the context c and x, in this order, has a mixture of c alone with the same weights: of each mean the
 * first n_ctx numbers, of each Cholesky factor the first n_ctx rows. So log p(x | c) = log p(c, x) - log p(c) has no
 * integral.
 */
#include "baselines.h"
#include "cli.h"
#include <math.h>
#include <nflow/nflow.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ROWS = 50000, BLOCK = 4096 };
static const size_t candidates[] = {3, 10, 30};

/* ---- rows with the context first, in units of their own ---- */

static rows joint_rows(const rows *r, size_t *place)
{
    rows joint = *r;
    memcpy(place, r->place + r->dim, r->n_ctx * sizeof *place);
    memcpy(place + r->n_ctx, r->place, r->dim * sizeof *place);
    joint.dim = r->dim + r->n_ctx;
    joint.n_ctx = 0;
    joint.place = place;
    joint.shift = joint.scale = NULL;
    return joint;
}

static int read_source(void *user, size_t count, const size_t *row, double *x, double *ctx)
{
    const char *wrong = rows_read(user, count, row, 0, x, ctx);
    if (wrong)
        nf_error(NF_EFORMAT, "%s", wrong);
    return wrong != NULL;
}

/* ---- fits ---- */

static nf_model *new_mixture(size_t dim, size_t components)
{
    return cli_made(nf_model_of_dist(cli_made(nf_gaussian_mixture(dim, components)), NULL));
}

static nf_model *fit_mixture(const baseline_data *d, size_t components)
{
    size_t *place = cli_allocate(d->train->dim + d->train->n_ctx, sizeof *place);
    rows joint = joint_rows(d->train, place);
    if (joint.n > MOST_ROWS)
        joint.n = MOST_ROWS; /* they are in a random order already */
    const nf_source source = {.read = read_source, .user = &joint, .thread_safe = true};
    const nf_data data = {.n = joint.n, .dim = joint.dim, .source = &source, .weight = d->weight[0]};
    nf_model *m = new_mixture(joint.dim, components);
    cli_ok(nf_fit_mixture(m, &data, &(nf_em_options){.iterations = 100, .seed = d->seed, .threads = d->threads}, NULL));
    free(place);
    return m;
}

/* The mixture of the first n_ctx features. theta: logits [K], means [K x dim], log-diagonals [K x dim], rows of L below
   the diagonal [K x dim (dim - 1) / 2]. */
static nf_model *marginal(nf_model *joint, size_t dim, size_t n_ctx, size_t K)
{
    nf_model *m = new_mixture(n_ctx, K);
    const double *from = nf_model_theta(joint);
    double *to = nf_model_theta(m);
    const size_t wide[] = {1, dim, dim, dim * (dim - 1) / 2}, narrow[] = {1, n_ctx, n_ctx, n_ctx * (n_ctx - 1) / 2};
    for (size_t part = 0; part < 4; part++)
        for (size_t k = 0; k < K; k++) {
            memcpy(to, from, narrow[part] * sizeof *to);
            to += narrow[part];
            from += wide[part];
        }
    cli_ok(nf_model_update(m, NF_EVAL));
    return m;
}

/* log p(x | c) of a part's rows, their mean. */
static estimate score(const baseline_data *d, nf_model *m, const rows *part, const double *weight, size_t K)
{
    size_t *place = cli_allocate(part->dim + part->n_ctx, sizeof *place);
    const rows joint = joint_rows(part, place);
    rows context = joint;
    context.dim = part->n_ctx;
    nf_workspace *ws = cli_made(nf_workspace_new(d->threads));
    nf_model *of_context = part->n_ctx ? marginal(m, joint.dim, part->n_ctx, K) : NULL;
    double *x = cli_allocate(BLOCK, joint.dim * sizeof *x), *log_p = cli_allocate(part->n, sizeof *log_p),
           *less = cli_allocate(BLOCK, sizeof *less);
    for (size_t first = 0; first < part->n; first += BLOCK) {
        const size_t n = part->n - first < BLOCK ? part->n - first : BLOCK;
        rows_must_read(&joint, first, n, x, NULL);
        cli_ok(nf_log_prob(m, ws, NULL, n, x, NULL, log_p + first));
        if (!of_context)
            continue;
        rows_must_read(&context, first, n, x, NULL);
        cli_ok(nf_log_prob(of_context, ws, NULL, n, x, NULL, less));
        for (size_t i = 0; i < n; i++)
            log_p[first + i] -= less[i];
    }
    const estimate e = weighted_mean_of(part->n, log_p, weight);
    free(x);
    free(log_p);
    free(less);
    free(place);
    nf_model_free(of_context);
    nf_workspace_free(ws);
    return e;
}

baseline baseline_of(const baseline_data *d, size_t components)
{
    const size_t dim = d->train->dim + d->train->n_ctx;
    baseline best = {0};
    double most = -INFINITY;
    const size_t n_candidates = components ? 1 : sizeof candidates / sizeof *candidates;
    for (size_t k = 0; k < n_candidates; k++) {
        const size_t K = components ? components : candidates[k];
        if (d->train->n < (components ? 1 : 2 * K * (dim + 1)))
            break;
        nf_model *m = fit_mixture(d, K);
        const double valid = score(d, m, d->valid, d->weight[1], K).mean;
        if (valid > most || components) {
            most = valid;
            best = (baseline){K, score(d, m, d->test, d->weight[2], K)};
        }
        nf_model_free(m);
    }
    return best;
}
