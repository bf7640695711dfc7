/**
 * @file vae.h
 * Flow-VAEs, and the posterior plug-in for other people's VAEs.
 */
#ifndef NFLOW_VAE_H
#define NFLOW_VAE_H
#include <nflow/data.h>
#include <nflow/objective.h>
#include <nflow/schedule.h>
NF_BEGIN_DECLS

/* ---- the plug-in: two calls, and one workspace for each thread, which keeps the tape between the calls ---- */

/**
 * Draws z ~ q(z | mean, log_scale, ctx) for the outputs of somebody else's encoder. A row that has no result (its mean
 * is NaN, say) is NaN in z and log_q, and nf_workspace_failed() counts it. The other rows are what they would be
 * without it.
 * @param m     a model of nf_posterior(d, flow) or nf_diagonal_posterior(d); threads may share it
 * @param ws    this thread's workspace; keeps the tape for nf_posterior_backward
 * @param mode  NF_TRAIN for a step of training: dropout in the flow's nets is on, and nf_posterior_backward() counts
 * the samples in `stats`. NF_EVAL: neither, so z is what nf_sample() draws
 * @param mean, log_scale [n x d].  @param ctx [n x n_ctx of the flow], NULL if that is 0
 * @param z     [n x d], written.   @param log_q [n], log q(z), written
 * @return NF_EARG (NULL where something is needed, n 0, no such mode), NF_EDIM (a model of fewer than 2 d features of
 * context), NF_ESTALE (see nf_model_update()), NF_ENOMEM; what users' own hooks return.
 */
NF_API NF_CHECKED nf_status nf_posterior_forward(const nf_model *m, nf_workspace *ws, nf_mode mode,
                                                 const nf_noise *noise, size_t n, const nf_real *mean,
                                                 const nf_real *log_scale, const nf_real *ctx, nf_real *z,
                                                 double *log_q);
/**
 * Gradients of <gz, z> + <g_log_q, log_q> of the workspace's last nf_posterior_forward, with its noise constant. The
 * mode is that of the forward call, so the same units are dropped. Rows without a result are not read: their gradients
 * are 0, and they add nothing to g and stats.
 * @param gz [n x d].  @param g_log_q [n].  n is that of the forward call
 * @param g_mean, g_log_scale [n x d], g_ctx [n x n_ctx]: written; NULL: not wanted
 * @param g nf_model_gradient_size(m) numbers, +=; NULL: not wanted. Once a step, pull it back by nf_model_pull_gradient
 * @param stats n_state sums over the rows, +=; NULL: not wanted. Layers with moving statistics (nf_batch_norm) count
 * here what they see in their inverse direction. Once a step, nf_model_end_step() turns them into new state. Nothing is
 * added if the forward call was in NF_EVAL
 * @return NF_EARG (no such forward call before), NF_EUNSUPPORTED (a mixture); else as nf_posterior_forward().
 */
NF_API NF_CHECKED nf_status nf_posterior_backward(const nf_model *m, nf_workspace *ws, const nf_real *gz,
                                                  const nf_real *g_log_q, nf_real *g_mean, nf_real *g_log_scale,
                                                  nf_real *g_ctx, nf_real *g, double *stats);

/* ---- VAEs ---- */

/** What p(x | z) is. */
typedef enum nf_likelihood {
    NF_BERNOULLI, /**< the decoder's features are logits */
    NF_GAUSSIAN   /**< the decoder's features are the means, then the log-scales: 2 x_dim features */
} nf_likelihood;

/**
 * A VAE with prior N(0, I). encoder(x) gives the posterior's context (means, log-scales, the flow's context), and
 * decoder(z) gives the likelihood's parameters. Consumes its three parts. encoder: x_dim -> posterior's n_ctx;
 * posterior: nf_posterior(z_dim, flow) or any nf_dist with context; decoder: z_dim -> x_dim (Bernoulli) or 2 x_dim
 * (Gaussian).
 * @return NULL on NF_EARG (no such likelihood), NF_EDIM (the message has both shapes), NF_ENOMEM.
 */
