/**
 * @file flow.h
 * Flows: bijections with parameters, exact log-determinants and gradients. A chain of flows is a flow.
 *
 * Constructors return NULL on failure; nf_error_message() says why. One that takes objects consumes a reference to
 * each, also on failure.
 */
#ifndef NFLOW_FLOW_H
#define NFLOW_FLOW_H
#include <nflow/net.h>
NF_BEGIN_DECLS

typedef struct nf_flow nf_flow; /**< a bijection x <-> y, perhaps depending on a context */

/**
 * The table of a flow type. A user's layer needs `part.name`, `abi`, `apply` and `vjp`.
 *
 * A type may leave the VJP of one direction to the library: with NF_IMPLICIT_INVERSE its `vjp` and `solve_jt` are only
 * ever called for NF_FORWARD, at a point where `apply` was run forward, and the library derives the gradient of the
 * inverse by the implicit-function theorem (with NF_IMPLICIT_FORWARD, the other way round).
 */
typedef struct nf_flow_type {
    nf_part part; /**< name and common hooks */
    size_t abi;   /**< sizeof(nf_flow_type), lets fields be appended later */
    /**
     * y = f(x) for NF_FORWARD, y = f^-1(x) for NF_INVERSE (x has the rows of the side it comes from);
     * log_det[s] += log|det dy/dx| of the direction taken; *saved: what vjp needs beyond x and y, which the caller
     * keeps; allocated on p->tape, untouched where p->tape is NULL. x and y do not overlap.
     */
    nf_status (*apply)(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved);
    /**
     * gx = J^T gy + g_log_det d(log_det)/dx, overwritten; g += the same for parameters and context.
     * g_log_det [ld]. gx is never NULL; the fields of g may be.
     */
    nf_status (*vjp)(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g);
    /** gy = J^-T gx of direction d at a saved point. NULL: no implicit gradients, no path gradients. */
    nf_status (*solve_jt)(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy);
    /** From a model file; NULL: the type cannot be loaded. */
    nf_flow *(*rebuild)(nf_reader *r);
} nf_flow_type;

/**
 * A new flow of a type. `own` is the layer's own shape (children excluded). Consumes the references in `children` and
 * owns `self`, also on failure.
 * @return NULL on NF_EARG (no apply, flags that disagree, NF_PER_SAMPLE with n_prep), NF_ENOMEM.
 */
NF_API nf_flow *nf_flow_new(const nf_flow_type *type, const nf_shape *own, void *self, nf_object *const *children,
                            size_t n_children);
/** The flow as a node; borrowed. */
NF_API nf_object *nf_flow_object(nf_flow *flow);
/** The flow's shape, children included. */
NF_API const nf_shape *nf_flow_shape(const nf_flow *flow);
/** One more reference, so that two models can share a structure. */
NF_API nf_flow *nf_flow_ref(nf_flow *flow);
/** Gives back a reference; NULL is allowed. */
NF_API void nf_flow_free(nf_flow *flow);

/** Runs a flow (a child, say) on a tile. As nf_flow_type.apply. */
NF_API NF_CHECKED nf_status nf_flow_apply(const nf_object *flow, nf_direction d, const nf_pass *p, const nf_real *x,
                                          nf_real *y, double *log_det, void **saved);
/** Its vector-Jacobian product, derived where the type leaves it to the library. As nf_flow_type.vjp. */
NF_API NF_CHECKED nf_status nf_flow_vjp(const nf_object *flow, nf_direction d, const nf_pass *p, const nf_real *x,
                                        const nf_real *y, void *saved, const nf_real *gy, const nf_real *g_log_det,
                                        nf_real *gx, const nf_grad *g);
/** gy = J^-T gx; NF_EUNSUPPORTED where a layer has no solve_jt. As nf_flow_type.solve_jt. */
NF_API NF_CHECKED nf_status nf_flow_solve_jt(const nf_object *flow, nf_direction d, const nf_pass *p, const nf_real *x,
                                             const nf_real *y, void *saved, const nf_real *gx, nf_real *gy);

