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
    uint64_t steps;             /**< steps asked for */
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
    /** Called after every step; anything but 0 stops the fit, keeping what there is. */
    int (*callback)(void *user, const nf_progress *progress);
    void *user; /**< handed to callback */
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
    double worst_log_det;  /**< the largest |log-det| seen */
    unsigned warnings;     /**< NF_WARN_LOG_DET ... */
    double seconds;        /**< wall time */
    size_t bytes;          /**< memory of the workspace: the high-water mark */
} nf_fit_report;

/**
 * Minimises an objective over its model's parameters.
 *
 * A sample without a finite result (a layer could not compute it, its loss or its target's gradient is not finite) is
 * left out of the step and counted. A step is bad where too many samples failed (max_failed), or where its mean loss or
 * its gradient is not finite all the same: it moves nothing, is counted, and max_bad_steps in a row end the fit.
 * With `validation`, the parameters of the best evaluation are the model's at the end; without, the last ones, or,
 * where the fit ends in NF_STOP_NOTFINITE, those of the best running mean among every validate_every-th step (if there
 * was one).
 * @param report may be NULL
 * @return NF_OK also when stopped early (see the report's reason), save NF_ENOTFINITE for NF_STOP_NOTFINITE, and what
 * an objective returns. The model is prepared and usable in every case.
 */
NF_API NF_CHECKED nf_status nf_fit(nf_objective *o, const nf_fit_options *options, nf_fit_report *report);

NF_END_DECLS
#endif
