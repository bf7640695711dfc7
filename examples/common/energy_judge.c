#include "energy_judge.h"
#include "cli.h"
#include <math.h>
#include <stdlib.h>

enum { CHUNK = 10000 };

judgement judge(const nf_model *m, const nf_target *target, double log_z, size_t draws, size_t threads, uint64_t seed)
{
    double *w = malloc(draws * sizeof *w);
    static nf_real z[2 * CHUNK];
    static double x[2 * CHUNK], log_q[CHUNK];
    if (!w)
        cli_fail(1, "out of memory");
    nf_workspace *ws = cli_made(nf_workspace_new(threads));
    for (size_t i = 0; i < draws; i += CHUNK) {
        size_t n = draws - i < CHUNK ? draws - i : CHUNK;
        cli_ok(nf_sample(m, ws, &(nf_noise){.seed = ~seed, .first_sample = i}, n, NULL, z, log_q));
        for (size_t j = 0; j < 2 * n; j++)
            x[j] = z[j];
        cli_ok(nf_target_eval(target, n, x, w + i, NULL, NULL));
        for (size_t j = 0; j < n; j++)
            w[i + j] -= log_q[j];
    }
    double n = (double)draws, sum = 0, squares = 0, top = -INFINITY, e1 = 0, e2 = 0;
    for (size_t i = 0; i < draws; i++) {
        sum += w[i];
        top = fmax(top, w[i]);
    }
    for (size_t i = 0; i < draws; i++) {
        squares += (w[i] - sum / n) * (w[i] - sum / n);
        e1 += exp(w[i] - top);
        e2 += exp(2 * (w[i] - top));
    }
    nf_workspace_free(ws);
    free(w);
    return (judgement){
        .elbo = sum / n,
        .kl = log_z - sum / n,
        .kl_se = sqrt(squares / (n - 1) / n),
        .log_z = top + log(e1 / n),
        .ess = e1 * e1 / e2,
    };
}
