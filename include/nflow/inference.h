/**
 * @file inference.h
 * Variational inference in one call, and its pieces: a normal approximation to start from, fits of flows in coordinates
 * that it makes simple, and a judgement of any fitted posterior.
 *
 * A posterior is a model of a distribution over R^d, the space of the target. What its draws mean (constrained values
 * under their names) the target says: nf_target_outputs().
 */
#ifndef NFLOW_INFERENCE_H
#define NFLOW_INFERENCE_H
#include <nflow/convergence.h>
#include <nflow/fit.h>
#include <nflow/importance.h>
#include <nflow/target.h>
#include <nflow/vi.h>
NF_BEGIN_DECLS

/* ---- a normal approximation ---- */

/** Options of nf_start; NULL or zeros mean the defaults. */
typedef struct nf_start_options {
    uint64_t seed;      /**< of the points from which paths start, and of the draws that compare approximations */
    size_t paths;       /**< climbs to a mode, each from a point of its own; 0: 4 */
    double radius;      /**< these points are uniform in (-radius, radius)^d; 0: 2 */
    const double *init; /**< [n_init x d] points from which the first paths start instead; NULL: none */
    size_t n_init;      /**< rows of init, at most `paths` */
    size_t iterations;  /**< the most steps of a path; 0: 300 */
    size_t draws;       /**< draws that choose between the best approximations of all paths; 0: 100 */
    size_t path_draws;  /**< draws for each approximation along a path; 0: 10 */
    size_t full;        /**< up to so many dimensions covariances are full, above that diagonal; 0: 1000 */
} nf_start_options;

/** How nf_start() came to its result. */
typedef struct nf_start_report {
    double elbo;       /**< estimate of the ELBO of the approximation */
    double elbo_error; /**< its standard error */
    double log_p;      /**< the largest log p that a path met */
    size_t path;       /**< the number of the path that gave the approximation, or that starts where its fit did */
    size_t point;      /**< the point of this path, from 0, its start; of a mean-field fit the number of its steps */
    size_t usable;     /**< paths that gave an approximation */
    bool laplace;      /**< the approximation is Laplace's, by second derivatives at the end of the path */
} nf_start_report;

/**
 * A normal approximation of a target, without training. Several paths climb to a mode by L-BFGS. Each point of a path
 * has a normal approximation by the curvature that the path has met until there (Zhang, Carpenter, Gelman & Vehtari
 * 2022, Pathfinder), and its end has Laplace's. The approximation with the largest ELBO is taken: it need not be at a
 * mode, and targets whose density grows without bound have one, too.
 *
 * Where the best of these is not near the target (log p - log q varies by a nat or more over draws), and always with
 * more than 100 dimensions, a mean-field approximation is fitted from the start of each path by 30 fixed draws
 * (Giordano, Ingram & Broderick 2024). It costs some thousand gradients, and finds the mass of a scale and what it
 * scales where paths run to a scale of 0.
 *
 * Up to options->full dimensions the covariance is full, but with more than 100 it is diagonal if a mean-field
 * approximation is the best one. Laplace's approximation costs 2 d gradients and is made at the ends of all paths up to
 * 50 dimensions, otherwise at the end of the best path. If the target rejects some of an approximation's draws, its
 * ELBO is that of the normal restricted to what is left.
 * @param t       the target; borrowed
 * @param options NULL: the defaults
 * @param report  NULL: not wanted
 * @return a model of nf_full_normal() or, with more dimensions, of nf_diagonal_normal(). NULL on NF_EARG, NF_ETARGET
 * (no start at which log p and its gradient are finite was found in 20 tries a path, or no approximation has a finite
 * ELBO; or the target has failed), NF_ENOMEM.
 */
NF_API nf_model *nf_start(const nf_target *t, const nf_start_options *options, nf_start_report *report);

/* ---- fits ---- */

/** Families of posteriors. From the base on: a flow, for those that have one, then an affine map. */
typedef enum nf_family {
    NF_FAMILY_DEFAULT,    /**< nf_vi(): all rungs of the ladder; nf_stage(): NF_FAMILY_REALNVP */
    NF_FAMILY_MEAN_FIELD, /**< a normal with a diagonal covariance */
    NF_FAMILY_LOW_RANK,   /**< a normal, nf_low_rank_affine() of rank min(d, 16) before a diagonal affine map */
    NF_FAMILY_FULL_RANK,  /**< a normal with any covariance */
    NF_FAMILY_PLANAR,     /**< 16 nf_planar() */
    NF_FAMILY_RADIAL,     /**< 16 nf_radial() */
    NF_FAMILY_SYLVESTER,  /**< 6 nf_sylvester() */
    NF_FAMILY_IAF,        /**< nf_iaf() with affine layers that start as the identity */
    NF_FAMILY_REALNVP,    /**< nf_realnvp() */
    NF_FAMILY_NSF,        /**< nf_nsf_coupling(), bent within 6 deviations */
    NF_FAMILY_FFJORD,     /**< nf_ffjord(), solved to tolerances of 1e-4 */
    NF_FAMILY_RESIDUAL    /**< nf_residual(), explicit from the base to the posterior, of 6 blocks; its nets are
                               as wide as those of NF_SIZES_INFERENCE, and log-dets exact up to 32 dimensions */
} nf_family;

