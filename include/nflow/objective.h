/**
 * @file objective.h
 * Objectives: a loss to be minimised and its gradient in a model's parameters.
 *
 * A step of n samples is cut into tiles. A thread takes a tile forward, through the loss, and backward. Gradients are
 * summed in shards. The number of shards depends on n and on the parameters alone, and the shards are added by a fixed
 * binary tree. Results are therefore equal bit for bit for any number of threads.
 */
#ifndef NFLOW_OBJECTIVE_H
#define NFLOW_OBJECTIVE_H
#include <nflow/data.h>
#include <nflow/model.h>
#include <nflow/target.h>
NF_BEGIN_DECLS

typedef struct nf_objective nf_objective; /**< a loss over batches */

enum { NF_MAX_TERMS = 4 }; /**< parts of a loss that are reported beside it */

/**
 * What an objective adds up over the samples of a step. These are sums, all in double; the library divides them by the
 * number of accepted samples.
 */
typedef struct nf_sums {
    double loss;               /**< sum over samples */
    double term[NF_MAX_TERMS]; /**< sums of the parts, as nf_objective_type.terms names them */
    double worst_log_det;      /**< the largest |log-det| of the step (a maximum, not a sum) */
    size_t rejected;           /**< draws that the target rejected */
    size_t failed; /**< samples left out because they have no result; the library counts them, see nf_leave_out() */
} nf_sums;

/**
 * A step: which noise, and how many samples. One call computes samples first .. first + n - 1 of a step of `total`
 * samples. These are all samples (first 0, n = total) or one rank's share, see nf_ranks.
 */
typedef struct nf_step {
    uint64_t seed; /**< of the noise */
    uint64_t step; /**< of the noise */
    size_t first;  /**< the first sample that is computed here */
    size_t n;      /**< samples that are computed here */
    size_t total;  /**< samples of the whole step: nf_objective_batch() */
    bool gradient; /**< false: the loss alone */
} nf_step;

/** The table of an objective type. */
typedef struct nf_objective_type {
    size_t abi;                      /**< sizeof(nf_objective_type); a smaller table is completed, see nf_part */
    const char *name;                /**< for reports */
    const char *terms[NF_MAX_TERMS]; /**< names of nf_sums.term, NULL past the last */
    /** Called once a step, by one thread, before any tile: for shuffles and schedules. May be NULL. */
    nf_status (*begin)(void *self, const nf_step *step);
    /**
     * Computes a tile, samples first .. first + p->n - 1 of the whole step (or those of them that p->noise.column
     * names), up to what `gather` needs. *saved is passed to backward. p is the pass of the whole bound object. May be
     * NULL: then backward does everything. The hook leaves out a sample that has no result by nf_leave_out(), after
     * which the library calls the hook again.
     */
    nf_status (*forward)(void *self, const nf_pass *p, size_t first, void **saved);
    /**
     * Called once a step by one thread, after forward of all tiles and before backward of any, for all samples that are
     * computed here, step->first .. step->first + step->n - 1. It is for targets that are not thread-safe. NULL: a
     * tile's backward follows its forward at once.
     */
    nf_status (*gather)(void *self, const nf_step *step);
    /**
     * Gets each tile again. It adds to `sums` and, unless g is NULL, adds the gradient of the SUM of losses to g. Here,
     * too, samples can be left out before anything is added; forward is then run again as well.
     */
    nf_status (*backward)(void *self, const nf_pass *p, size_t first, void *saved, nf_sums *sums, const nf_grad *g);
    /** Releases self. */
    void (*destroy)(void *self);
    unsigned internal; /**< the library's own: 0 */
} nf_objective_type;

/** A new objective over `model` (borrowed), with `n` samples a step. It owns `self`, also on failure. */
NF_API nf_objective *nf_objective_new(const nf_objective_type *type, nf_model *model, size_t n, void *self);
/** Releases the objective, but not its model, target or data. NULL is allowed. */
NF_API void nf_objective_free(nf_objective *o);
/** The objective's model. */
NF_API nf_model *nf_objective_model(const nf_objective *o);
/** Samples a step. */
NF_API size_t nf_objective_batch(const nf_objective *o);
/** Its type. */
NF_API const nf_objective_type *nf_objective_get_type(const nf_objective *o);