/* ---- composition ---- */

/**
 * f[n-1] o ... o f[0], f[0] nearest the base. n >= 1; dimensions must meet, contexts be equal or 0.
 * @return NULL on NF_EARG (n 0, `f` NULL), NF_EDIM (dimensions or contexts that do not meet), NF_ENOMEM.
 */
NF_API nf_flow *nf_chain(nf_flow *const *f, size_t n);
/**
 * Flows side by side: block i takes its dim_in rows and gives its dim_out rows, stacked in order; log-dets add. So
 * parameters with different constraints (nflow/constraints.h), or any other flows, become one. n >= 1; contexts, which
 * all blocks share, must be equal or 0.
 * @return NULL on NF_EARG (n 0, `f` NULL), NF_EDIM (contexts that differ), NF_ENOMEM.
 */
NF_API nf_flow *nf_blocks(nf_flow *const *f, size_t n);
/** Forward and inverse swapped. */
NF_API nf_flow *nf_invert(nf_flow *f);
/**
 * f whose parameters are, for each sample, head(context): head maps its context (head's dim_in rows) to f's n_params
 * rows. f must have NF_PER_SAMPLE and read no context of its own.
 */
NF_API nf_flow *nf_amortized(nf_flow *f, nf_net *head);
/** f whose parameters are, for each sample, the context itself: n_ctx is f's n_params. Same demands on f. */
NF_API nf_flow *nf_amortized_by_context(nf_flow *f);
/**
 * f whose context is, for each sample, net(context): an embedding net. f's parameters are shared by all samples and are
 * trained beside the net's, which nf_amortized() cannot have. The net starts so that it gives the context at which f
 * starts well (nf_start_context), and f's layers that begin from data do so.
 * @param f   reads context; any flow
 * @param net takes the context as its input, gives f's n_ctx rows, and reads no context beside it
 * theta: f's, then the net's.
 * @return NULL on NF_EDIM, NF_ENOMEM.
 */
NF_API nf_flow *nf_context_net(nf_flow *f, nf_net *net);
/** f reading rows first .. first + f's n_ctx - 1 of a context of n_ctx rows. */
NF_API nf_flow *nf_on_context(nf_flow *f, size_t n_ctx, size_t first);

/* ---- couplings ---- */

/**
 * Coupling layer (Dinh et al. 2014, 2017; Durkan et al. 2019): rows i with mask[i] = 0 pass unchanged, the others are
 * transformed, y_b = transform(x_b; net(x_a, context)), and so with the inverse. The net gives the transform's
 * parameters sample by sample and is initialised so that they start about the transform's own initial ones. It reads
 * numbers beyond +-2^500 (float: 2^60), and so rows that have overflowed, as that.
 * @param dim       rows, >= 1
 * @param mask      [dim], copied; nonzero: transformed. Not all 0; all nonzero: the net takes no rows
 * @param transform takes as many rows as are transformed; NF_PER_SAMPLE, with parameters, without context and state
 * @param net       takes the rows that pass, gives the transform's n_params; its n_ctx is the coupling's
 * theta: the net's.
 * @return NULL on NF_EARG, NF_EDIM, NF_EUNSUPPORTED (no NF_PER_SAMPLE, state), NF_ENOMEM.
 */