/** Options of nf_stage; NULL or zeros mean the defaults. */
typedef struct nf_stage_options {
    nf_family family;     /**< recipes have NF_SIZES_INFERENCE */
    nf_flow *flow;        /**< a flow from d to d features in place of the family's; borrowed, a reference is taken */
    double df;            /**< the base is a t with learnt degrees of freedom that start here; 0: a normal */
    size_t layers;        /**< of the family's flow; 0: its own number */
    size_t width;         /**< of its nets' hidden layers; 0: its own */
    uint64_t steps;       /**< the most; 0: 1000 for normals, 2000 for flows */
    size_t draws;         /**< of a step; 0: 100 */
    double rate;          /**< of Adam, at first; 0: 0.1 for normals, 0.005 for NF_FAMILY_NSF, 0.01 for
                               NF_FAMILY_IAF, NF_FAMILY_REALNVP and flows of the caller, 0.04 for NF_FAMILY_FFJORD, 0.02
                               for the other families */
    nf_convergence *rule; /**< says when the ELBO no longer improves; NULL: one of zeros. Written. If its
                              `least` is 0 that becomes steps / 8, but at least 100 */
    bool total_gradient;  /**< the estimator is NF_GRADIENT_PATH in place of NF_GRADIENT_STL */
    uint64_t seed;        /**< of parameters and noise */
    size_t threads;       /**< 0: as nf_workspace_new() */
    int (*callback)(void *user, const nf_progress *progress); /**< as nf_fit_options.callback; NULL: none */
    void *user;                                               /**< passed to callback */
} nf_stage_options;

/**
 * Fits a distribution to a target in coordinates that an approximation makes simple. With the approximation x = W(z), z
 * normal, a distribution of z is fitted to the target in z (nf_target_pulled_back()), so that one rate suits all
 * targets; then W is put on top. If W is an affine map, x = m + L z, the last layer of what was fitted, which is
 * affine, is multiplied by L and moved by m instead. So the result is a distribution of x like any other, which can be
 * saved, sampled and fitted further.
 *
 * The rate is constant until the ELBO of the steps has settled (nf_convergence), or for two thirds of all steps. Then
 * it falls to 0 along a cosine, over half as many steps as were made before. So `steps` is a limit that few fits come
 * to.
 * @param t         the target; borrowed
 * @param whitening the approximation, a model of a pushforward by a flow from d to d without context and state:
 * nf_start()'s, or an earlier stage's. Borrowed. After any but nf_full_normal(d) the last affine map is diagonal,
 * unless the family is full-rank; with more than 100 dimensions those of flows are diagonal in any case
 * @param options   NULL: the defaults
 * @param report    of the fit; NULL: not wanted
 * @return the fitted model. After nf_full_normal() or nf_diagonal_normal() it is of nf_full_normal() for
 * NF_FAMILY_FULL_RANK and of nf_diagonal_normal() for NF_FAMILY_MEAN_FIELD, else of a pushforward by a chain. (For
 * mean-field and low-rank normals the diagonal alone of a full whitening counts.) NULL on NF_EARG, NF_EDIM,
 * NF_ENOTFINITE (the fit ended so), NF_ETARGET, NF_ENOMEM.
 */
NF_API nf_model *nf_stage(const nf_target *t, const nf_model *whitening, const nf_stage_options *options,
                          nf_fit_report *report);

/* ---- judgement ---- */

/** What may be done with draws of a posterior. */
typedef enum nf_verdict {
    NF_TRUST,       /**< its draws stand for the target's */
    NF_USE_WEIGHTS, /**< its draws with importance weights do (or resampled ones: nf_resample()) */
    NF_DO_NOT_TRUST /**< neither */
} nf_verdict;

/** "trust", "use weights" or "do not trust"; a constant. NULL for any other number. */
NF_API const char *nf_verdict_text(nf_verdict verdict);

