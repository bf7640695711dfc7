/**
 * @file vae.h
 * Flow-VAEs, and the posterior plug-in for other people's VAEs.
 */
#ifndef NFLOW_VAE_H
#define NFLOW_VAE_H
#include <nflow/objective.h>
NF_BEGIN_DECLS

/* ---- the plug-in: two calls, one workspace a thread; the tape lives in the workspace between them ---- */

/**
 * Draws z ~ q(z | mean, log_scale, ctx) for a foreign encoder's outputs.
 * @param m     a model of nf_posterior(d, flow) or nf_diagonal_posterior(d); shared by threads
 * @param ws    this thread's workspace; keeps the tape for nf_posterior_backward
 * @param mean, log_scale [n x d].  @param ctx [n x n_ctx of the flow], NULL if that is 0
 * @param z     [n x d], written.   @param log_q [n], log q(z), written. A row that has no result (its mean is NaN, say)
 * is NaN in both, and counted by nf_workspace_failed(); the other rows are as they would be without it
 * @return NF_EARG (NULL where something is needed, n 0), NF_EDIM (a model of fewer than 2 d rows of context),
 * NF_ENOMEM; what users' own hooks return.
 */
NF_API NF_CHECKED nf_status nf_posterior_forward(const nf_model *m, nf_workspace *ws, const nf_noise *noise, size_t n,
                                                 const nf_real *mean, const nf_real *log_scale, const nf_real *ctx,
                                                 nf_real *z, double *log_q);
/**
 * Gradients of <gz, z> + <g_log_q, log_q> of the workspace's last nf_posterior_forward, whose noise is held.
 * @param gz [n x d].  @param g_log_q [n].  n is that of the forward call. Rows without a result are not read: their
 * gradients are 0, and they add nothing to g
 * @param g_mean, g_log_scale [n x d], g_ctx [n x n_ctx]: written; NULL: not wanted
 * @param g nf_model_gradient_size(m) numbers, +=; NULL: not wanted. Pull back once a step: nf_model_pull_gradient
 * @return NF_EARG (no such forward call before), NF_EUNSUPPORTED (a mixture); else as nf_posterior_forward().
 */
NF_API NF_CHECKED nf_status nf_posterior_backward(const nf_model *m, nf_workspace *ws, const nf_real *gz,
                                                  const nf_real *g_log_q, nf_real *g_mean, nf_real *g_log_scale,
                                                  nf_real *g_ctx, nf_real *g);

/* ---- VAEs ---- */

/** p(x | z). */
typedef enum nf_likelihood {
    NF_BERNOULLI, /**< the decoder's rows are logits */
    NF_GAUSSIAN   /**< the decoder's rows are the means, then the log-scales: 2 x_dim rows */
} nf_likelihood;

/**
 * A VAE with prior N(0, I): encoder(x) gives the posterior's context (means, log-scales, the flow's context),
 * decoder(z) the likelihood's parameters. Consumes its three parts. encoder: x_dim -> posterior's n_ctx; posterior:
 * nf_posterior(z_dim, flow) or any nf_dist with context; decoder: z_dim -> x_dim (Bernoulli) or 2 x_dim (Gaussian).
 * @return NULL on NF_EARG (no such likelihood), NF_EDIM (message with both shapes), NF_ENOMEM.
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
    nf_schedule joint; /**< beta_t on log p(x, z): the paper's annealing */
    nf_schedule kl;    /**< weight on log q(z) - log p(z): KL warm-up */
} nf_vae_options;

/**
 * loss = kl_t (log q(z|x) - beta_t log p(z)) - beta_t log p(x|z), one z a row: -ELBO at weights 1.
 * Terms: "log_px", "kl" (log q(z|x) - log p(z)), both unweighted. `m` must be of a VAE; borrowed, as is what `data`
 * points to. Context of the data is not read. A source that fails ends a step, see nf_source.
 * @return NULL on NF_EARG (NULL, a model of no VAE, data that nf_minibatches_new() refuses), NF_EDIM (columns that are
 * not the encoder's rows), NF_ENOMEM.
 */
NF_API nf_objective *nf_vae_elbo(nf_model *m, const nf_data *data, const nf_vae_options *options);

/** Means over the rows of a data set, in nats. */
typedef struct nf_vae_scores {
    double elbo;      /**< mean ELBO, over all `samples` */
    double elbo_se;   /**< its standard error over rows */
    double kl;        /**< mean of log q(z|x) - log p(z) */
    double log_px;    /**< mean log p(x), estimated by importance sampling with `samples` draws a row */
    double log_px_se; /**< its standard error over rows */
    size_t failed;    /**< rows that have no finite score: not in the means, which are NaN where no row has one */
} nf_vae_scores;

/**
 * Scores rows: log p(x) ~ log mean_k p(x, z_k) / q(z_k | x), z_k ~ q, by a streaming log-sum-exp (constant memory in
 * k).
 * @param progress called with rows done so far, from the calling thread; NULL: not. Anything but 0 stops: NF_ESTOP
 * @return NF_EARG (also samples 0), NF_EDIM (columns that are not the encoder's rows), NF_ESTOP, NF_ENOMEM; what users'
 * own hooks and a source of the data return. `scores` is written on NF_OK only.
 */
NF_API NF_CHECKED nf_status nf_vae_score(const nf_model *m, nf_workspace *ws, const nf_data *data, size_t samples,
                                         uint64_t seed, int (*progress)(void *user, size_t done), void *user,
                                         nf_vae_scores *scores);
/**
 * Likelihood means E[x | z] for z [n x z_dim]: x [n x x_dim]. z NULL: z is drawn from the prior by `noise`.
 * @return NF_EARG (a model of no VAE, n 0, `z` and `noise` NULL), NF_ENOMEM; what users' own hooks return.
 */
NF_API NF_CHECKED nf_status nf_vae_decode(const nf_model *m, nf_workspace *ws, const nf_noise *noise, size_t n,
                                          const nf_real *z, nf_real *x);
/**
 * z ~ q(z | x): x [n x x_dim], z [n x z_dim], log_q [n] or NULL.
 * @return NF_EARG (a model of no VAE, n 0, `noise` NULL), NF_ENOMEM; what users' own hooks return.
 */
NF_API NF_CHECKED nf_status nf_vae_encode(const nf_model *m, nf_workspace *ws, const nf_noise *noise, size_t n,
                                          const nf_real *x, nf_real *z, double *log_q);

NF_END_DECLS
#endif
