/* Scores a VAE on data. With z_1 ... z_K ~ q(z | x) and w_k = p(x, z_k) / q(z_k | x), the ELBO is
   estimated by mean_k log w_k and log p(x) by log mean_k w_k (Rezende et al. 2014, appendix E); the second is never
   below the first. The encoder runs once for each sample of data. The K draws go one by one into a running
   log-sum-exp, so that memory does not grow with K. */
#include "model/batch.h"
#include "vae/vae.h"
#include "data/minibatch.h"
#include <math.h>
#include <string.h>

/* Adds one more term to log sum exp, which is kept as m + log s. s is 0 before the first term. A term of -inf adds
   nothing. */
static inline void stream(double log_w, double *m, double *s)
{
    if (log_w > *m) {
        *s = *s * exp(*m - log_w) + 1;
        *m = log_w;
    } else if (log_w > -INFINITY) {
        *s += exp(log_w - *m);
    } else if (isnan(log_w)) {
        *s = NAN;
    }
}

typedef struct score_job {
    const nf_model *m;
    const nf_minibatches *rows;
    uint64_t seed;
    size_t samples, first;      /* draws for each sample of data; the first sample of the block */
    double *elbo, *kl, *log_px; /* [samples of a block] */
} score_job;

static nf_status score_draw(const score_job *job, const nf_pass *whole, const nf_real *x, const nf_real *ctx,
                            nf_real *a, double *log_px, double *log_pz, double *log_q)
{
    const nf_object *vae = job->m->o;
    nf_pass posterior = nf_child_pass(vae, NFI_POSTERIOR, whole), decoder = nf_child_pass(vae, NFI_DECODER, whole);
    nf_mark mark = nf_arena_mark(whole->scratch);
    nfi_draw draw;
    nf_status status = nfi_draw_sample(&draw, nf_child(vae, NFI_POSTERIOR), &posterior, ctx, whole->scratch);
    if (status == NF_OK)
        status = nf_net_apply(nf_child(vae, NFI_DECODER), &decoder, draw.z, a, NULL);
    if (status == NF_OK) {
        nfi_prior_log(vae->total.dim_out, whole->ld, draw.z, log_pz);
        nfi_likelihood_log(nfi_vae_likelihood(vae), vae->total.dim_in, whole->n, whole->ld, x, a, 1, log_px, NULL);
        memcpy(log_q, draw.log_q, whole->ld * sizeof *log_q);
    }
    nf_arena_rewind(whole->scratch, mark);
    return status;
}

static nf_status score_vae_tile(void *user, size_t first, size_t n, size_t ld, nfi_thread *memory)
{
    const score_job *job = user;
    const nf_object *vae = job->m->o;
    nf_noise noise = {.seed = job->seed};
    nf_pass p = nfi_model_pass(job->m, memory, &noise, job->first + first, n, ld, NF_EVAL, false);
    nf_real *x = nf_arena_reals(p.scratch, vae->total.dim_in, ld);
    nf_real *ctx = nf_arena_reals(p.scratch, nf_object_shape(nf_child(vae, NFI_POSTERIOR))->n_ctx, ld);
    nf_real *a = nf_arena_reals(p.scratch, nf_object_shape(nf_child(vae, NFI_DECODER))->dim_out, ld);
    enum { LOG_PX, LOG_PZ, LOG_Q, MAX, SUM, ROWS };
    double *d = nf_arena_alloc(p.scratch, ROWS * ld * sizeof *d);
    if (!x || !ctx || !a || !d)
        return NF_ENOMEM;
    double *log_px = d + LOG_PX * ld, *log_pz = d + LOG_PZ * ld, *log_q = d + LOG_Q * ld;
    double *max = d + MAX * ld, *sum = d + SUM * ld;
    double *elbo = job->elbo + first, *kl = job->kl + first;
    for (size_t s = 0; s < n; s++) {
        max[s] = -INFINITY;
        sum[s] = elbo[s] = kl[s] = 0;
    }
    nf_pass encoder = nf_child_pass(vae, NFI_ENCODER, &p);
    nf_status status = nfi_minibatches_consecutive(job->rows, &p, job->first + first, x, NULL);
    if (status == NF_OK)
        status = nf_net_apply(nf_child(vae, NFI_ENCODER), &encoder, x, ctx, NULL);
    for (size_t k = 0; k < job->samples && status == NF_OK; k++) {
        p.noise.step = k;
        status = score_draw(job, &p, x, ctx, a, log_px, log_pz, log_q);
        for (size_t s = 0; s < n && status == NF_OK; s++) {
            double log_w = log_px[s] + log_pz[s] - log_q[s];
            elbo[s] += log_w / (double)job->samples;
            kl[s] += (log_q[s] - log_pz[s]) / (double)job->samples;
            stream(log_w, &max[s], &sum[s]);
        }
    }
    for (size_t s = 0; s < n && status == NF_OK; s++)
        job->log_px[first + s] = max[s] + log(sum[s]) - log((double)job->samples);
    return status;
}