NF_API nf_flow *nf_coupling(size_t dim, const unsigned char *mask, nf_flow *transform, nf_net *net);
/**
 * A coupling whose net gives the transform's context instead of its parameters: y_b = transform(x_b; theta, c),
 * c = net(x_a, context). The transform's own parameters are shared by all samples and trained beside the net's; it may
 * be any flow that reads context: a chain of nf_amortized() layers, nf_actnorm() and nf_lu_linear(), say. The net
 * starts so that it gives the context at which the transform starts well (nf_start_context); the transform's layers
 * that begin from data see the rows that they are to transform. All else is as in nf_coupling().
 * @param dim       rows, >= 1
 * @param mask      [dim], copied, as in nf_coupling()
 * @param transform takes as many rows as are transformed, and reads n_ctx >= 1 rows of context
 * @param net       takes the rows that pass, gives the transform's n_ctx; its own n_ctx is the coupling's
 * theta: the transform's, then the net's.
 * @return NULL on NF_EARG, NF_EDIM, NF_ENOMEM.
 */
NF_API nf_flow *nf_coupling_by_context(size_t dim, const unsigned char *mask, nf_flow *transform, nf_net *net);
/**
 * Masks for the k-th coupling of a chain, k = 0, 1, ...: for even k nf_mask_halves() transforms the second half (the
 * shorter one), nf_mask_alternating() rows 1, 3, ..., nf_mask_random() dim / 2 rows chosen at random, anew for every
 * pair of layers; for odd k the complement. If dim is 1, that one row is transformed. mask [dim], written: 1 or 0.
 * @return how many rows are transformed; 0 if `mask` is NULL (NF_EARG) or dim is 0.
 */
NF_API size_t nf_mask_halves(size_t dim, size_t k, unsigned char *mask);
/** See nf_mask_halves(). */
NF_API size_t nf_mask_alternating(size_t dim, size_t k, unsigned char *mask);
/** See nf_mask_halves(). The choice is a function of dim, k and seed, the same in both precisions. */
NF_API size_t nf_mask_random(size_t dim, size_t k, uint64_t seed, unsigned char *mask);

/* ---- layers ---- */

/**
 * y = x exp(s) + m, elementwise. theta: m [dim], s [dim]. Starts as the identity.
 *
 * Overflow: exp(s) alone may overflow where y does not. A y beyond the largest number is infinite, with its sign; the
 * log-det is exact all the same, so that a log-density there is finite or -infinity. Elementwise layers, couplings and
 * autoregressive flows make no NaN of an infinite row: values stay numbers or infinite. But the gradients of a sample
 * that has overflowed can be infinite or NaN, and so the sums over samples; nf_fit skips such a step. In y, |s| above
 * 1416 (float: 173) counts as that.
 */
NF_API nf_flow *nf_affine(size_t dim);
/**
 * Activation normalisation (Kingma & Dhariwal 2018, section 3.1): y = x exp(s) + m, elementwise, with m and s from the
 * initial batch (nf_model_init), so that each row of it leaves with mean 0 and deviation 1 in the direction in which it
 * goes; after that they are parameters like any others. A row whose deviation is not above the rounding of its numbers
 * (a constant, a batch of one) is only centred. Without a batch it starts as the identity. theta: m [dim], s [dim].
 * A loaded model has the numbers of its file and is never initialised. Not for amortisation, since amortised
 * parameters do not begin from data.
 * @return NULL on NF_EARG (dim 0), NF_ENOMEM. Initialisation fails with NF_ENOTFINITE where data are not finite.
 */
NF_API nf_flow *nf_actnorm(size_t dim);

/** Options of nf_batch_norm; zero means the default. */
typedef struct nf_batch_norm_options {
    double momentum; /**< r, the weight of the past in a step's new statistics; 0.9 */
    double eps;      /**< added to the variance; 1e-5 */
} nf_batch_norm_options;