/** The result of one step: means over the accepted samples, which are those that neither failed nor were rejected. */
typedef struct nf_step_report {
    double loss;               /**< mean loss; NaN if there is no accepted sample */
    double term[NF_MAX_TERMS]; /**< means of the parts */
    double grad_norm;          /**< Euclidean norm of the mean gradient, before clipping */
    double worst_log_det;      /**< the largest |log-det| */
    size_t n;                  /**< samples drawn */
    size_t rejected;           /**< samples the target rejected */
    size_t failed;             /**< samples without a finite result */
} nf_step_report;

/** The loss of a step, without its gradient. `ws` NULL: a temporary workspace. */
NF_API NF_CHECKED nf_status nf_objective_value(nf_objective *o, nf_workspace *ws, uint64_t seed, uint64_t step,
                                               nf_step_report *report);
/** The loss and the mean gradient in theta, g_theta [n_params], which is overwritten. */
NF_API NF_CHECKED nf_status nf_objective_gradient(nf_objective *o, nf_workspace *ws, uint64_t seed, uint64_t step,
                                                  nf_step_report *report, nf_real *g_theta);

/* ---- a step that several ranks share ---- */

/**
 * What the ranks of a data-parallel step add up, in place. All ranks have arrays of the same lengths, and all have the
 * same numbers afterwards. If the sums over ranks are added by a binary tree in the order of ranks, ((0 + 1) + (2 + 3))
 * + ..., as recursive doubling does it, they have the same bits as a step of one rank. In another order they are equal
 * up to rounding.
 */
typedef struct nf_reduction {
    nf_real *gradient; /**< [n_gradient] to be summed: n_params + n_prep numbers */
    size_t n_gradient; /**< length */
    double *sums;      /**< [n_sums] to be summed: losses, counts, statistics of batch normalisation, flags */
    size_t n_sums;     /**< length */
    double *maxima;    /**< [n_maxima], of each number the largest over all ranks; none is NaN */
    size_t n_maxima;   /**< length */
} nf_reduction;

/**
 * One of several processes (or threads) that make the steps of one fit together. Each rank has a model, an objective
 * and data of its own, which are equal in all ranks. Each computes its share of every step's samples. Then the sums go
 * through `all_reduce`, and every rank moves its own parameters in the same way. Tiles, shards and the noise's sample
 * numbers follow from the whole step. The results are therefore those of a single process, bit for bit (on equal
 * processors), for any number of ranks.
 */
typedef struct nf_ranks {
    size_t rank;    /**< this one, 0 .. n_ranks - 1 */
    size_t n_ranks; /**< a power of two, at most the shards of a step: see nf_objective_share() */
    /**
     * Adds up `r` over all ranks: by MPI_Allreduce, say. On every rank the library calls it once a step, from the
     * thread that called the library. A rank that cannot continue (because of an error, or a callback that stops) makes
     * one more call, with a flag among the sums, and all ranks end with it. If the result is not NF_OK, it ends this
     * rank's computation with that status.
     */
    nf_status (*all_reduce)(void *user, const nf_reduction *r);
    void *user; /**< passed to all_reduce */
} nf_ranks;

/**
 * A rank's share of a step: samples *first .. *first + *n - 1.
 * @return NF_EARG (NULL; a rank that is not below n_ranks; a number of ranks that is no power of two, or is larger than
 * the number of shards of the objective's step, which the message names).
 */
NF_API NF_CHECKED nf_status nf_objective_share(const nf_objective *o, size_t rank, size_t n_ranks, size_t *first,
                                               size_t *n);
/**
 * nf_objective_gradient() computed by several ranks together: each rank calls this function, and each gets the report
 * and the gradient of the whole step. `ranks` NULL: one process alone.
 * @return as nf_objective_gradient(); NF_EARG as nf_objective_share(); what all_reduce returns; if another rank failed,
 * that rank's status.
 */
