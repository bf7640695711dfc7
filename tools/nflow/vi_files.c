#include "vi_files.h"
#include "cli.h"
#include "output.h"
#include "pairs.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PANELS = 6, DOTS = 1000 };

/* ---- draws ---- */

static void take(vi_draws *w, const nf_posterior_draws *d, size_t from)
{
    const size_t to = w->draws.n++, k = d->n_outputs;
    memcpy(w->values + to * k, d->output + from * k, k * sizeof *w->values);
    w->log_p[to] = d->log_p[from];
    w->log_q[to] = d->log_q[from];
    w->log_weight[to] = d->log_weight[from];
}

void vi_draws_make(vi_draws *w, const nf_target *t, const nf_vi_result *r, size_t resample, uint64_t seed)
{
    const nf_posterior_draws *d = &r->draws;
    const size_t room = resample ? resample : d->n, k = d->n_outputs;
    *w = (vi_draws){.names = cli_allocate(k, sizeof *w->names),
                    .values = cli_allocate(room, k * sizeof *w->values),
                    .log_p = cli_allocate(room, sizeof *w->log_p),
                    .log_q = cli_allocate(room, sizeof *w->log_q),
                    .log_weight = cli_allocate(room, sizeof *w->log_weight)};
    for (size_t j = 0; j < k; j++)
        w->names[j] = nf_target_output_name(t, j);
    if (resample) {
        size_t *index = cli_allocate(resample, sizeof *index);
        cli_ok(nf_resample(d->n, d->log_weight, NF_RESAMPLE_SYSTEMATIC, &(nf_noise){.seed = seed}, resample, index));
        for (size_t i = 0; i < resample; i++)
            take(w, d, index[i]);
        free(index);
    }
    for (size_t i = 0; i < d->n && !resample; i++)
        if (d->log_p[i] > -INFINITY)
            take(w, d, i);
    if (w->draws.n == 0)
        cli_fail(1, "the target rejected all draws: nothing to write");
    w->draws.n_outputs = k;
    w->draws.names = w->names;
    w->draws.values = w->values;
    w->draws.log_p = w->log_p;
    w->draws.log_q = w->log_q;
    w->draws.log_weight = resample ? NULL : w->log_weight; /* resampled draws all count alike */
}

void vi_draws_free(vi_draws *w)
{
    free(w->names);
    free(w->values);
    free(w->log_p);
    free(w->log_q);
    free(w->log_weight);
    *w = (vi_draws){.names = NULL};
}

void vi_save_inits(const char *path, const nf_target *t, const nf_vi_result *r, size_t chains, uint64_t seed)
{
    vi_draws w;
    vi_draws_make(&w, t, r, 0, seed);
    size_t *which = cli_allocate(chains, sizeof *which);
    cli_ok(nf_resample(w.draws.n, w.log_weight, NF_RESAMPLE_DISTINCT, &(nf_noise){.seed = seed}, chains, which));
    cli_ok(nf_save_inits(path, &w.draws, chains, which));
    free(which);
    vi_draws_free(&w);
}

void vi_plot(const char *path, const nf_target *t, const nf_vi_result *r)
{
    const bool weighted = r->quality.verdict != NF_TRUST;
    vi_draws w;
    vi_draws_make(&w, t, r, weighted ? DOTS : 0, 1);
    const size_t n = w.draws.n < DOTS ? w.draws.n : DOTS, outputs = w.draws.n_outputs;
    size_t column[PANELS];
    for (size_t k = 0; k < PANELS; k++)
        column[k] = k;
    pairs_plot(path, outputs < PANELS ? outputs : PANELS, column, w.names, &(shown){.dim = outputs},
               &(shown){n, outputs, w.values});
    vi_draws_free(&w);
}
