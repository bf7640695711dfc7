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
    size_t path;       /**< the number of the path that gave the approximation */
    size_t point;      /**< the point of this path, from 0, its start */
    size_t usable;     /**< paths that gave an approximation */
    bool laplace;      /**< the approximation is Laplace's, by second derivatives at the end of the path */
} nf_start_report;

/**
 * A normal approximation of a target, without training. Several paths climb to a mode by L-BFGS. Each point of a path
 * has a normal approximation by the curvature that the path has met until there (Zhang, Carpenter, Gelman & Vehtari
 * 2022, Pathfinder), and its end has Laplace's. The approximation with the largest ELBO is taken: it need not be at a
 * mode, and targets whose density grows without bound have one, too.
 *
 * Up to options->full dimensions the covariance is full. Laplace's approximation costs 2 d gradients and is made at the
 * ends of all paths up to 50 dimensions, otherwise at the end of the best path.
 * @param t       the target; borrowed
 * @param options NULL: the defaults
 * @param report  NULL: not wanted
 * @return a model of nf_full_normal() or, with more dimensions, of nf_diagonal_normal(). NULL on NF_EARG, NF_ETARGET
 * (no start at which log p and its gradient are finite was found in 20 tries a path, or no approximation has a finite
 * ELBO; or the target has failed), NF_ENOMEM.
 */
NF_API nf_model *nf_start(const nf_target *t, const nf_start_options *options, nf_start_report *report);

NF_END_DECLS
#endif