/** How good a posterior is, by draws from it. */
typedef struct nf_quality {
    size_t n;                 /**< draws */
    double elbo;              /**< the evidence lower bound */
    double elbo_error;        /**< its standard error */
    double log_z;             /**< the log evidence by smoothed importance weights */
    double log_z_error;       /**< its standard error; too small if k_hat is large */
    double k_hat;             /**< see nf_psis_report */
    double k_limit;           /**< see nf_psis_report */
    double ess;               /**< effective sample size of the weights */
    double mean_shift;        /**< the largest |mean with weights - mean without| / sd of an output */
    double median_mean_shift; /**< its median over outputs */
    double sd_shift;          /**< the largest |sd without weights / sd with - 1| */
    double median_sd_shift;   /**< its median over outputs */
    double
        quantile_shift;  /**< the largest shift of a quantile in interquartile ranges, over outputs without variance */
    size_t worst_output; /**< the output with the largest shift */
    size_t no_variance;  /**< outputs whose draws have no variance (nf_summary.no_variance), judged by quantiles */
    size_t rejected;     /**< draws that the target rejected */
    bool missed;         /**< another mode of the target has mass that the posterior has not */
    nf_verdict verdict;  /**< what may be done with the draws */
    char why[320];       /**< the verdict's reason, in plain words, and what to try */
} nf_quality;

/** Draws of a posterior, with what the target says about them. */
typedef struct nf_posterior_draws {
    size_t n;           /**< draws */
    size_t d;           /**< dimension */
    size_t n_outputs;   /**< outputs of the target */
    double *x;          /**< [n x d] */
    double *output;     /**< [n x n_outputs], NaN for rejected draws */
    double *log_p;      /**< [n], -infinity for rejected draws */
    double *log_q;      /**< [n] */
    double *log_weight; /**< [n], smoothed and normalised; -infinity for rejected draws */
} nf_posterior_draws;

/** Options of nf_judge; NULL or zeros mean the defaults. */
typedef struct nf_judge_options {
    size_t n;       /**< draws; 0: 4000 */
    uint64_t seed;  /**< of the draws; another one than that of a fit gives other noise */
    size_t threads; /**< 0: as nf_workspace_new() */
} nf_judge_options;

/**
 * Judges a posterior by fresh draws. The weights p / q, smoothed (nf_psis()), tell how good q is: if their tail allows
 * it (k_hat below k_limit, 100 effective draws), results with weights are those of p. q can be trusted without weights
 * if these change nothing: the ELBO is less than 0.1 below the log evidence, no mean moves by 0.1 deviations, no
 * deviation by 10 %, half of them by less than 0.04. Outputs without variance are judged by quantiles, which move by
 * less than 0.1 interquartile ranges.
 *
 * What cannot be seen in draws from q are parts of p where q has no draws.
 * @param q       a model of a distribution of the target's dimension; borrowed
 * @param t       the target; borrowed
 * @param options NULL: the defaults
 * @param quality written
 * @param draws   receives the draws, to be released by nf_posterior_draws_free(); NULL: not wanted
 * @return NF_EARG, NF_EDIM, NF_ESTALE, NF_ETARGET, NF_ENOMEM.
 */
NF_API NF_CHECKED nf_status nf_judge(const nf_model *q, const nf_target *t, const nf_judge_options *options,
                                     nf_quality *quality, nf_posterior_draws *draws);
/** Releases the arrays. A struct of zeros, and NULL, are allowed. */
NF_API void nf_posterior_draws_free(nf_posterior_draws *draws);

/**
 * The weights that a verdict gives to draws: equal ones where the draws can be trusted, otherwise those of importance
 * sampling (after NF_DO_NOT_TRUST, too, where they are the best there is). Rejected draws have none.
 * @param draws   those of nf_judge() or nf_vi()
 * @param verdict on them
 * @param weight  [n] receives the weights. Their sum is 1, or 0 if all draws are rejected
 * @return NF_EARG.
 */
NF_API NF_CHECKED nf_status nf_posterior_weights(const nf_posterior_draws *draws, nf_verdict verdict, double *weight);

/* ---- all of it ---- */

enum { NF_MAX_RUNGS = 8 /**< rungs of nf_vi()'s ladder at most */ };

