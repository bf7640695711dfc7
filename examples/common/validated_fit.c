#include "validated_fit.h"
#include "cli.h"

static int watch(void *what, const nf_progress *p)
{
    cli_progress(what, (double)p->step, (double)p->steps, "loss %.3f", p->loss);
    return cli_interrupted;
}

void validated_fit(const char *what, nf_model *m, const nf_data *train, const nf_data *valid, size_t batch,
                   const nf_fit_options *options)
{
    nf_objective *o = cli_made(nf_maximum_likelihood(m, train, &(nf_likelihood_options){.batch = batch}));
    nf_objective *v = cli_made(nf_maximum_likelihood(m, valid, &(nf_likelihood_options){.batch = valid->n}));
    nf_fit_options all = *options;
    all.schedule = (nf_schedule){.kind = NF_COSINE, .from = 1};
    all.clip_norm = 10;
    all.validation = v;
    all.callback = watch;
    all.user = (void *)what;
    cli_ok(nf_fit(o, &all, NULL));
    nf_objective_free(o);
    nf_objective_free(v);
    cli_progress_clear();
}