/**
 * Batch normalisation by lagged moving statistics (after Dinh et al. 2017, Real NVP, appendix E), for densities: in
 * inverse, from data to base, x = (y - mean) / sqrt(variance + eps), elementwise. The statistics are those of earlier
 * steps, not of the batch at hand: an exact inverse and log-det, no dependence between samples, no gradient through
 * them, and the same ones in training and evaluation. Each training step's inverse passes then move them:
 * mean += (1 - r) (batch's mean - mean), and the variance likewise, as that of the past and the batch taken together.
 * Forward passes undo the normalisation and leave the statistics; for a posterior take nf_invert(nf_batch_norm(...)).
 *
 * No parameters: follow it by nf_affine for a learnt scale and shift (Papamakarios et al. 2017, appendix B). State:
 * mean [dim], variance [dim], steps; the first steps' batches weigh the same until r is reached. An initial batch that
 * comes in inverse (nf_model_init) sets mean and variance; without, the first step sees the identity, and the variance
 * of data that lie 1e8 deviations (float: 1e4) or more from 0 is lost in rounding at first. A row with a sum that is
 * not finite keeps its statistics. nf_fit and nf_objective_gradient move the state. Cannot be amortised.
 * @param options NULL: the defaults
 * @return NULL on NF_EARG (dim 0, a momentum or eps not between 0 and 1), NF_ENOMEM. Initialisation fails with
 * NF_ENOTFINITE where data are not finite.
 */
NF_API nf_flow *nf_batch_norm(size_t dim, const nf_batch_norm_options *options);

/** y = x + m, elementwise (Dinh et al. 2014, NICE, section 3.2). theta: m [dim]. log-det 0. Starts as the identity. */
NF_API nf_flow *nf_shift(size_t dim);

/**
 * How nf_scaled_affine gets its scale s from a parameter a; t = a + bias, u the upper and l the lower limit of log s.
 * All are smooth, except that NF_SCALE_CLAMP has no gradient outside its limits.
 */
typedef enum nf_scale {
    NF_SCALE_EXP,        /**< log s = t, unbounded; the default. Overflows to infinity, see nf_affine() */
    NF_SCALE_TANH,       /**< log s = u tanh(t / u) (Dinh et al. 2017, Real NVP) */
    NF_SCALE_CLAMP,      /**< log s = t clipped to [-l, u] */
    NF_SCALE_SOFTSIGN,   /**< log s = t / (1 + |t| / u) (zuko's form) */
    NF_SCALE_ATAN,       /**< log s = (2 u / pi) atan(t / u) (Ardizzone et al. 2019) */
    NF_SCALE_ASYMMETRIC, /**< the same with u where t >= 0 and l where t < 0 (Andrade 2024) */
    NF_SCALE_SIGMOID,    /**< s = sigmoid(t) + floor (Kingma et al. 2016, IAF; there floor is 0). The inverse can
                            overflow as with NF_SCALE_EXP if floor is 0 */
    NF_SCALE_SOFTPLUS    /**< s = log(1 + exp t) + floor; its inverse likewise */
} nf_scale;

/** Options of nf_scaled_affine; zero means the default. */
typedef struct nf_scaled_affine_options {
    nf_scale scale; /**< the form of the scale */
    double limit;   /**< u; by default 2 (tanh), 5 (clamp), ln 1000 (softsign), 1.9 (atan), 0.1 (asymmetric) */
    double lower;   /**< l, of clamp and asymmetric; by default `limit` if that is given, else 5 and 2 */
    double bias;    /**< added to a: 1 or 2 opens IAF's forget gate at the start */
    double floor;   /**< added to the scale, of sigmoid and softplus */
    bool gated;     /**< y = s x + (1 - s) m (Kingma et al. 2016, eq. 10), for NF_SCALE_SIGMOID */
} nf_scaled_affine_options;

/**
 * y = s x + m, elementwise, with a scale that cannot run away. theta, dimension by dimension: m_i, a_i. Zero parameters
 * are the identity, save with sigmoid (there s = sigmoid(bias) + floor) and softplus (log(1 + exp(bias)) + floor).
 * nflows' MAF is NF_SCALE_SOFTPLUS with floor 1e-3, in old versions NF_SCALE_SIGMOID with bias 2 and floor 1e-3.
 * @param options NULL: NF_SCALE_EXP
 * @return NULL on NF_EARG (dim 0, a limit that is negative, above 700 or not for this scale, `gated` without sigmoid),
 * NF_ENOMEM.
 */
