/**
 * @file target.h
 * Targets: somebody else's unnormalised log density and its gradient. They always use double, whatever nf_real is.
 *
 * A target is over R^d. What its author thinks of as parameters may be other numbers: constrained ones, or functions of
 * them. These are the target's outputs, numbers with names, which draws, summaries and files show.
 * nf_target_constrained() makes a target from a density over constrained parameters, and its outputs are these;
 * nf_target_with_outputs() gives a target any others. nf_target_pulled_back() changes the coordinates by a flow.
 */
#ifndef NFLOW_TARGET_H
#define NFLOW_TARGET_H
#include <nflow/base.h>
NF_BEGIN_DECLS

typedef struct nf_target nf_target; /**< an unnormalised log density over R^d */
typedef struct nf_model nf_model;   /**< see model.h */
typedef struct nf_flow nf_flow;     /**< see flow.h */

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
 * The function that nutpie compiles a PyMC model to, and takes from other languages: log p and its gradient [dim] at
 * one point x [dim]. C functions that Julia's cfunction macro or Python's ctypes make can have this signature, too.
 * @return 0; a positive number to reject the point; a negative one if the error is fatal.
 */
typedef int64_t nf_nutpie_fn(uint64_t dim, const double *x, double *grad, double *logp, void *user);
/**
 * A target from such a function. It is called with a gradient, also where log p alone is wanted. Where it returns
 * another number than 0, that number and the point are the text of nf_target_rejection(), or of the fatal error, unless
 * it has called nf_error(NF_ETARGET, ...) itself.
 * @param user passed to f unchanged; must live longer than the target
 * @param rule NF_SERIAL unless the function may be called from several threads at once, and from threads of the
 *             library: Python and Julia allow neither
 * @return NULL on NF_EARG (dim 0, `f` NULL, an unknown rule), NF_ENOMEM.
 */
NF_API nf_target *nf_target_nutpie(size_t dim, nf_nutpie_fn *f, void *user, nf_thread_rule rule);
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

/* ---- other coordinates ---- */

/**
 * A target in the coordinates in which a flow T begins: log p(T(z)) + log|det dT/dz|, with its gradient in z. If T is
 * fitted so that T(z) is like draws of `t` where z is normal, the result is nearly normal, which makes it easy for
 * Hamiltonian Monte Carlo (NeuTra: Hoffman et al. 2019), or for another fit (whitening). A draw z of the result is a
 * draw T(z) of `t` (nf_transform(), NF_FORWARD). The outputs are those of `t` at T(z).
 *
 * Draws that `t` rejects are rejected, and its words are handed on to nf_target_rejection(); `t` itself notes none of
 * them. Where the flow has no finite result the draw is rejected, too, and `t` is not asked. The thread rule is that of
 * `t`; the flow is computed by the thread that calls. A serial `t` gets whole batches, unless what the flow needs for
 * its gradient would take more than 64 MiB. The model's present parameters are read at every call; NF_ESTALE
 * (nf_model_update()) is a fatal error of the target then. In nflowf the flow computes in float.
 * @param t    borrowed, must live longer than the result
 * @param flow a model of a flow, or of a pushforward, whose flow is taken; its output has the dimension of `t`, and it
 *             reads no context. Borrowed, likewise. nf_target_own() can make the result the owner of both
 * @return NULL on NF_EARG (a model without a flow, a flow that takes 0 features), NF_EDIM, NF_EUNSUPPORTED (a flow that
 * draws noise), NF_ENOMEM; if an argument is NULL, on the status of the last error.
 */
NF_API nf_target *nf_target_pulled_back(const nf_target *t, const nf_model *flow);

/** A parameter of a model: a number, vector, matrix or array with a name and a constraint. */
typedef struct nf_parameter {
    const char *name;    /**< "tau"; copied */
    nf_flow *constraint; /**< the values that it may have, see constraints.h: nf_lower(1, 0). nf_identity(n): any n
                            numbers. Consumed by nf_target_constrained() */
    const size_t *dims;  /**< [n_dims], its shape, for names of values; NULL if n_dims is 0 */
    size_t n_dims;       /**< 0: one number if the constraint gives one, else a vector */
} nf_parameter;

