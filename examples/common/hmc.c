#include "hmc.h"
#include <math.h>
#include <nflow/noise.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_STEPS = 1000 /* of a trajectory */ };
enum { MOMENTUM, ACCEPTANCE, LENGTH }; /* sites of noise */

/* ---- trajectories ---- */

nf_status hmc_leapfrog(const nf_target *t, hmc_state *s, double step, size_t steps)
{
    for (size_t k = 0; k < steps; k++) {
        for (size_t i = 0; i < s->n * s->d; i++) {
            s->p[i] += 0.5 * step * s->grad[i];
            s->z[i] += step * s->p[i];
        }
        const nf_status status = nf_target_eval(t, s->n, s->z, s->log_p, s->grad, NULL);
        if (status)
            return status;
        for (size_t i = 0; i < s->n * s->d; i++)
            s->p[i] += 0.5 * step * s->grad[i];
    }
    return NF_OK;
}

double hmc_energy(const hmc_state *s, size_t i)
{
    double square = 0;
    for (size_t r = 0; r < s->d; r++)
        square += s->p[i * s->d + r] * s->p[i * s->d + r];
    return 0.5 * square - s->log_p[i];
}

/* Memory for n points; the caller looks at z, and releases it. */
static hmc_state new_state(size_t n, size_t d)
{
    double *block = calloc(n * (3 * d + 1), sizeof *block);
    return (hmc_state){
        n, d, block, block ? block + n * d : NULL, block ? block + 2 * n * d : NULL, block ? block + 3 * n * d : NULL};
}

static void copy_state(const hmc_state *from, hmc_state *to)
{
    memcpy(to->z, from->z, from->n * (3 * from->d + 1) * sizeof *to->z);
}

/* ---- the step size ---- */

/* Dual averaging (Hoffman & Gelman 2014, section 3.2): log(step) moves against the mean of all misses so far, and their
   weighted mean is the result. */
typedef struct averaging {
    double n, centre, miss, log_mean;
} averaging;

static double next_step(averaging *a, double miss)
{
    const double gamma = 0.05, t0 = 10, kappa = 0.75;
    a->n++;
    a->miss += (miss - a->miss) / (a->n + t0);
    const double log_step = a->centre - sqrt(a->n) / gamma * a->miss;
    a->log_mean += pow(a->n, -kappa) * (log_step - a->log_mean);
    return exp(log_step);
}

/* ---- chains ---- */

typedef struct sampler {
    const nf_target *t;
    const hmc_options *o;
    hmc_state now, end;
    nf_real *noise; /* [d x chains] */
    size_t gradients, divergent;
} sampler;

static double uniform(const sampler *s, size_t iteration, size_t chain, uint32_t site)
{
    nf_real u;
    nf_noise_uniform(&(nf_noise){.seed = s->o->seed, .step = iteration, .first_sample = chain, .site = site}, 1, 1, 1,
                     &u);
    return (double)u;
}

/* s->end = the ends of trajectories from s->now with new momenta. */
static nf_status fly(sampler *s, size_t iteration, double step, size_t steps)
{
    const size_t n = s->now.n, d = s->now.d;
    nf_noise_normal(&(nf_noise){.seed = s->o->seed, .step = iteration, .site = MOMENTUM}, d, n, n, s->noise);
    for (size_t i = 0; i < n * d; i++)
        s->now.p[i] = (double)s->noise[i % d * n + i / d];
    copy_state(&s->now, &s->end);
    s->gradients += n * steps;
    return hmc_leapfrog(s->t, &s->end, step, steps);
}

/* Moves each chain to the end of its trajectory, or not; returns the mean of the probabilities. With `only_ask` no
   chain moves. */
static double accept(sampler *s, size_t iteration, bool only_ask)
{
    const size_t n = s->now.n, d = s->now.d;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double error = hmc_energy(&s->end, i) - hmc_energy(&s->now, i);
        const double probability = isnan(error) ? 0 : exp(fmin(0, -error));
        sum += probability;
        s->divergent += error < 1000 ? 0 : 1;
        if (only_ask || !(uniform(s, iteration, i, ACCEPTANCE) < probability))
            continue;
        memcpy(s->now.z + i * d, s->end.z + i * d, d * sizeof *s->now.z);
        memcpy(s->now.grad + i * d, s->end.grad + i * d, d * sizeof *s->now.grad);
        s->now.log_p[i] = s->end.log_p[i];
    }
    return sum / (double)n;
}