/* Running mean and sum of squared deviations (Welford 1962). Samples are added in order, so that the result does not
   depend on the number of threads. Samples with in[i] false are skipped. */
typedef struct moments {
    double n, mean, squares;
} moments;

static void moments_add(moments *m, size_t n, const bool *in, const double *v)
{
    for (size_t i = 0; i < n; i++) {
        if (!in[i])
            continue;
        double delta = v[i] - m->mean;
        m->mean += delta / ++m->n;
        m->squares += delta * (v[i] - m->mean);
    }
}

static double standard_error(const moments *m)
{
    return m->n > 1 ? sqrt(m->squares / (m->n - 1) / m->n) : NAN;
}

static nf_status score_rows(score_job *job, nf_workspace *ws, size_t n, int (*progress)(void *, size_t), void *user,
                            nf_vae_scores *scores)
{
    enum { BLOCK = 512 }; /* samples between two calls of progress */
    size_t reals = job->m->o->total.n_saved;
    double elbo_row[BLOCK], kl_row[BLOCK], log_px_row[BLOCK];
    job->elbo = elbo_row;
    job->kl = kl_row;
    job->log_px = log_px_row;
    bool in[BLOCK];
    size_t n_failed = 0;
    moments elbo = {0}, kl = {0}, log_px = {0};
    for (job->first = 0; job->first < n;) {
        size_t rows = n - job->first < BLOCK ? n - job->first : BLOCK;
        nfi_tiling tiling = nfi_tile_batch(rows, reals);
        nf_status status = nfi_for_tiles(ws, &tiling, score_vae_tile, job);
        if (status != NF_OK)
            return status;
        for (size_t i = 0; i < rows; i++) {
            in[i] = isfinite(elbo_row[i]) && isfinite(kl_row[i]) && isfinite(log_px_row[i]);
            n_failed += !in[i];
        }
        moments_add(&elbo, rows, in, elbo_row);
        moments_add(&kl, rows, in, kl_row);
        moments_add(&log_px, rows, in, log_px_row);
        job->first += rows;
        if (progress && progress(user, job->first))
            return nf_error(NF_ESTOP, "nf_vae_score: stopped by the callback after %zu of %zu rows", job->first, n);
    }
    *scores = (nf_vae_scores){
        .elbo = elbo.mean,
        .elbo_se = standard_error(&elbo),
        .kl = kl.mean,
        .log_px = log_px.mean,
        .log_px_se = standard_error(&log_px),
        .failed = n_failed,
    };
    if (n_failed == n)
        scores->elbo = scores->kl = scores->log_px = NAN;
    return NF_OK;
}

nf_status nf_vae_score(const nf_model *m, nf_workspace *ws, const nf_data *data, size_t samples, uint64_t seed,
                       int (*progress)(void *user, size_t done), void *user, nf_vae_scores *scores)
{
    const nf_object *vae = nfi_model_vae(m, "nf_vae_score");
    if (!vae)
        return NF_EARG;
    if (!scores)
        return nf_error(NF_EARG, "nf_vae_score: `scores` is NULL");
    if (samples == 0)
        return nf_error(NF_EARG, "nf_vae_score: `samples` is 0");
    nf_minibatches *rows = nfi_vae_rows(vae, data, 1, "nf_vae_score");
    if (!rows)
        return nf_error_status();
    nf_workspace *mine;
    nf_status status = nfi_call_begin(m, "nf_vae_score", ws, &mine);
    if (status == NF_OK) {
        score_job job = {.m = m, .rows = rows, .seed = seed, .samples = samples};
        status = score_rows(&job, mine, data->n, progress, user, scores);
        nfi_workspace_return(ws, mine);
    }
    nf_minibatches_free(rows);
    return status;
}