NF_API nf_flow *nf_scaled_affine(size_t dim, const nf_scaled_affine_options *options);

/** Options of nf_spline; zero means the default. */
typedef struct nf_spline_options {
    size_t bins;       /**< K, pieces of the spline; 8 */
    double box;        /**< B: the spline maps [-B, B] onto itself; 3 */
    double min_width;  /**< least width of a piece, in units of 2 B; 1e-3 */
    double min_height; /**< least height, likewise; 1e-3 */
    double min_slope;  /**< least slope at a knot; 1e-3 */
    bool circular;     /**< f(x + 2 B) = f(x) + 2 B, instead of the identity outside the box */
} nf_spline_options;

/**
 * Elementwise monotone rational-quadratic spline (Durkan et al. 2019), with slope 1 at both ends of the box and the
 * identity outside, exactly. Circular (Rezende et al. 2020): a map of the circle of circumference 2 B that fixes -B,
 * as its lift to the line, so that y is in the box where x is; wrap angles before or after.
 *
 * theta, dimension by dimension: w [K], h [K], d [K - 1] (circular: d [K], d[0] at the ends), of which widths are
 * 2 B (min_width + (1 - K min_width) softmax(w)), heights likewise, and the slopes between pieces
 * min_slope + log(1 + exp(d + c)). c = log(exp(1 - min_slope) - 1) makes zero parameters the identity; the paper's code
 * has no c, so numbers trained there want c subtracted from d, and (where a net computes them) w and h divided by
 * whatever that code divides them by.
 *
 * Finite for all finite x and parameters; a slope above 1e15 (double: 1e140) times its piece's is taken for that.
 * @param options NULL: the defaults
 * @return NULL on NF_EARG (dim 0, a box not in 1e-15..1e15, a least share below 1e-6 or of 1 / K, a least slope not in
 * 1e-6..1), NF_ENOMEM.
 */
NF_API nf_flow *nf_spline(size_t dim, const nf_spline_options *options);
/**
 * y = W x + b, W = P L (U + diag(sign exp(s))) with P a fixed permutation, L unit lower, U strictly upper triangular
 * (Kingma & Dhariwal 2018, section 3.2). theta: L's d(d-1)/2, U's d(d-1)/2, s [dim], b [dim]. prep: M = P^T W, M^-1,
 * the log-det and e^s; rows of M may be longer than dim. P and the signs are drawn from `seed`; W starts as P
 * diag(sign). With the seed NF_LU_IDENTITY there is neither: W = L U starts as the identity (Durkan et al. 2019). The
 * learnt permutation of Glow: it starts as a permutation and moves away from it.
 */
NF_API nf_flow *nf_lu_linear(size_t dim, uint64_t seed);
#define NF_LU_IDENTITY UINT64_MAX /**< the seed of an nf_lu_linear without permutation and signs */
/**
 * y = m + L x, L lower triangular with diagonal exp(s): a standard normal becomes any normal, of covariance L L^T. Both
 * directions are exact: products and substitution. theta: m [dim], s [dim], l: the rows of L below the diagonal, 1, 2,
 * ... dim - 1 numbers. Starts as the identity. NF_PER_SAMPLE: amortised full covariances.
 */
NF_API nf_flow *nf_full_affine(size_t dim);
/**
 * y = m + exp(s) (x + W W^T x), W [dim x rank]: a standard normal becomes any normal of covariance D^2 + U U^T, D
 * diagonal and U [dim x rank] (factor analysis), at a cost of dim rank a sample. The log-det is sum s + log det(I + W^T
 * W), and the inverse is Woodbury's, which loses about log10(1 + |W|^2) digits, as the log-det does where columns of W
 * are nearly parallel; |W|^2 must not overflow. theta: m [dim], s [dim], W by rows. Starts near the identity with small
 * random W, since W = 0 has no gradient. NF_PER_SAMPLE.
 * @param rank from 1 to dim
 */