NF_API nf_vae *nf_vae_new(nf_net *encoder, nf_dist *posterior, nf_net *decoder, nf_likelihood likelihood);
/** The VAE as a node; borrowed. Its shape: dim_in = x_dim, dim_out = z_dim. */
NF_API nf_object *nf_vae_object(nf_vae *vae);
/** One more reference. */
NF_API nf_vae *nf_vae_ref(nf_vae *vae);
/** Gives back a reference; NULL is allowed. */
NF_API void nf_vae_free(nf_vae *vae);

/** Options of nf_vae_elbo. */
typedef struct nf_vae_options {
    size_t batch;      /**< rows a step, 0: 100; data->n or more: all rows in order */
    nf_schedule joint; /**< beta_t, the weight of log p(x, z): the paper's annealing */
    nf_schedule kl;    /**< kl_t, the weight of log q(z|x) - beta_t log p(z): KL warm-up */
} nf_vae_options;

/**
 * loss = kl_t (log q(z|x) - beta_t log p(z)) - beta_t log p(x|z), with one z a row; -ELBO if both weights are 1. Terms:
 * "log_px", "kl" (log q(z|x) - log p(z)), both without weights. `m` must be of a VAE. It is borrowed, and so is what
 * `data` points to. The data may have no context, and with NF_BERNOULLI an array x must be in [0, 1]. A source that
 * fails ends the step, see nf_source.
 * @return NULL on NF_EARG (NULL, a model of no VAE, data that nf_minibatches_new() refuses), NF_EDIM (a number of
 * columns that is not the encoder's number of features), NF_ENOMEM.
 */
NF_API nf_objective *nf_vae_elbo(nf_model *m, const nf_data *data, const nf_vae_options *options);

/** Means over the rows of a data set, in nats. */
typedef struct nf_vae_scores {
    double elbo;      /**< mean ELBO, estimated with all `samples` draws of each row */
    double elbo_se;   /**< its standard error over rows */
    double kl;        /**< mean of log q(z|x) - log p(z) */
    double log_px;    /**< mean log p(x), estimated by importance sampling with `samples` draws a row */
    double log_px_se; /**< its standard error over rows */
    size_t failed;    /**< rows without a finite score. They are not in the means (NaN if no row has one) */
} nf_vae_scores;

/**
 * Scores rows: log p(x) ~ log mean_k p(x, z_k) / q(z_k | x), z_k ~ q, computed by a streaming log-sum-exp, whose memory
 * does not grow with the number of draws.
 * @param progress called from the calling thread with the number of rows done so far; NULL: no calls. If it returns
 * anything but 0, scoring stops: NF_ESTOP
 * @return NF_EARG (also samples 0), NF_EDIM (a number of columns that is not the encoder's number of features),
 * NF_ESTALE (see nf_model_update()), NF_ESTOP, NF_ENOMEM; what users' own hooks and a source of the data return.
 * `scores` is written on NF_OK only.
 */
NF_API NF_CHECKED nf_status nf_vae_score(const nf_model *m, nf_workspace *ws, const nf_data *data, size_t samples,
                                         uint64_t seed, int (*progress)(void *user, size_t done), void *user,
                                         nf_vae_scores *scores);
/**
 * The likelihood's means E[x | z] for z [n x z_dim]: x [n x x_dim]. z NULL: z is drawn from the prior with `noise`.
 * @return NF_EARG (a model of no VAE, n 0, `z` and `noise` NULL), NF_ESTALE (see nf_model_update()), NF_ENOMEM; what
 * users' own hooks return.
 */
NF_API NF_CHECKED nf_status nf_vae_decode(const nf_model *m, nf_workspace *ws, const nf_noise *noise, size_t n,
                                          const nf_real *z, nf_real *x);
/**
 * Draws z ~ q(z | x): x [n x x_dim], z [n x z_dim], log_q [n] or NULL.
 * @return NF_EARG (a model of no VAE, n 0, `noise` NULL), NF_ESTALE (see nf_model_update()), NF_ENOMEM; what users'
 * own hooks return.
 */
NF_API NF_CHECKED nf_status nf_vae_encode(const nf_model *m, nf_workspace *ws, const nf_noise *noise, size_t n,
                                          const nf_real *x, nf_real *z, double *log_q);

NF_END_DECLS
#endif
