/*
 * Modes that a posterior has missed. Importance weights know nothing of places without draws, but paths of the start
 * may have been there: a path's normal approximation g has mass if its ELBO is not far below log Z, and the posterior q
 * lacks it if log p(x) - log q(x) is far above log Z at draws x ~ g.
 */
#include "base/memory.h"
#include "vi/judge.h"
#include <math.h>

/* Whether the approximation that another path has found has mass (its ELBO is not far below log Z) where q has none:
   the median of log p - log q over its draws is far above log Z. */
static nf_status is_missed(const nfi_gaussian *a, const nf_target *t, uint64_t seed, const nf_model *q, double log_z,
                           bool *missed)
{
    enum { DRAWS = 64 };
    static const double LESS = 4, ABOVE = 2; /* nats */
    nfi_comparison w = {0};
    if (!(a->elbo > log_z - LESS))
        return NF_OK;
    double log_q[DRAWS];
    nf_real *x = nfi_calloc(DRAWS, a->d * sizeof *x);
    nf_status st = x ? nfi_comparison_begin(&w, t, DRAWS, seed) : NF_ENOMEM;
    nfi_gaussian copy = *a;
    if (!st)
        st = nfi_gaussian_elbo(&copy, &w, DRAWS); /* leaves the draws in w.x and log p in w.log_p */
    for (size_t i = 0; i < DRAWS * a->d && !st; i++)
        x[i] = (nf_real)w.x[i];
    if (!st)
        st = nf_log_prob(q, NULL, NULL, DRAWS, x, NULL, log_q);
    if (!st) {
        for (size_t i = 0; i < DRAWS; i++)
            log_q[i] = w.log_p[i] - log_q[i];
        *missed = *missed || nfi_median(DRAWS, log_q) > log_z + ABOVE;
    }
    nfi_comparison_end(&w);
    nfi_free(x);
    return st;
}

nf_status nfi_look_elsewhere(const nfi_start *s, const nf_target *t, uint64_t seed, const nf_model *q,
                             nf_quality *quality)
{
    nf_status st = NF_OK;
    for (size_t k = 0; k < s->n && !st && isfinite(quality->log_z); k++)
        st = is_missed(s->path + k, t, seed, q, quality->log_z, &quality->missed);
    if (!st && quality->missed)
        nfi_judge_verdict(quality, t);
    return st;
}