NF_API nf_flow *nf_low_rank_affine(size_t dim, size_t rank);
/** y[i] = x[order[i]]; order [dim] is copied and must be a permutation of 0..dim-1. */
NF_API nf_flow *nf_permutation(size_t dim, const size_t *order);
/** The permutation y[i] = x[dim - 1 - i]. */
NF_API nf_flow *nf_reverse(size_t dim);
/** A permutation drawn from `seed`, the same in both precisions. A learnt one is nf_lu_linear. */
NF_API nf_flow *nf_random_permutation(size_t dim, uint64_t seed);

/** Options of nf_soft_log; zero means the default. */
typedef struct nf_soft_log_options {
    double threshold; /**< t, up to which the layer is the identity; 100 */
} nf_soft_log_options;

/**
 * The soft-log tail layer for posteriors with heavy tails (Andrade 2024, LOFT), elementwise: forward, from base to
 * target, y = sign(x) (min(|x|, t) + log(1 + max(|x| - t, 0))), so that the draws of the layers before it, however far
 * they went, grow as a logarithm beyond t and stay finite. Put it behind the layers that may run away and before a last
 * nf_affine, which gives the target's location and scale. The inverse is the exponential, exact, and overflows to
 * infinity beyond t + 709 (float: t + 88); nf_invert makes that the forward direction. No parameters.
 * @param options NULL: the defaults
 * @return NULL on NF_EARG (dim 0, a threshold that is not above 0 or is above 1e15), NF_ENOMEM.
 */
NF_API nf_flow *nf_soft_log(size_t dim, const nf_soft_log_options *options);
/**
 * y = x + u^ tanh(w.x + b) (Rezende & Mohamed 2015, eq. 10), u^ = u + (m(w.u) - w.u) w / |w|^2, m(a) = -1 + log(1+e^a)
 * (appendix A.1). theta: w [dim], u [dim], b. The inverse is a bracketed Newton iteration on w.x, to rounding.
 * |w|^2, w.u and w.x must not overflow; a w whose squared length is below the normal numbers counts as 0.
 */
NF_API nf_flow *nf_planar(size_t dim);
/**
 * y = x + beta (x - z0) / (alpha + |x - z0|) (Rezende & Mohamed 2015, eq. 14), alpha = exp(a),
 * beta = -alpha + log(1+e^b) (appendix A.2). theta: z0 [dim], a, b. The inverse is in closed form. alpha and alpha +
 * beta are kept between 2^-500 and 2^500 (float: 2^-60, 2^60), so that their quotients are numbers.
 */
NF_API nf_flow *nf_radial(size_t dim);
/**
 * y = H_{n-1} ... H_0 x, H_j = I - 2 v_j v_j^T / |v_j|^2, a chain of reflections (Tomczak & Welling 2016).
 * theta: v [n x dim]. log-det 0; the inverse is the chain from the other end. A v whose squared length is below the
 * normal numbers, 0 above all, or overflows reflects nothing and has no gradient; v.x must not overflow. Starts with
 * random directions.
 * @param n reflections, >= 1; with n = dim every orthogonal map of determinant (-1)^dim is one
 * @return NULL on NF_EARG (dim or n is 0, or too large), NF_ENOMEM.
 */
NF_API nf_flow *nf_householder(size_t dim, size_t n);

/** What Q is in nf_sylvester. */
typedef enum nf_sylvester_kind {
    NF_SYLVESTER_ORTHOGONAL,  /**< [dim x columns], by as many reflections; the default */
    NF_SYLVESTER_HOUSEHOLDER, /**< [dim x dim], by `reflections` reflections */
    NF_SYLVESTER_TRIANGULAR   /**< the identity, or the reversal of the rows */
} nf_sylvester_kind;

