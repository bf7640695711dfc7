/**
 * @file fit.h
 * Optimizers, and the one loop that minimises every objective.
 */
#ifndef NFLOW_FIT_H
#define NFLOW_FIT_H
#include <nflow/ranks.h>
#include <nflow/schedule.h>
NF_BEGIN_DECLS

enum { NF_MAX_SLOTS = 2 }; /**< how many numbers an optimizer may keep for each parameter */

/** Coefficients of a rule. Zero means the type's default; NF_ZERO (or any other negative number) means 0. */
typedef struct nf_optimizer_options {
    double momentum; /**< momentum, RMSProp: 0.9 and 0 by default */
    double beta1;    /**< Adam, Adamax: decay of the first moment, 0.9 */
    double beta2;    /**< Adam, Adamax: decay of the second moment, 0.999; RMSProp: of the squares, 0.99 */
    double epsilon;  /**< added to the root; 1e-8 */
} nf_optimizer_options;

/**
 * A rule that moves parameters. The table is public, so that users can write their own rules. One call of `update` gets
 * some of the parameters, since every thread updates its own share. A rule must therefore work elementwise.
 */
typedef struct nf_optimizer_type {
    size_t abi;                    /**< sizeof(nf_optimizer_type); a smaller table is completed, see nf_part */
    const char *name;              /**< for reports */
    size_t n_slots;                /**< numbers kept for each parameter, <= NF_MAX_SLOTS; zero at the start */
    nf_optimizer_options defaults; /**< used where the user's option is 0 */
    /** theta -= rate x direction(g). t counts the steps that moved parameters, from 1. slot[k] is [n]. */
    void (*update)(const nf_optimizer_options *o, double rate, uint64_t t, size_t n, const nf_real *g,
                   nf_real *const *slot, nf_real *theta);
} nf_optimizer_type;

NF_API const nf_optimizer_type *nf_sgd(void);      /**< theta -= rate g */
NF_API const nf_optimizer_type *nf_momentum(void); /**< v = momentum v + g; theta -= rate v */
NF_API const nf_optimizer_type *nf_rmsprop(void);  /**< Tieleman & Hinton 2012, with optional momentum */
NF_API const nf_optimizer_type *nf_adam(void);     /**< Kingma & Ba 2015, algorithm 1 */
NF_API const nf_optimizer_type *nf_adamax(void);   /**< Kingma & Ba 2015, algorithm 2 */

/** How far a fit is. The callback gets this. */
typedef struct nf_progress {
    uint64_t step;              /**< steps done */
    uint64_t steps;             /**< the number of steps at which the run ends */
    const nf_step_report *last; /**< the step that was just made */
    double loss;                /**< running mean of the loss (an exponential average over about 100 steps) */
    double validation;          /**< the last validation loss, NaN before the first */
    uint64_t skipped;           /**< bad steps: nothing was moved */
    double seconds;             /**< wall time since the fit began */
} nf_progress;

/** Why a fit ended. */
typedef enum nf_stop_reason {
    NF_STOP_STEPS,    /**< all steps have been made */
    NF_STOP_CALLBACK, /**< the callback stopped the run */
    NF_STOP_PATIENCE, /**< the last `patience` evaluations gave no better validation loss */
    NF_STOP_NOTFINITE /**< too many bad steps in a row */
} nf_stop_reason;

/** Warnings in a report, combined by OR. */
enum {
    NF_WARN_LOG_DET = 1u,  /**< a |log-det| was above 1000 + 20 per dimension: the flow is diverging */
    NF_WARN_SKIPPED = 2u,  /**< some steps were skipped */
    NF_WARN_REJECTED = 4u, /**< the target rejected some draws */
    NF_WARN_FAILED = 8u,   /**< some samples had no finite result and were left out */
    /** The target still rejected more than 1 % of the draws at the end (nf_fit_report.accepted). See nf_elbo(). */
    NF_WARN_SUPPORT = 16u,
    /**
     * One row of the data dominates the mean loss (nf_step_report.dominated), in the evaluation that gave the best
     * validation loss or, without validation, in one of the last 100 steps. nf_fit_report.worst_row says which. The row
     * may be wrong, or the flow may be far too steep there: bound its scales, or look at the row.
     */
    NF_WARN_SCORES = 32u
};

