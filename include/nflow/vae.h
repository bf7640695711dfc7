/**
 * @file vae.h
 * Flow-VAEs, and the posterior plug-in for other people's VAEs.
 *
 * The plug-in is two calls between somebody else's encoder and decoder, and a workspace that keeps the tape between
 * them; examples/posterior_operator.c is an operator to copy:
 *
 *     encoder: x -> mean, log_scale, ctx       nf_posterior_forward: -> z, log q(z)    decoder: z -> loss
 *     encoder <- g_mean, g_log_scale, g_ctx    nf_posterior_backward: <- gz, g_log_q   decoder: gz
 *
 * A workspace keeps the tape of its last forward call, so a program with two posteriors under one loss has two
 * workspaces. Sums of log-densities are double in both precisions, and so are log q and its cotangent. A program that
 * keeps the parameters in an array of its own says by nf_model_rebind() where they are.
 *
 * Threads that share a batch each call with a workspace of their own, and share the model. Noise is named by the
 * number of a row, not by the call: a thread whose first row is row k of the batch adds k to nf_noise.first_sample.
 * Draws and rows of gradients are then equal bit for bit to those of one call for all rows. Each thread has a `g` and
 * `stats` of its own, which the caller adds up before nf_model_pull_gradient() and nf_model_end_step().
 */
#ifndef NFLOW_VAE_H
#define NFLOW_VAE_H
#include <nflow/data.h>
#include <nflow/objective.h>
#include <nflow/schedule.h>
NF_BEGIN_DECLS

/* ---- the plug-in ---- */

/**
 * What nf_posterior_forward() reads and writes. Row i of an array begins i times its stride after the pointer, counted
 * in numbers; stride 0: the rows are next to each other. So one layer of an encoder may give all three parts in one
 * array [n x w], w = d + d + n_ctx:
 *
 *     {.n = n, .mean = a, .log_scale = a + d, .ctx = a + 2 * d,
 *      .mean_stride = w, .log_scale_stride = w, .ctx_stride = w, .z = z, .log_q = log_q}
 *
 * n may change from call to call: memory is taken for the largest and kept. z and log_q may not overlap what is read.
 */
typedef struct nf_posterior_rows {
    size_t n;                 /**< rows, at least 1 */
    const nf_real *mean;      /**< [n x d] */
    const nf_real *log_scale; /**< [n x d], logarithms of the standard deviations */
    const nf_real *ctx;       /**< [n x n_ctx of the flow]; not read if that is 0 */
    nf_real *z;               /**< [n x d], written: the draws */
    double *log_q;            /**< [n], written: log q(z), in nats. With NF_EVAL also NULL: not wanted */
    size_t mean_stride;       /**< of `mean`, 0: d */
    size_t log_scale_stride;  /**< of `log_scale`, 0: d */
    size_t ctx_stride;        /**< of `ctx`, 0: the flow's n_ctx */
    size_t z_stride;          /**< of `z`, 0: d. Numbers between the rows are not written */
    /**
     * [n], written: in NF_TRAIN the sum of the penalties of the flow's layers (nf_pass.penalty), to be added to the
     * loss of each row; in NF_EVAL zeros. NULL: not wanted
     */
    double *penalty;
} nf_posterior_rows;

/**
 * Draws z ~ q(z | mean, log_scale, ctx) for the outputs of somebody else's encoder. A row that has no result (its mean
 * is NaN, say) is NaN in z and log_q, and nf_workspace_failed() counts it. The other rows are what they would be
 * without it.
 *
 * In NF_TRAIN the workspace keeps the tape for nf_posterior_backward(), dropout in the flow's nets is on, and samples
 * are counted on the way back. In NF_EVAL there is no tape, no dropout and no counting: the draws are those of
 * nf_sample(). Layers with moving statistics (nf_batch_norm) use those of earlier steps in both modes.
 * @param m     a model of nf_posterior(d, flow) or nf_diagonal_posterior(d); threads may share it
 * @param ws    this thread's workspace
 * @param noise names the draws: that of row i is sample noise->first_sample + i of (seed, step). Give each step of
 * training a `step` of its own
 * @param rows  what is read and where results go. The struct is not kept, nor are its arrays
 * @return NF_EARG (NULL where something is needed, n 0, no such mode), NF_EDIM (a model of fewer than 2 d features of
 * context, a stride less than the numbers of a row), NF_ESTALE (see nf_model_update()), NF_ENOMEM; what users' own
 * hooks return. After an error there is no tape.
 */
NF_API NF_CHECKED nf_status nf_posterior_forward(const nf_model *m, nf_workspace *ws, nf_mode mode,
                                                 const nf_noise *noise, const nf_posterior_rows *rows);

