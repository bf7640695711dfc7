#include "train.h"
#include "cli.h"
#include "long_fit.h"
#include <nflow/nflow.h>
#include <stdlib.h>

/* ---- rows in this precision ---- */

static int read_rows(void *user, size_t count, const size_t *row, nf_real *x, nf_real *ctx)
{
    const rows *r = user;
    double *values = cli_allocate(count * (r->dim + r->n_ctx), sizeof *values), *contexts = values + count * r->dim;
    const char *wrong = rows_read(r, count, row, 0, values, contexts);
    for (size_t k = 0; k < count * r->dim && !wrong; k++)
        x[k] = (nf_real)values[k];
    for (size_t k = 0; k < count * r->n_ctx && ctx && !wrong; k++)
        ctx[k] = (nf_real)contexts[k];
    free(values);
    if (wrong)
        nf_error(NF_EFORMAT, "%s", wrong);
    return wrong != NULL;
}

static nf_data data_of(const rows *r, nf_source *source, const double *weight)
{
    *source = (nf_source){.read = read_rows, .user = (void *)r, .thread_safe = true};
    return (nf_data){.n = r->n, .dim = r->dim, .n_ctx = r->n_ctx, .source = source, .weight = weight};
}

/* ---- the model ---- */

/* Layers that begin from data begin from the first rows. */
static nf_model *new_model(const train_job *job)
{
    const rows *r = job->data;
    const size_t n = job->n_start < r->n ? job->n_start : r->n;
    nf_real *x = cli_allocate(n * (r->dim + r->n_ctx), sizeof *x), *ctx = r->n_ctx ? x + n * r->dim : NULL;
    size_t *first = cli_allocate(n, sizeof *first);
    for (size_t i = 0; i < n; i++)
        first[i] = i;
    if (read_rows((void *)r, n, first, x, ctx))
        cli_fail(1, "%s", nf_error_message());
    nf_object *o = cli_made(nf_rebuild(job->description, NULL));
    nf_model *m = cli_made(
        nf_model_of_object(o, &(nf_model_options){.seed = job->seed, .n_init = n, .init_x = x, .init_ctx = ctx}));
    free(first);
    free(x);
    return m;
}

static nf_objective *objective_of(const train_job *job, nf_model *m, const nf_data *data, size_t batch, bool training)
{
    if (job->matching)
        return cli_made(nf_flow_matching(m, data, &(nf_matching_options){.batch = batch}));
    nf_likelihood_options options = {.batch = batch};
    if (training) {
        options.noise = job->noise;
        options.blur = job->blur;
    }
    return cli_made(nf_maximum_likelihood(m, data, &options));
}

static double *copy(size_t n, const nf_real *from)
{
    double *to = cli_allocate(n + 1, sizeof *to);
    for (size_t i = 0; i < n; i++)
        to[i] = from[i];
    return to;
}

void train(const train_job *job, train_result *r)
{
    nf_source source, valid_source;
    const nf_data data = data_of(job->data, &source, job->weight),
                  valid = data_of(job->valid, &valid_source, job->valid_weight);
    nf_model *m = new_model(job);
    nf_objective *loss = objective_of(job, m, &data, job->batch, true);
    nf_objective *validation = objective_of(job, m, &valid, valid.n, false);
    const nf_fit_options fit = {.seed = job->seed,
                                .threads = job->threads,
                                .rate = job->rate,
                                .clip_norm = job->clip,
                                .weight_decay = job->weight_decay,
                                .average = job->average,
                                .validation = validation,
                                .validate_every = job->validate_every,
                                .patience = job->patience};
    const long_fit_options how = {.what = "fit",
                                  .checkpoint = job->checkpoint,
                                  .curve = job->curve,
                                  .title = job->title,
                                  .resume = job->resume,
                                  .steps = job->steps,
                                  .minutes = job->minutes,
                                  .warm_up = job->warm_up,
                                  .factor = job->matching ? 1 : -1,
                                  .offset = job->offset,
                                  .figure = job->matching ? "loss" : "nats"};
    r->report = long_fit(loss, &fit, &how, &r->curve);
    const nf_shape *s = nf_model_shape(m);
    r->n_params = s->n_params;
    r->n_state = s->n_state;
    r->theta = copy(s->n_params, nf_model_theta(m));
    r->state = copy(s->n_state, nf_model_state(m));
    nf_objective_free(validation);
    nf_objective_free(loss);
    nf_model_free(m);
}
