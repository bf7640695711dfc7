/**
 * @file target.h
 * Targets: somebody else's unnormalised log density and its gradient. They always use double, whatever nf_real is.
 */
#ifndef NFLOW_TARGET_H
#define NFLOW_TARGET_H
#include <nflow/base.h>
NF_BEGIN_DECLS

typedef struct nf_target nf_target; /**< an unnormalised log density over R^d */
typedef struct nf_model nf_model;   /**< see model.h */

/**
 * Evaluates a batch of n points x [n x d], row-major: log_p[i] = log p(x_i) + const, and, unless grad is NULL,
 * grad[i x d] = d log p / dx. To reject a draw outside the support, the callback sets rejected[i] = 1 (it is 0 before
 * the call). A log_p[i] of -infinity or NaN rejects the draw, too. The other outputs of this draw are then ignored. The
 * callback may say why by nf_error(NF_ETARGET, "why"), for nf_target_rejection(). If one call rejects several points,
 * the text of its last nf_error() counts as that of the first of these points.
 * @return 0. Anything else is fatal and ends the computation with NF_ETARGET; with `return nf_error(NF_ETARGET, ...)`
 * the callback's own message remains.
 */
typedef int nf_target_fn(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad,
                         unsigned char *rejected);
/**
 * Evaluates one point, x [d] and grad [d] (NULL: not wanted).
 * @return 0; 1 (or any other positive number but NF_ETARGET) to reject the draw; NF_ETARGET or a negative number if the
 * error is fatal, so that `return nf_error(NF_ETARGET, "why")` is fatal as it is in a batch. A callback that rejects
 * may leave its own words by nf_error(NF_ETARGET, "why") before it returns 1. A *log_p of -infinity or NaN rejects the
 * draw, too.
 */
typedef int nf_target_point_fn(void *user, size_t d, const double *x, double *log_p, double *grad);

/** Who may call a callback. */
typedef enum nf_thread_rule {
    /**
     * One call at a time, from the thread that called the library, with whole batches. OpenMP in the callback has one
     * thread, unless the callback itself sets another number.
     */
    NF_SERIAL,
    NF_THREADSAFE /**< several calls at once, from any thread, with one tile each */
} nf_thread_rule;

/**
 * A target from a batched callback. `user` is passed to the callback unchanged and must live longer than the target. d
 * >= 1.
 */
NF_API nf_target *nf_target_callback(size_t d, nf_target_fn *f, void *user, nf_thread_rule rule);
/** A target from a callback that takes one point. */
NF_API nf_target *nf_target_point_callback(size_t d, nf_target_point_fn *f, void *user, nf_thread_rule rule);
/**
 * A target whose callback gives no gradient (it is always called with grad NULL). The gradient is computed by central
 * differences with step `step` (1 + |x|), which takes 2 d more evaluations a point. step 0: the cube root of the
 * machine epsilon.
 */
NF_API nf_target *nf_target_finite_difference(size_t d, nf_target_fn *f, void *user, nf_thread_rule rule, double step);
/**
 * The log density of a model of a distribution, and its gradient, as a target: a fitted density as a prior, or to be
 * sampled by Hamiltonian Monte Carlo. The target reads the model's present parameters at every call, and is
 * NF_THREADSAFE. Points without a result (NaN) and points of density 0 are rejected. In nflowf the points are rounded
 * to float.
 * @param m   a model of a distribution; borrowed, must live longer than the target. nf_target_own() can make the target
 *            its owner
 * @param ctx [n_ctx], the context at which the density is taken; copied. NULL if the model reads none
 * @return NULL on NF_EARG (a model of no distribution, `ctx` NULL where it is needed), NF_EUNSUPPORTED (a model that
 * draws noise when it scores), NF_ENOMEM; if `m` is NULL, on the status of the last error.
 */
NF_API nf_target *nf_target_of_model(const nf_model *m, const nf_real *ctx);
/**
 * Makes `user` the target's own: nf_target_free() calls destroy(user). For example, a model library can be opened for
 * its target and closed with it. A target is then one expression, checked once:
 *
 *     nf_target *t = nf_target_own(nf_target_callback(d, f, lib, NF_SERIAL), lib, close_library);
 *
 * `user` is consumed also on failure, and also if t is NULL because its constructor failed: destroy(user) is then
 * called at once. `user` is usually what the callback gets, but may be anything. If this function is called again, the
 * target owns several things, and releases the last one first.
 * @return t. NULL if t is NULL, on NF_EARG (destroy is NULL; nothing is done with user), and on NF_ENOMEM; t is then
 * released.
 */
NF_API NF_CHECKED nf_target *nf_target_own(nf_target *t, void *user, void (*destroy)(void *user));
/** Releases the target and what it owns. NULL is allowed. */
NF_API void nf_target_free(nf_target *t);
/** The dimension d. */
NF_API size_t nf_target_dim(const nf_target *t);
/** The thread rule. */
NF_API nf_thread_rule nf_target_rule(const nf_target *t);

/**
 * Evaluates a target: x [n x d], log_p [n], grad [n x d] or NULL, rejected [n] (set to 0 or 1) or NULL. Rejected draws
 * get log_p = -infinity and a zero gradient.
 * @return NF_EARG, NF_ETARGET, NF_ENOMEM.
 */
NF_API NF_CHECKED nf_status nf_target_eval(const nf_target *t, size_t n, const double *x, double *log_p, double *grad,
                                           unsigned char *rejected);

/**
 * Why and where the first draw was rejected, or had no finite gradient: the text of the callback's nf_error() or, if it
 * left none, what its log p was; then the first coordinates of the point. "" as long as there was no such draw. The
 * library keeps the text of the lowest sample of the first step (or call of nf_target_eval()) that has rejected draws,
 * so the text does not depend on threads. If this function is called before that step has ended, the text that is known
 * then is kept. Points that only finite differences need do not count. Any thread may call this. The text is owned by
 * the target, and never changes once it is not "".
 */
NF_API const char *nf_target_rejection(const nf_target *t);

/** The result of nf_target_check. */
typedef struct nf_target_report {
    double worst_error; /**< largest |gradient - central difference| / (1 + |central difference|) */
    size_t row;         /**< the point with this error */
    size_t column;      /**< the dimension with this error */
    size_t rejected;    /**< points that were rejected and not compared */
} nf_target_report;

/** Compares a target's gradient at n points with central differences. */
NF_API NF_CHECKED nf_status nf_target_check(const nf_target *t, size_t n, const double *x, nf_target_report *report);

NF_END_DECLS
#endif