NF_API NF_CHECKED nf_status nf_objective_rank_gradient(nf_objective *o, nf_workspace *ws, const nf_ranks *ranks,
                                                       uint64_t seed, uint64_t step, nf_step_report *report,
                                                       nf_real *g_theta);

/* ---- schedules ---- */

/** Shapes of a schedule v(t), where t is the step, counted from 0. */
typedef enum nf_schedule_kind {
    NF_CONSTANT, /**< from (1 if from and to are both 0) */
    NF_LINEAR,   /**< from -> to over `steps`, then to. The paper's beta_t: from 0.01, to 1, steps 9900 */
    NF_COSINE,   /**< from -> to along half a cosine over `steps`, then to */
    NF_STAIRS,   /**< from * to^floor(t / steps) */
    NF_CUSTOM    /**< call(user, t) */
} nf_schedule_kind;

/** A number that depends on the step. All zeros: the constant 1. */
typedef struct nf_schedule {
    nf_schedule_kind kind; /**< shape */
    double from;           /**< a value, see the kinds */
    double to;             /**< a value, see the kinds */
    uint64_t steps;        /**< length, see the kinds */
    uint64_t warmup;       /**< before all that, so many steps of a linear rise, from v(0) / warmup to v(0) */
    double (*call)(void *user, uint64_t step); /**< for NF_CUSTOM */
    void *user;                                /**< passed to call */
} nf_schedule;

/** The value at step t. */
NF_API double nf_schedule_value(const nf_schedule *s, uint64_t t);

/* ---- objectives ---- */

/** Options of nf_elbo. */
typedef struct nf_elbo_options {
    size_t draws;      /**< samples a step, 0: 100 */
    nf_schedule joint; /**< beta_t, the weight of log p(x): Rezende & Mohamed's annealing */
    nf_schedule kl;    /**< kl_t, the weight of log q: warm-up of the entropy term */
} nf_elbo_options;

/**
 * Variational inference: loss = kl_t log q(x) - beta_t log p(x), x ~ q, with the reparameterised gradient. With both
 * weights 1, the mean loss is -ELBO. Rejected draws are left out of means and gradients. Terms: "log_q", "log_p" (both
 * without kl_t and beta_t). `model` must be of a distribution of the target's dimension. Model and target are borrowed.
 *
 * Mixtures are sampled component by component: draw i comes from component (i + a random offset) mod K and has the
 * weight K w_k, which multiplies its loss and terms. Means and gradients, also those in the weights w, are unbiased for
 * any number of draws. Their variance is least if the number of draws is a multiple of K. (Means are still sums divided
 * by the number of accepted draws.)
 * @return NULL on NF_EARG (NULL, a model of no distribution), NF_EDIM (dimensions that differ, a model that reads a
 * context), NF_ENOMEM.
 */
NF_API nf_objective *nf_elbo(nf_model *model, const nf_target *target, const nf_elbo_options *options);

/** Options of nf_maximum_likelihood. */
typedef struct nf_likelihood_options {
    size_t batch; /**< rows a step, shuffled anew each epoch; 0: 100; data->n or more: all rows, in order */
} nf_likelihood_options;

/**
 * Maximum likelihood: loss = -log q(x) over minibatches. Terms: "log_p". Rows are shuffled anew each epoch, from the
 * seed. If an epoch does not divide into batches, the rest of its rows are the first rows of the batch that continues
 * with the next epoch (see nf_minibatches). `model` and what `data` points to are borrowed. A source that fails ends
 * the step, see nf_source.
 * @return NULL on NF_EARG (NULL, a model of no distribution, data that nf_minibatches_new() refuses), NF_EDIM (data or
 * context whose number of columns is not the model's), NF_ENOMEM.
 */
NF_API nf_objective *nf_maximum_likelihood(nf_model *model, const nf_data *data, const nf_likelihood_options *options);

NF_END_DECLS
#endif
