/**
 * @file fit.h
 * Optimizers and the one loop that drives every objective.
 */
#ifndef NFLOW_FIT_H
#define NFLOW_FIT_H
#include <nflow/objective.h>
NF_BEGIN_DECLS

enum { NF_MAX_SLOTS = 2 }; /**< numbers an optimizer may keep per parameter */

/** Coefficients of a rule; zero means the type's default, negative means 0. */
typedef struct nf_optimizer_options {
    double momentum; /**< momentum, RMSProp: 0.9 and 0 by default */
    double beta1;    /**< Adam, Adamax: decay of the first moment, 0.9 */
    double beta2;    /**< Adam, Adamax: decay of the second moment, 0.999; RMSProp: of the squares, 0.99 */
    double epsilon;  /**< added to the root; 1e-8 */
} nf_optimizer_options;

/**
 * A rule that moves parameters: a public table, so that users can write their own. A call sees some of the parameters;
 * every thread updates its share, so a rule must work elementwise.
 */
typedef struct nf_optimizer_type {
    size_t abi;                    /**< sizeof(nf_optimizer_type); a smaller table is completed, see nf_part */
    const char *name;              /**< for reports */
    size_t n_slots;                /**< numbers per parameter, <= NF_MAX_SLOTS, zero at the start */
    nf_optimizer_options defaults; /**< used where the user's option is 0 */
    /** theta -= rate x direction(g); t counts successful steps from 1; slot[k] [n]. */
    void (*update)(const nf_optimizer_options *o, double rate, uint64_t t, size_t n, const nf_real *g,
                   nf_real *const *slot, nf_real *theta);
} nf_optimizer_type;

NF_API const nf_optimizer_type *nf_sgd(void);      /**< theta -= rate g */
NF_API const nf_optimizer_type *nf_momentum(void); /**< v = momentum v + g; theta -= rate v */
NF_API const nf_optimizer_type *nf_rmsprop(void);  /**< Tieleman & Hinton 2012, with optional momentum */
NF_API const nf_optimizer_type *nf_adam(void);     /**< Kingma & Ba 2015, algorithm 1 */
NF_API const nf_optimizer_type *nf_adamax(void);   /**< Kingma & Ba 2015, algorithm 2 */

/** How a fit goes, handed to the callback. */
typedef struct nf_progress {
    uint64_t step;              /**< steps done */
    uint64_t steps;             /**< steps that the run goes up to */
    const nf_step_report *last; /**< the step just made */
    double loss;                /**< running mean of the loss (an exponential average over about 100 steps) */
    double validation;          /**< last validation loss, NaN before the first */
    uint64_t skipped;           /**< steps skipped for non-finite numbers */
    double seconds;             /**< since the start */
} nf_progress;

/** Why a fit ended. */
typedef enum nf_stop_reason {
    NF_STOP_STEPS,    /**< all steps were made */
    NF_STOP_CALLBACK, /**< the callback asked for it */
    NF_STOP_PATIENCE, /**< no better validation loss for `patience` evaluations */
    NF_STOP_NOTFINITE /**< too many non-finite steps in a row */
} nf_stop_reason;

/** Warnings in a report, ORed. */
enum {
    NF_WARN_LOG_DET = 1u,  /**< a |log-det| exceeded 1000 + 20 per dimension: the flow is running away */
    NF_WARN_SKIPPED = 2u,  /**< some steps were skipped */
    NF_WARN_REJECTED = 4u, /**< the target rejected some draws */
    NF_WARN_FAILED = 8u    /**< some samples had no finite result and were left out */
};

/** Options of nf_fit; zeros mean the defaults. */
typedef struct nf_fit_options {
    uint64_t steps;                     /**< 0: 10000 */
    uint64_t first_step;                /**< numbering starts here: to continue a fit */
    uint64_t seed;                      /**< of the noise */
    size_t threads;                     /**< 0: as many as OpenMP would use. Results do not depend on it */
    const nf_optimizer_type *optimizer; /**< NULL: nf_adam() */
    nf_optimizer_options coefficients;  /**< of the optimizer */
    double rate;                        /**< learning rate, 0: 0.001 */
    nf_schedule schedule;               /**< multiplies rate */
    double clip_norm;                   /**< gradients longer than this are shortened to it; 0: never */
    size_t max_bad_steps;               /**< bad steps in a row that end the fit; 0: 100 */
    double max_failed; /**< share of a step's samples that may fail; with more the step is bad. In (0, 1]; 0: 3/4 */
    nf_objective *validation; /**< evaluated every `validate_every` steps; NULL: none. Borrowed */
    uint64_t validate_every;  /**< 0: 1000 */
    size_t patience;          /**< evaluations without a better one before stopping; 0: never stop */
    /**
     * Called after every step; anything but 0 stops the fit, keeping what there is. It may call nf_fitter_save(), but
     * none of the fitter's other functions.
     */
    int (*callback)(void *user, const nf_progress *progress);
    void *user; /**< handed to callback */
    /**
     * Decay d of a moving average of the parameters, 0 <= d < 1; 0: none. After the t-th step that moved them (t from
     * 1) average = d_t average + (1 - d_t) theta, d_t = min(d, (1 + t) / (10 + t)), beginning from the initial
     * parameters: the first steps count for little in the end. Validation then evaluates the averaged parameters, the
     * best ones kept are averaged, and they are the model's at the end. The state (statistics of batch normalisation)
     * is not averaged.
     */
    double average;
    const char *checkpoint;    /**< file to write checkpoints to (nf_fitter_save()), and at a run's end; NULL: none */
    uint64_t checkpoint_every; /**< steps between them; 0: validate_every */
    const nf_ranks *ranks;     /**< this process is one of several that make the fit together; NULL: alone. Copied */
} nf_fit_options;