/* The first of length, length / 2, length / 4 .. of which a single step is accepted at least every second time. */
static nf_status first_step(sampler *s, double *step)
{
    nf_status status = NF_OK;
    for (*step = s->o->length; !status && *step > 1e-9; *step *= 0.5) {
        status = fly(s, 0, *step, 1);
        if (!status && accept(s, 0, true) >= 0.5)
            break;
    }
    return status;
}

static nf_status begin(sampler *s, const double *start)
{
    memcpy(s->now.z, start, s->now.n * s->now.d * sizeof *start);
    const nf_status status = nf_target_eval(s->t, s->now.n, s->now.z, s->now.log_p, s->now.grad, NULL);
    for (size_t i = 0; i < s->now.n && !status; i++)
        if (!(s->now.log_p[i] > -INFINITY))
            return nf_error(NF_ETARGET, "hmc_sample: the target rejects the start of chain %zu: %s", i + 1,
                            nf_target_rejection(s->t));
    return status;
}

static nf_status run_chains(sampler *s, hmc_run *r)
{
    const size_t iterations = s->o->warm_up + r->draws;
    nf_status status = first_step(s, &r->step);
    averaging a = {.centre = log(10 * r->step), .log_mean = log(r->step)};
    for (size_t k = 1; k <= iterations && !status && !r->stopped; k++) {
        const double length = s->o->length * (0.5 + uniform(s, k, 0, LENGTH)), steps = ceil(length / r->step);
        status = fly(s, k, r->step, steps < MOST_STEPS ? (size_t)steps : MOST_STEPS);
        if (status)
            break;
        const double probability = accept(s, k, false);
        if (k <= s->o->warm_up) {
            r->step = next_step(&a, s->o->acceptance - probability);
            if (k == s->o->warm_up)
                r->step = exp(a.log_mean);
            s->divergent = 0;
        } else {
            r->acceptance += probability / (double)r->draws;
            for (size_t i = 0; i < r->chains; i++)
                memcpy(r->z + (i * r->draws + k - s->o->warm_up - 1) * r->d, s->now.z + i * r->d, r->d * sizeof *r->z);
        }
        r->stopped = s->o->callback && s->o->callback(s->o->user, k, iterations);
    }
    r->gradients = s->gradients;
    r->divergent = s->divergent;
    return status;
}

nf_status hmc_sample(const nf_target *t, const double *start, const hmc_options *options, hmc_run *run)
{
    hmc_options o = options ? *options : (hmc_options){.seed = 0};
    o.chains = o.chains ? o.chains : 8;
    o.warm_up = o.warm_up ? o.warm_up : 500;
    o.draws = o.draws ? o.draws : 1000;
    o.length = o.length > 0 ? o.length : 0.5 * M_PI;
    o.acceptance = o.acceptance > 0 ? o.acceptance : 0.8;
    const size_t d = nf_target_dim(t);
    sampler s = {.t = t, .o = &o, .now = new_state(o.chains, d), .end = new_state(o.chains, d)};
    s.noise = calloc(o.chains * d, sizeof *s.noise);
    *run = (hmc_run){.chains = o.chains, .draws = o.draws, .d = d};
    run->z = calloc(o.chains * o.draws * d, sizeof *run->z);
    nf_status status = NF_OK;
    if (!s.now.z || !s.end.z || !s.noise || !run->z)
        status = nf_error(NF_ENOMEM, "hmc_sample: no memory for %zu chains of %zu draws", o.chains, o.draws);
    if (!status)
        status = begin(&s, start);
    if (!status)
        status = run_chains(&s, run);
    free(s.now.z);
    free(s.end.z);
    free(s.noise);
    return status;
}

void hmc_free(hmc_run *run)
{
    free(run->z);
    *run = (hmc_run){.draws = 0};
}