/** Options of nf_fit; zeros mean the defaults. */
typedef struct nf_fit_options {
    uint64_t steps;      /**< 0: 10000; NF_NONE: no step, only the evaluation at the end of a run */
    uint64_t first_step; /**< the number of the first step; to continue a fit */
    uint64_t seed;       /**< of the noise */
    size_t threads;      /**< 0: as many as OpenMP would use; see nf_workspace_new(). Results do not depend on it */
    const nf_optimizer_type *optimizer; /**< NULL: nf_adam() */
    nf_optimizer_options coefficients;  /**< of the optimizer */
    double rate;                        /**< learning rate, 0: 0.001 */
    nf_schedule schedule; /**< a factor of rate, not negative. NF_LINEAR and NF_COSINE may leave out `steps` */
    /**
     * Decoupled weight decay (Loshchilov & Hutter 2019): each step that moves the parameters first multiplies them by
     * 1 - rate x schedule x weight_decay. All parameters of the model shrink alike. Not negative; 0: none.
     */
    double weight_decay;
    double clip_norm;     /**< a gradient whose norm is larger is scaled to this norm; 0: never */
    size_t max_bad_steps; /**< so many bad steps in a row end the fit; 0: 100 */
    double max_failed;    /**< share of a step's samples that may fail, in (0, 1]; with more the step is bad. 0: 3/4;
                             NF_ZERO: none may */
    nf_objective *validation; /**< of the same model; evaluated every `validate_every` steps, borrowed; NULL: none */
    uint64_t validate_every;  /**< 0: 1000; NF_NONE: only when a run ends */
    /** The fit stops after so many evaluations in a row that are not better than the best one; 0: never. Needs
     *  `validation`. */
    size_t patience;
    /**
     * Called after every step. If it returns anything but 0, the run stops and keeps its results. It may call
     * nf_fitter_save(), but none of the fitter's other functions.
     */
    int (*callback)(void *user, const nf_progress *progress);
    void *user; /**< passed to callback */
    /**
     * Decay d of a moving average of the parameters, 0 <= d < 1; 0: no average. After the t-th step that moved the
     * parameters (t from 1), average = d_t average + (1 - d_t) theta, with d_t = min(d, (1 + t) / (10 + t)). The
     * average begins at the initial parameters; because of d_t the first steps have little weight in the end. With an
     * average, validation evaluates the averaged parameters, the best parameters that are kept are averaged ones, and
     * the model has averaged ones at the end. The state (statistics of batch normalisation) is not averaged.
     */
    double average;
    const char *checkpoint;    /**< file for checkpoints (nf_fitter_save()), also written when a run ends; NULL: none */
    uint64_t checkpoint_every; /**< steps between checkpoints; 0: validate_every; NF_NONE: one when a run ends */
    const nf_ranks *ranks; /**< set if this process is one of several that make the fit together; NULL: alone. Copied */
} nf_fit_options;

/** The result of a fit. */
typedef struct nf_fit_report {
    nf_stop_reason reason; /**< why it ended */
    uint64_t steps;        /**< steps made, skipped ones included */
    uint64_t skipped;      /**< bad steps: nothing was moved */
    uint64_t rejected;     /**< draws that the target rejected, over all steps */
    double accepted;       /**< share of draws that the target accepted: running mean at the end, like `loss` */
    uint64_t failed;       /**< samples that had no finite result and were left out, over all steps */
    double loss;           /**< running mean of the loss at the end, with the penalties of layers (nf_pass.penalty) */
    double best;           /**< best validation loss; without validation, best running mean */
    uint64_t best_step;    /**< the step after which `best` was found */
    uint64_t best_failed;  /**< failed samples of that validation; fewer are better, whatever the loss */
    double worst_log_det;  /**< the largest |log-det| of all steps */
    /**
     * The largest loss of a row; NaN if the objective is not over rows of data. With validation it is that of the best
     * evaluation. Without, it is that of the last step or, if a row dominated a step among the last 100, of that step.
     */
    double worst_loss;
    uint64_t worst_row; /**< the number of that row in its data */
    double worst_share; /**< its share of the spread, see nf_step_report.worst_share */
    unsigned warnings;  /**< NF_WARN_LOG_DET ... */
    double seconds;     /**< wall time */
    size_t bytes;       /**< memory of the workspace: the most that it has held */
} nf_fit_report;

/** A fit that can be interrupted, saved and continued. */
typedef struct nf_fitter nf_fitter;

/**
 * A new fit that starts from the numbers that the model has now. `o` and its model are borrowed, and so is what the
 * options point to, except `ranks`, which is copied.
 * @return NULL on NF_EARG (`o` NULL, options out of range, an invalid optimizer, ranks that do not fit the objective),
 * NF_ESTALE (see nf_model_update()), NF_ENOMEM.
 */