/** What came of a fit. */
typedef struct nf_fit_report {
    nf_stop_reason reason; /**< why it ended */
    uint64_t steps;        /**< steps made, skipped ones included */
    uint64_t skipped;      /**< bad steps: nothing was moved */
    uint64_t rejected;     /**< draws that the target rejected, over all steps */
    uint64_t failed;       /**< samples that had no finite result and were left out, over all steps */
    double loss;           /**< running mean of the loss at the end */
    double best;           /**< best validation loss; without validation, the best running mean */
    uint64_t best_step;    /**< the step after which it was seen */
    uint64_t
        best_failed; /**< samples of the validation that had no result then; fewer of them is better than any loss */
    double worst_log_det; /**< the largest |log-det| seen */
    unsigned warnings;    /**< NF_WARN_LOG_DET ... */
    double seconds;       /**< wall time */
    size_t bytes;         /**< memory of the workspace: the high-water mark */
} nf_fit_report;

/** A fit that can be interrupted, saved and continued. */
typedef struct nf_fitter nf_fitter;

/**
 * A fit that has not begun, from the numbers that the model has now. `o` is borrowed, with its model, and so is what
 * the options point to, save `ranks`, which is copied.
 * @return NULL on NF_EARG (`o` NULL, options out of range, a broken optimizer, ranks that do not fit the objective),
 * NF_ENOMEM.
 */
NF_API nf_fitter *nf_fitter_new(nf_objective *o, const nf_fit_options *options);
/**
 * Makes `steps` more steps; 0: all that options->steps leaves. (Numbers other than 0 may go beyond it.)
 *
 * A sample without a finite result (a layer could not compute it, its loss or its target's gradient is not finite) is
 * left out of the step and counted. A step is bad where too many samples failed (max_failed), or where its mean loss or
 * its gradient is not finite all the same: it moves nothing, is counted, and max_bad_steps in a row end the fit.
 * When the run ends, the model holds what a fit that ended here would leave, prepared for NF_EVAL: with `validation`
 * the parameters of the best evaluation (the last one is made here, whatever validate_every says), without it the last
 * ones, or their moving average; where the fit ends in NF_STOP_NOTFINITE, those of the best running mean among every
 * validate_every-th step (if there was one). The fitter keeps the parameters that it trains, so that the next run goes
 * on as if nothing had happened: two runs of 100 steps equal one of 200 bit for bit, reports included (times aside).
 * What the caller does to the model's numbers in between is overwritten.
 *
 * A callback that stops ends the run, and the next one goes on. A fit that ended in NF_STOP_PATIENCE or
 * NF_STOP_NOTFINITE makes no more steps. With `ranks` every rank must call this with the same number; only rank 0
 * writes checkpoints, and every rank evaluates the whole of `validation`. Where one of them stops or fails, all end,
 * the others with its status.
 * @param report of all steps so far; may be NULL
 * @return NF_OK also when stopped early (see the report's reason), save NF_ENOTFINITE for NF_STOP_NOTFINITE, and what
 * an objective or nf_fitter_save() returns. The model is prepared and usable in every case.
 */
NF_API NF_CHECKED nf_status nf_fitter_run(nf_fitter *f, uint64_t steps, nf_fit_report *report);
/**
 * Writes a checkpoint: everything that the steps to come depend on, so that a fit that loads it goes on bit for bit.
 * Like nf_save() it replaces the file at once or not at all, whenever the process is killed.
 * @return NF_EARG, NF_EIO, NF_ENOMEM; NF_EUNSUPPORTED in a build without Jansson.
 */
NF_API NF_CHECKED nf_status nf_fitter_save(const nf_fitter *f, const char *path);
/**
 * Goes back (or on) to a checkpoint. From the file come the parameters and state, the optimizer's numbers and
 * coefficients, the best parameters, the moving average, all counts, and of the options first_step, seed, rate,
 * schedule, clip_norm, max_bad_steps, max_failed, validate_every, patience and average. The caller's stay steps (of the
 * whole fit, those of the checkpoint included), threads, validation, callback, checkpoint, checkpoint_every and ranks,
 * and the objective with its data and batch. A schedule of kind NF_CUSTOM needs one in the fitter's options, whose
 * function is called. The model then holds the best parameters (with validation) or those of the checkpoint, averaged
 * ones where there are any.
 * @return NF_EARG (a checkpoint of another model, optimizer or precision, or with a custom schedule where the fitter
 * has none: the message names what differs), NF_EFORMAT (any damage: a checksum covers the whole file), NF_EIO,
 * NF_ENOMEM; NF_EUNSUPPORTED in a build without Jansson. After an error the fitter and the model are as they were.
 */
NF_API NF_CHECKED nf_status nf_fitter_load(nf_fitter *f, const char *path);
/** Releases it; the model keeps what the last run left. NULL is allowed. */
NF_API void nf_fitter_free(nf_fitter *f);

/**
 * Minimises an objective over its model's parameters: nf_fitter_new(), nf_fitter_run() to options->steps,
 * nf_fitter_free().
 * @param report may be NULL
 * @return as these: NF_OK also when stopped early (see the report's reason), save NF_ENOTFINITE for NF_STOP_NOTFINITE,
 * and what an objective returns. The model is prepared and usable in every case.
 */
NF_API NF_CHECKED nf_status nf_fit(nf_objective *o, const nf_fit_options *options, nf_fit_report *report);

NF_END_DECLS
#endif