/**
 * A target over R^d from a density over constrained parameters, which follow each other in the order of `parameters`:
 *
 *     nf_target *t = nf_target_constrained(nf_target_point_callback(9, density, data, NF_THREADSAFE),
 *                                          (nf_parameter[]){{"tau", nf_lower(1, 0), NULL, 0},
 *                                                           {"theta", nf_identity(8), NULL, 0}}, 2);
 *
 * T being all constraints side by side (nf_blocks()), the result is log p(T(x)) + log|det T'(x)|: `inner` sees the
 * constrained values T(x) alone, and its density is one of these values: where there are more values than degrees of
 * freedom (a simplex, a covariance matrix), in the chart that constraints.h names. A gradient that `inner` gives in
 * entries outside the chart counts, too: it is the gradient of `inner` as a function of all entries.
 *
 * The outputs are the constrained values, named as in Stan's CSV files: "tau", "theta.1" to "theta.8", and with dims
 * {2, 2} "Sigma.1.1", "Sigma.2.1", "Sigma.1.2", "Sigma.2.2" (the first index runs fastest; matrices have column-major
 * layout). If `inner` has outputs that were declared with a function by nf_target_with_outputs(), they follow:
 * functions of the constrained values.
 *
 * Rejections, threads and precision are as in nf_target_pulled_back().
 * @param inner      over the constrained values: its dimension is the sum of the constraints' dim_out. Consumed, also
 *                   on failure, and owned by the result
 * @param parameters [n], copied; the constraints are consumed, also on failure
 * @param n          at least 1
 * @return NULL on NF_EARG (no parameters; a name that is NULL or empty, has a comma, a quote or a control character, or
 * is there twice; dims NULL; no degree of freedom), NF_EDIM (dims that do not fit a constraint, values that do not fit
 * `inner`, a constraint that reads context), NF_ENOMEM; if `inner` or a constraint is NULL, on the status of the last
 * error.
 */
NF_API NF_CHECKED nf_target *nf_target_constrained(nf_target *inner, const nf_parameter *parameters, size_t n);

/* ---- outputs ---- */

/**
 * Computes the outputs of n points x [n x d]: y [n x n_outputs], row-major. Of a point whose outputs cannot be computed
 * the row is NaN, which y is before the call. Called under the target's thread rule.
 * @return 0. Anything else is fatal (NF_ETARGET); with `return nf_error(NF_ETARGET, ...)` the callback's own message
 * remains.
 */
typedef int nf_outputs_fn(void *user, size_t n, size_t d, const double *x, double *y);

/**
 * Declares the outputs of a target, in place of those that it had. Consumes t, also on failure. Targets that were made
 * of t by nf_target_pulled_back() have them, too.
 * @param n     how many; at least 1
 * @param names [n], copied; of at least one character each, all different, without commas, quotes (") and control
 *              characters, since they become columns of files
 * @param f     computes them; NULL: the outputs are the point's coordinates under these names, and n is d
 * @param user  passed to f unchanged; must live longer than the target
 * @return t. NULL on NF_EARG (n 0, bad names), NF_EDIM (f NULL and n not d), NF_ENOMEM; if t is NULL, on the status of
 * the last error.
 */
NF_API NF_CHECKED nf_target *nf_target_with_outputs(nf_target *t, size_t n, const char *const *names, nf_outputs_fn *f,
                                                    void *user);
/** The number of outputs; d if none were declared. */
NF_API size_t nf_target_n_outputs(const nf_target *t);
/**
 * The name of output k, from 0 on; "x.1" to "x.d" if none were declared. Owned by the target, and valid until its
 * outputs are declared anew. NULL if there is no output k.
 */
NF_API const char *nf_target_output_name(const nf_target *t, size_t k);
/**
 * Computes the outputs of n points x [n x d]: y [n x n_outputs]; x itself if none were declared.
 * @return NF_EARG (NULL), NF_ETARGET, NF_ENOMEM.
 */
NF_API NF_CHECKED nf_status nf_target_outputs(const nf_target *t, size_t n, const double *x, double *y);

/* ---- ownership, evaluation ---- */

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

/** What a target's callback has computed since the target was made. */
typedef struct nf_target_counts {
    size_t calls;     /**< calls of the callback */
    size_t gradients; /**< points of which it was asked log p and the gradient */
    size_t values;   /**< points of which it was asked log p alone; those that finite differences need are among them */
    size_t rejected; /**< draws that were rejected */
    double seconds;  /**< inside the callback, of all threads together */
} nf_target_counts;

/**
 * Counts what a target has computed, for every user of the target together; the difference of two counts is what was
 * computed in between. A pulled-back target counts for itself, and the target behind it counts what it was asked:
 * points where the flow had no result are counted by the former alone. Any thread may call this.
 * @param t      NULL: the counts are 0
 * @param counts written
 */
NF_API void nf_target_count(const nf_target *t, nf_target_counts *counts);

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