NF_API nf_fitter *nf_fitter_new(nf_objective *o, const nf_fit_options *options);
/**
 * Makes `steps` more steps. 0: all that are left of options->steps. (With another number the fit may go beyond
 * options->steps.)
 *
 * A sample has no finite result if a layer could not compute it, or if its loss or its target's gradient is not finite.
 * Such a sample is left out of the step and counted. A step is bad if too many samples failed (max_failed), or if its
 * mean loss or its gradient is nevertheless not finite. A bad step moves nothing and is counted; max_bad_steps of them
 * in a row end the fit.
 *
 * When the run ends, the model has what a fit that ended here would leave, prepared for NF_EVAL:
 * - with `validation`, the parameters of the best evaluation (the last evaluation is made here, whatever validate_every
 *   says);
 * - without `validation`, the last parameters, or their moving average;
 * - if the fit ends in NF_STOP_NOTFINITE without `validation`, the parameters of the best running mean among every
 *   validate_every-th step (if there was one).
 *
 * The fitter keeps the parameters that it trains, so the next run continues as if there had been no end: two runs of
 * 100 steps equal one of 200 bit for bit, also in their reports (except for times). If the caller changes the model's
 * numbers between runs, the next run overwrites them.
 *
 * A callback that stops ends the run, and the next run continues. A fit that ended in NF_STOP_PATIENCE or
 * NF_STOP_NOTFINITE makes no more steps. With `ranks`, every rank must call this function with the same number. Only
 * rank 0 writes checkpoints, and every rank evaluates the whole of `validation`. If one rank stops or fails, all ranks
 * end, and the others return its status.
 * @param report of all steps so far; may be NULL
 * @return NF_OK also if the fit stopped early (see the report's reason), but NF_ENOTFINITE for NF_STOP_NOTFINITE; also
 * what an objective or nf_fitter_save() returns. The model is prepared and usable in every case.
 */
NF_API NF_CHECKED nf_status nf_fitter_run(nf_fitter *f, uint64_t steps, nf_fit_report *report);
/**
 * Writes a checkpoint: everything on which the steps to come depend. A fit that loads the checkpoint continues bit for
 * bit. Like nf_save(), this replaces the file completely or not at all, even if the process is killed.
 * @return NF_EARG, NF_EIO, NF_ENOMEM; NF_EUNSUPPORTED in a build without Jansson.
 */
NF_API NF_CHECKED nf_status nf_fitter_save(const nf_fitter *f, const char *path);
/**
 * Goes back (or forward) to a checkpoint. The file gives the parameters and state, the optimizer's numbers and
 * coefficients, the best parameters, the moving average and all counts. Of the options it gives first_step, seed, rate,
 * schedule, clip_norm, weight_decay, max_bad_steps, max_failed, validate_every, patience and average. The caller's
 * options remain for steps (of the whole fit, including those of the checkpoint), threads, validation, callback,
 * checkpoint, checkpoint_every and ranks. The objective with its data and batch is also the caller's. If the
 * checkpoint's schedule is of kind NF_CUSTOM, the fitter's options must have one too, whose function is then called.
 * After loading, the model has the best parameters (with validation) or those of the checkpoint, averaged ones if there
 * are any.
 * @return NF_EARG (a checkpoint of another model, optimizer or precision, or one with a custom schedule if the fitter
 * has none; the message says what differs), NF_EFORMAT (any damage: a checksum covers the whole file), NF_EIO,
 * NF_ENOMEM; NF_EUNSUPPORTED in a build without Jansson. After an error the fitter and the model are as they were.
 */
NF_API NF_CHECKED nf_status nf_fitter_load(nf_fitter *f, const char *path);
/** Releases the fitter. The model keeps the numbers that the last run left. NULL is allowed. */
NF_API void nf_fitter_free(nf_fitter *f);

/**
 * Minimises an objective over its model's parameters. It calls nf_fitter_new(), makes the steps up to options->steps by
 * nf_fitter_run(), and calls nf_fitter_free().
 * @param report may be NULL
 * @return as these functions: NF_OK also if the fit stopped early (see the report's reason), but NF_ENOTFINITE for
 * NF_STOP_NOTFINITE; also what an objective returns. Once the fit has begun, the model is prepared and usable in every
 * case.
 */
NF_API NF_CHECKED nf_status nf_fit(nf_objective *o, const nf_fit_options *options, nf_fit_report *report);

NF_END_DECLS
#endif
