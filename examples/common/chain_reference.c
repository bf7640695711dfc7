#include "chain_reference.h"
#include "chains.h"
#include "cli.h"
#include "hmc.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHAINS = 8, DRAWS = 1250 };

static int watch(void *user, size_t iteration, size_t iterations)
{
    const bayes_fit *f = user;
    cli_progress(f->model->name, (double)iteration, (double)iterations + 1, "chains");
    return cli_interrupted;
}

static double worst_r_hat(size_t k, const double *output)
{
    double worst = 0, *x = cli_allocate(CHAINS * DRAWS, sizeof *x);
    for (size_t j = 0; j < k; j++) {
        chains_report r;
        for (size_t i = 0; i < CHAINS * DRAWS; i++)
            x[i] = output[i * k + j];
        cli_ok(chains_judge(CHAINS, DRAWS, x, &r));
        worst = r.r_hat <= worst ? worst : r.r_hat;
    }
    free(x);
    return worst;
}

double chain_reference(bayes_fit *f, uint64_t seed)
{
    const nf_posterior_draws *q = &f->result.draws;
    const size_t d = q->d, k = q->n_outputs;
    nf_target *pulled = cli_made(nf_target_pulled_back(f->target, f->result.model));
    double *x = cli_allocate(CHAINS, d * sizeof *x), *start = cli_allocate(CHAINS, d * sizeof *start);
    hmc_run run;
    size_t n = 0;
    for (size_t i = 0; i < q->n && n < CHAINS; i++)
        if (q->log_p[i] > -INFINITY)
            memcpy(x + n++ * d, q->x + i * d, d * sizeof *x);
    if (n < CHAINS)
        cli_fail(1, "%s: there are only %zu draws to begin from", f->model->name, n);
    cli_ok(nf_transform(f->result.model, NULL, NULL, NF_INVERSE, CHAINS, x, NULL, start, NULL));
    cli_ok(hmc_sample(pulled, start,
                      &(hmc_options){.chains = CHAINS, .draws = DRAWS, .seed = seed, .callback = watch, .user = f},
                      &run));
    cli_progress_clear();
    if (run.stopped)
        exit(130);
    f->reference = (reference_draws){.n = CHAINS * DRAWS, .k = k};
    f->reference.x = cli_allocate(CHAINS * DRAWS, k * sizeof *f->reference.x);
    f->reference.name = cli_allocate(k, sizeof *f->reference.name);
    for (size_t j = 0; j < k; j++)
        snprintf(f->reference.name[j], REFERENCE_NAME, "%s", nf_target_output_name(f->target, j));
    cli_ok(nf_target_outputs(pulled, CHAINS * DRAWS, run.z, f->reference.x));
    bayes_fit_judge(f);
    hmc_free(&run);
    nf_target_free(pulled);
    free(x);
    free(start);
    return worst_r_hat(k, f->reference.x);
}
