/**
 * @file target.h
 * Targets: somebody else's unnormalised log density and its gradient. Always in double, whatever nf_real is.
 */
#ifndef NFLOW_TARGET_H
#define NFLOW_TARGET_H
#include <nflow/base.h>
NF_BEGIN_DECLS

typedef struct nf_target nf_target; /**< an unnormalised log density over R^d */

/**
 * A batch of n points x [n x d], row-major: log_p[i] = log p(x_i) + const, and, unless grad is NULL, grad[i x d] =
 * d log p / dx. A draw outside the support: rejected[i] = 1 (arrives as 0); its other outputs are then ignored, and a
 * call of nf_error(NF_ETARGET, "why") says why, for nf_target_rejection(). Where one call rejects several points, the
 * text of its last nf_error() counts as that of the first of them.
 * @return 0; anything else is fatal and ends the computation with NF_ETARGET; `return nf_error(NF_ETARGET, ...)` leaves
 * the callback's own message.
 */
typedef int nf_target_fn(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad,
                         unsigned char *rejected);
/**
 * One point at a time, x [d] and grad [d] (NULL: not wanted). @return 0, > 0 for a draw to reject, < 0 if fatal. Before
 * either of the last two, nf_error(NF_ETARGET, "why") leaves the callback's own words, as in a batch.
 */
typedef int nf_target_point_fn(void *user, size_t d, const double *x, double *log_p, double *grad);

/** Who may call a callback. */
typedef enum nf_thread_rule {
    /** One call at a time, from the thread that called the library; whole batches. The call comes from inside a
     * parallel region: OpenMP in the callback has one thread, unless it asks for more levels itself. */
    NF_SERIAL,
    NF_THREADSAFE /**< several calls at once, from any thread; a tile each */
} nf_thread_rule;

/** A target from a batched callback; `user` is handed on untouched and must outlive the target. d >= 1. */
NF_API nf_target *nf_target_callback(size_t d, nf_target_fn *f, void *user, nf_thread_rule rule);
/** A target from a callback that takes one point. */
NF_API nf_target *nf_target_point_callback(size_t d, nf_target_point_fn *f, void *user, nf_thread_rule rule);
/**
 * A target whose callback gives no gradient (it is always called with grad NULL): central differences with step
 * `step` (1 + |x|), 2 d more evaluations a point. step 0: the cube root of the machine epsilon.
 */
NF_API nf_target *nf_target_finite_difference(size_t d, nf_target_fn *f, void *user, nf_thread_rule rule, double step);
/**
 * Makes `user` the target's own: nf_target_free() calls destroy(user). So an opened model library can live and die with
 * its target, and a target is one expression, checked once:
 *
 *     nf_target *t = nf_target_own(nf_target_callback(d, f, lib, NF_SERIAL), lib, close_library);
 *
 * `user` is consumed on failure, too, also where t is NULL because its constructor failed: destroy(user) is then called
 * at once. It is as a rule what the callback is handed, but may be anything. Called again, the target owns several
 * things, and releases the last one first.
 * @return t; NULL if t is NULL, on NF_EARG (destroy is NULL: nothing is done with user) and on NF_ENOMEM: t is then
 * released.
 */
NF_API NF_CHECKED nf_target *nf_target_own(nf_target *t, void *user, void (*destroy)(void *user));
/** Releases it and what it owns. NULL is allowed. */
NF_API void nf_target_free(nf_target *t);
/** The dimension d. */
NF_API size_t nf_target_dim(const nf_target *t);
/** The thread rule. */
NF_API nf_thread_rule nf_target_rule(const nf_target *t);

/**
 * Evaluates: x [n x d], log_p [n], grad [n x d] or NULL, rejected [n] (set to 0 or 1) or NULL.
 * Rejected draws get log_p = -infinity and a zero gradient. @return NF_EARG, NF_ETARGET, NF_ENOMEM.
 */
NF_API NF_CHECKED nf_status nf_target_eval(const nf_target *t, size_t n, const double *x, double *log_p, double *grad,
                                           unsigned char *rejected);

/**
 * Why the first draw was rejected: the words of the callback's nf_error(), "" as long as it has left none for a
 * rejected draw. Of the first step (or call of nf_target_eval()) with such words the lowest sample's are kept, so that
 * they do not depend on threads; asked for before that step has ended, those that are known then are kept. Points that
 * only finite differences ask for do not count. Any thread may ask. Owned by the target; never changes once it is not
 * "".
 */
NF_API const char *nf_target_rejection(const nf_target *t);

/** What nf_target_check found. */
typedef struct nf_target_report {
    double worst_error; /**< largest |gradient - central difference| / (1 + |central difference|) */
    size_t row;         /**< where: the point */
    size_t column;      /**< where: the dimension */
    size_t rejected;    /**< points rejected, not compared */
} nf_target_report;

/** Compares a target's gradient at n points with central differences. */
NF_API NF_CHECKED nf_status nf_target_check(const nf_target *t, size_t n, const double *x, nf_target_report *report);

NF_END_DECLS
#endif
