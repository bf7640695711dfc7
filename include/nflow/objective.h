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
#include <nflow/model.h>
NF_BEGIN_DECLS

typedef struct nf_objective nf_objective; /**< a loss over batches */

enum { NF_MAX_TERMS = 4 }; /**< parts of a loss that are reported beside it */

/** How the losses of single samples spread. */
typedef struct nf_spread {
    double n;            /**< samples counted */
    double sum;          /**< of their losses */
    double squares;      /**< of their losses */
    double worst;        /**< the largest loss; 0 if n is 0 */
    double worst_sample; /**< which sample of the step has it; of equal losses, the first */
} nf_spread;

/**
 * Counts the loss of sample number `sample` of a step. An objective over rows of data calls this function for each
 * sample, beside adding to nf_sums.loss, so that a single row that spoils the mean is found. Its `means` hook replaces
 * report->worst_row, which is the sample's number, by that of the row. `s` must not be NULL.
 */
NF_API void nf_add_to_spread(nf_spread *s, size_t sample, double loss);

/**
 * What an objective adds up over the samples of a step. These are sums, all in double; the library divides them by the
 * number of accepted samples.
 */
typedef struct nf_sums {
    double loss;               /**< sum over samples */
    double term[NF_MAX_TERMS]; /**< sums of the parts, as nf_objective_type.terms names them */
    double worst_log_det;      /**< the largest |log-det| of the step (a maximum, not a sum) */
    double rejected;           /**< draws that the target rejected */
    double failed;    /**< samples left out because they have no result; the library counts them, see nf_leave_out() */
    nf_spread spread; /**< the single samples' losses, for objectives over rows of data: nf_add_to_spread() */
    /**
     * Sum of the layers' penalties (nf_pass.penalty), a part of `loss` that no term has. It is 0 in the running means
     * of a fit, whose loss has the penalties.
     */
    double penalty;
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

/** The result of one step: means over the accepted samples, which are those that neither failed nor were rejected. */
typedef struct nf_step_report {
    double loss;               /**< mean loss; NaN if there is no accepted sample */
    double term[NF_MAX_TERMS]; /**< means of the parts */
    double grad_norm;          /**< Euclidean norm of the mean gradient, before clipping */
    double worst_log_det;      /**< the largest |log-det| */
    size_t n;                  /**< samples drawn */
    size_t rejected;           /**< samples the target rejected */
    size_t failed;             /**< samples without a finite result */
    double worst_loss;         /**< the largest loss of a row; NaN if the objective is not over rows of data */
    size_t worst_row;          /**< the number of this row in the data */
    double worst_share;        /**< (worst_loss - m)^2 / sum (loss_i - m)^2, with m the mean of the rows' losses */
    /**
     * One row dominates the mean, which then says little about the others. That is so if this row has more than half of
     * the spread (worst_share), is worse than the mean of the others by 20 of their standard deviations, and worsens
     * the mean by more than 0.01. Rows of a density that fits are never that far out. Each row counts once, whatever
     * its weight.
     */
    bool dominated;
    /**
     * The mean of the layers' penalties, which is a part of `loss` and of no term: loss - penalty is the loss without
     * them. 0 outside training, where nobody has penalties.
     */
    double penalty;
} nf_step_report;

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
    /**
     * Turns the sums of a step into its report. Called by one thread, once a step when the sums over all tiles (and
     * ranks) are known, and once for the running means of a fit, whose sums are averages over steps. *report has
     * already the means over the accepted samples; the hook may change `loss`, `term` and `penalty`. NULL: they stay.
     * @return the number by which the sum of gradients is divided to give the gradient of report->loss. Without the
     * hook this is the number of accepted samples.
     */
    double (*means)(void *self, const nf_step *step, const nf_sums *sums, nf_step_report *report);
    /**
     * What the objective can say about samples that were rejected or failed, for the message of a fit that ends in
     * NF_ENOTFINITE: "" if nothing. Owned by the objective. May be NULL.
     */
    const char *(*explain)(void *self);
} nf_objective_type;

/** A new objective over `model` (borrowed), with `n` samples a step. It owns `self`, also on failure. */
NF_API nf_objective *nf_objective_new(const nf_objective_type *type, nf_model *model, size_t n, void *self);
/** Releases the objective, but not its model, target or data. NULL is allowed. */
NF_API void nf_objective_free(nf_objective *o);
/** The objective's model. */
NF_API nf_model *nf_objective_model(const nf_objective *o);
/** Samples a step. */
NF_API size_t nf_objective_batch(const nf_objective *o);
/** The table of its type, borrowed; complete, also where the caller gave a smaller one. NULL if `o` is NULL. */
NF_API const nf_objective_type *nf_objective_table(const nf_objective *o);

/**
 * The loss of a step, without its gradient. `ws` NULL: a temporary workspace.
 * @return NF_EARG, NF_ESTALE (see nf_model_update()), NF_ENOMEM; what the objective's and other hooks return.
 */
NF_API NF_CHECKED nf_status nf_objective_value(nf_objective *o, nf_workspace *ws, uint64_t seed, uint64_t step,
                                               nf_step_report *report);
/**
 * The loss and the mean gradient in theta, g_theta [n_params], which is overwritten. This is a step of training: layers
 * with moving statistics (nf_batch_norm) move the model's state, and the next call that reads the model then returns
 * NF_ESTALE unless nf_model_update() is called before.
 * @return as nf_objective_value().
 */
NF_API NF_CHECKED nf_status nf_objective_gradient(nf_objective *o, nf_workspace *ws, uint64_t seed, uint64_t step,
                                                  nf_step_report *report, nf_real *g_theta);

NF_END_DECLS
#endif