/** A rung of the ladder: a fit and its judgement. */
typedef struct nf_rung {
    const char *name;      /**< "full-rank normal", "t flow", ...; a constant */
    uint64_t steps;        /**< steps of its fit */
    bool settled;          /**< the ELBO had settled before the rate began to fall, see nf_stage() */
    double gain;           /**< what it still gained then, in nats, from one quarter of the steps to the next */
    double gain_error;     /**< its standard error; see nf_convergence */
    double seconds;        /**< wall time of fit and judgement */
    double target_seconds; /**< time of it inside the target's callback, of all threads together */
    size_t gradients;      /**< gradients that the target computed */
    size_t rejected;       /**< draws that the target rejected */
    nf_quality quality;    /**< its posterior's. If the fit ended without finite numbers there is none: n is 0, the
                              bounds are NaN, and `why` has the fit's message */
} nf_rung;

/** How far nf_vi() is; its callback gets this. */
typedef struct nf_vi_progress {
    const char *rung;       /**< the present rung's name */
    size_t number;          /**< its number, from 0 */
    const nf_progress *fit; /**< the present fit; NULL between fits */
    const nf_quality *best; /**< of the best posterior so far; NULL before the first */
} nf_vi_progress;

/** Options of nf_vi; NULL or zeros mean the defaults. */
typedef struct nf_vi_options {
    nf_family family;       /**< NF_FAMILY_DEFAULT: the ladder; else this family alone, from the same start */
    nf_flow *flow;          /**< a flow of the caller's in place of the ladder's flows; borrowed */
    nf_start_options start; /**< seed 0: the seed below */
    nf_judge_options judge; /**< likewise */
    size_t rungs;           /**< the most rungs; 0: all */
    bool all_rungs;         /**< climb on where a rung is trusted, too */
    size_t draws;           /**< of a step; 0: 100 */
    double steps;           /**< a factor of the most steps of every rung; 0: 1 */
    double tolerance;    /**< nats by which the ELBO may still gain when it has settled, see nf_convergence; 0: 0.005;
                              NF_ZERO: every rung makes all its steps */
    double rate;         /**< a factor of every rung's rate; 0: 1 */
    bool total_gradient; /**< see nf_stage_options */
    uint64_t seed;       /**< of everything */
    size_t threads;      /**< 0: as nf_workspace_new(). Results do not depend on it */
    int (*callback)(void *user,
                    const nf_vi_progress *progress); /**< other than 0 ends the work, what was found is kept */
    void *user;                                      /**< passed to callback */
} nf_vi_options;

/** What nf_vi() found. */
typedef struct nf_vi_result {
    nf_model *model;            /**< the posterior over R^d */
    nf_quality quality;         /**< its quality */
    nf_posterior_draws draws;   /**< the draws by which it was judged */
    nf_summary *summary;        /**< [n_outputs], with weights unless the verdict is NF_TRUST */
    nf_rung rung[NF_MAX_RUNGS]; /**< what was tried */
    size_t n_rungs;             /**< how many */
    size_t best;                /**< the rung that gave the model */
    nf_start_report start;      /**< of the start */
    nf_target_counts counts;    /**< what the target computed for all this */
    double seconds;             /**< wall time */
    bool stopped;               /**< the callback has ended the work */
} nf_vi_result;

/**
 * Variational inference, with a report that says whether to trust it. The ladder:
 *
 * 1. nf_start(): a normal approximation, in whose coordinates the next fit is made.
 * 2. A normal with full covariance, which has the coordinates of the next fits.
 * 3. A Real NVP on a t with learnt degrees of freedom, with an affine map on top.
 * 4. The same with larger nets, more draws and three times the steps.
 *
 * If the start's covariance is diagonal (see there), with many dimensions, these are a normal of low rank and nf_iaf()
 * of two and of four layers instead. With more than 100 dimensions rates and draws are multiplied by sqrt(100 / d).
 * The t has 20 degrees of freedom at first, or so many that it is within 0.03 nats of a normal.
 *
 * After each rung the posterior is judged (nf_judge()); the first that can be trusted ends the climb, otherwise the
 * best one is returned: first by verdict, then by ELBO. A posterior is not trusted either if another path of the start
 * has met a mode whose mass the posterior does not have.
 * @param t       the target; borrowed
 * @param options NULL: the defaults
 * @param result  written; release it by nf_vi_result_free() also after an error. After an error of the target in a
 *                later rung it has what the earlier ones gave
 * @return NF_EARG, NF_ETARGET (see nf_start(); or the target's callback failed), NF_ENOTFINITE (of every rung's fit),
 * NF_ENOMEM; what users' own hooks return. NF_OK says nothing about the verdict.
 */
NF_API NF_CHECKED nf_status nf_vi(const nf_target *t, const nf_vi_options *options, nf_vi_result *result);
/** Releases what a result holds. NULL is allowed. */
NF_API void nf_vi_result_free(nf_vi_result *result);

NF_END_DECLS
#endif