/** Options of nf_sylvester; zero means the default. */
typedef struct nf_sylvester_options {
    nf_sylvester_kind kind; /**< what Q is */
    size_t columns;         /**< M of the orthogonal kind, at most dim; by default 8, or dim if that is less */
    size_t reflections;     /**< of the Householder kind; by default 8, or dim if that is less */
    bool reversed;          /**< of the triangular kind: Q reverses the order; to alternate from layer to layer */
} nf_sylvester_options;

/**
 * y = x + Q R tanh(R~ Q^T x + b) (van den Berg et al. 2018): R and R~ upper triangular [M x M], Q [dim x M] with
 * orthonormal columns, M = dim but for the orthogonal kind.
 *
 * theta: v [n x dim], R above its diagonal row by row [M (M - 1) / 2], R~ likewise, alpha [M], alpha~ [M], b [M]. The
 * diagonals are tanh(alpha) and tanh(alpha~), which makes the map invertible for all parameters. Q is the first M
 * columns of H_0 ... H_{n-1}, H_j = I - 2 v_j v_j^T / |v_j|^2 (see nf_householder()), orthogonal to rounding; n is M in
 * the orthogonal kind, where the paper orthogonalises a matrix of as many numbers by iteration, and 0 in the triangular
 * one.
 *
 * The inverse solves a monotone equation a row of Q^T x, to rounding. Starts near the identity, Q drawn at random.
 * @param options NULL: orthogonal, M = 8
 * @return NULL on NF_EARG (dim 0, more columns than rows, an option of another kind, overflow), NF_ENOMEM.
 */
NF_API nf_flow *nf_sylvester(size_t dim, const nf_sylvester_options *options);

/**
 * An autoregressive flow: in the given order, each dimension goes through `transform` with parameters that the masked
 * net computes from the dimensions before it and the context. In the direction `parallel` that is one pass of the net;
 * in the other, dimension after dimension, the sum of the steps is one pass too, since every hidden unit is computed
 * once. NF_FORWARD is IAF (Kingma et al. 2016): fast sampling with log q; NF_INVERSE is MAF (Papamakarios et al. 2017).
 * The net reads numbers as nf_coupling()'s does.
 * @param transform of one dimension, NF_PER_SAMPLE: nf_affine(1), nf_scaled_affine(1, ...), nf_spline(1, ...)
 * @param masked an nf_masked_net whose n_per_dim is the transform's n_params; its inputs are the rows in order
 * @param order [dim]: the row that comes t-th; copied. NULL: ascending
 * Parameters: the net's.
 * @return NULL on NF_EUNSUPPORTED (not NF_PER_SAMPLE), NF_EDIM, NF_EARG, NF_ENOMEM.
 */
NF_API nf_flow *nf_autoregressive(nf_flow *transform, nf_net *masked, const size_t *order, nf_direction parallel);
/**
 * An autoregressive flow whose net gives, for each dimension, the transform's context instead of its parameters: one
 * transform with parameters theta serves all dimensions, y_t = transform(x_t; theta, c_t), c_t = net_t(x_<t, context).
 * All else is as in nf_autoregressive(). The transform's layers that begin from data see the samples of all dimensions,
 * at the context at which the transform starts well.
 * @param transform of one dimension, reads n_ctx >= 1 rows of context, has no state; its parameters are shared
 * @param masked    an nf_masked_net whose n_per_dim is the transform's n_ctx; its inputs are the rows in order
 * @param order     [dim]: the row that comes t-th; copied. NULL: ascending
 * theta: the transform's, then the net's.
 * @return NULL on NF_EUNSUPPORTED (a transform with state), NF_EDIM, NF_EARG, NF_ENOMEM.
 */
NF_API nf_flow *nf_autoregressive_by_context(nf_flow *transform, nf_net *masked, const size_t *order,
                                             nf_direction parallel);

NF_END_DECLS
#endif