/** Which gradients nf_posterior_backward() adds to what is there, and which it writes. */
typedef enum nf_accumulate {
    NF_ADD_TO_G,   /**< `g` is added to; the rows' gradients are written: as nf_transform_vjp() does */
    NF_ADD_TO_ALL, /**< all are added to: for libraries whose arrays may get gradients from several sides */
    NF_ADD_TO_NONE /**< all are written, so `g` need not be cleared */
} nf_accumulate;

/** What nf_posterior_backward() reads and writes. Strides are as in nf_posterior_rows. */
typedef struct nf_posterior_gradients {
    size_t n;                  /**< rows: those of the forward call */
    const nf_real *gz;         /**< [n x d], d loss / d z */
    const double *g_log_q;     /**< [n], d loss / d log q(z): for a mean of -ELBO, 1 / n in each row */
    nf_real *g_mean;           /**< [n x d]; NULL: not wanted */
    nf_real *g_log_scale;      /**< [n x d]; NULL: not wanted */
    nf_real *g_ctx;            /**< [n x n_ctx of the flow]; NULL: not wanted */
    nf_real *g;                /**< nf_model_gradient_size(m) numbers; NULL: not wanted. Once a step, pull it back by
                                    nf_model_pull_gradient(), which adds it to the parameters' gradient */
    double *stats;             /**< [n_state] sums over the rows, always added to; NULL: not wanted. Layers with moving
                                    statistics count here what they see in their inverse direction. Once a step,
                                    nf_model_end_step() turns them into new state */
    nf_accumulate accumulate;  /**< whether gradients are added or written */
    size_t gz_stride;          /**< of `gz`, 0: d */
    size_t g_mean_stride;      /**< of `g_mean`, 0: d. Numbers between the rows are not touched */
    size_t g_log_scale_stride; /**< of `g_log_scale`, 0: d */
    size_t g_ctx_stride;       /**< of `g_ctx`, 0: the flow's n_ctx */
    const double *g_penalty;   /**< [n], d loss / d penalty; NULL: zeros. Only if the forward call gave `penalty` */
} nf_posterior_gradients;

/**
 * Gradients of <gz, z> + <g_log_q, log_q> + <g_penalty, penalty> of the workspace's last nf_posterior_forward(), with
 * its noise constant. The same units are dropped. Cotangents of rows without a result are not read: the gradients of
 * such rows are 0, and they add nothing to g and stats. The call may be made more than once for the same tape.
 * @param gradients what is read and where results go; not kept. The arrays may not overlap those that are read
 * @return NF_EARG (NULL where something is needed; the workspace's last forward call has failed, was in NF_EVAL, of
 * another model, or without `penalty` where `g_penalty` is given), NF_EDIM (another n, a stride less than the numbers
 * of a row), NF_ESTALE (the model's numbers have changed since the forward call or since nf_model_update()),
 * NF_EUNSUPPORTED (a mixture), NF_ENOMEM; what users' own hooks return. NF_EARG, NF_EDIM and NF_ESTALE leave the
 * gradients as they were; after other errors they are not to be used.
 */
NF_API NF_CHECKED nf_status nf_posterior_backward(const nf_model *m, nf_workspace *ws,
                                                  const nf_posterior_gradients *gradients);

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
 * "log_px", "kl" (log q(z|x) - log p(z)), both without weights. In training the loss has the penalties of the
 * posterior's layers, too (nf_pass.penalty, nf_step_report.penalty). `m` must be of a VAE. It is borrowed, and so is
 * what `data` points to. The data may have no context, and with NF_BERNOULLI an array x must be in [0, 1]. A source
 * that fails ends the step, see nf_source.
 * @return NULL on NF_EARG (NULL, a model of no VAE, data that nf_minibatches_new() refuses), NF_EDIM (a number of
 * columns that is not the encoder's number of features), NF_ENOMEM.
 */
NF_API nf_objective *nf_vae_elbo(nf_model *m, const nf_data *data, const nf_vae_options *options);

/** Means over the rows of a data set, in nats. */
typedef struct nf_vae_scores {
    double elbo;    /**< mean ELBO, estimated with all `samples` draws of each row */
    double elbo_se; /**< its standard error over rows */
    double kl;      /**< mean of log q(z|x) - log p(z) */
    /**
     * Mean log p(x), estimated by importance sampling with `samples` draws a row. With a posterior whose log q is
     * itself an estimate (NF_STOCHASTIC) it is too large in the mean: the estimate's noise stands in the weights'
     * exponents.
     */
    double log_px;
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
