/**
 * @file flow.h
 * Flows: bijections with parameters, exact log-determinants and gradients. A chain of flows is a flow.
 *
 * Constructors return NULL on failure; nf_error_message() says why. A constructor that takes objects consumes a
 * reference to each, also on failure.
 */
#ifndef NFLOW_FLOW_H
#define NFLOW_FLOW_H
#include <nflow/net.h>
NF_BEGIN_DECLS

typedef struct nf_flow nf_flow; /**< a bijection x <-> y, perhaps depending on a context */

/**
 * The table of a flow type. A user's layer needs `abi`, `part.name`, `apply` and `vjp`.
 *
 * A type may leave the VJP of one direction to the library. With NF_IMPLICIT_INVERSE, its `vjp` and `solve_jt` are only
 * called for NF_FORWARD, at a point where `apply` was run forward. The library then computes the gradient of the
 * inverse by the implicit-function theorem. With NF_IMPLICIT_FORWARD the two directions are exchanged.
 */
typedef struct nf_flow_type {
    size_t abi;   /**< sizeof(nf_flow_type); see nf_part */
    nf_part part; /**< name and common hooks */
    /**
     * y = f(x) for NF_FORWARD, y = f^-1(x) for NF_INVERSE. x has the rows of the side where the direction starts.
     * log_det[s] += log|det dy/dx| of the direction taken. *saved becomes what vjp needs beside x and y, which the
     * caller keeps. It is allocated on p->tape; where p->tape is NULL, *saved is not changed. x and y do not overlap.
     * If a sample cannot be computed, its rows of y and its log_det become NaN; the other samples are not affected.
     */
    nf_status (*apply)(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved);
    /**
     * gx = J^T gy + g_log_det d(log_det)/dx, overwritten. The same gradient in parameters and context is added to g.
     * g_log_det is [ld]. gx and g are never NULL; the fields of g may be.
     */
    nf_status (*vjp)(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g);
    /**
     * gy = J^-T gx of direction d at a point that `apply` has saved. NULL: the type has no implicit gradients and no
     * path gradients.
     */
    nf_status (*solve_jt)(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy);
    /** Makes the flow from a description in a model file. NULL: the type cannot be loaded. */
    nf_flow *(*rebuild)(nf_reader *r);
} nf_flow_type;

/**
 * A new flow of a type. `own` is the layer's own shape, without its children. Consumes the references in `children` and
 * owns `self`, also on failure.
 * @return NULL on NF_EARG (no apply, flags that contradict each other, NF_PER_SAMPLE with n_prep), NF_ENOMEM.
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

/** Runs a flow (a child, say) on a tile. As nf_flow_type.apply. nf_net_apply() says which arguments may be NULL. */
NF_API NF_CHECKED nf_status nf_flow_apply(const nf_object *flow, nf_direction d, const nf_pass *p, const nf_real *x,
                                          nf_real *y, double *log_det, void **saved);
/**
 * The flow's vector-Jacobian product. If the type leaves it to the library, the library computes it. As
 * nf_flow_type.vjp.
 */
NF_API NF_CHECKED nf_status nf_flow_vjp(const nf_object *flow, nf_direction d, const nf_pass *p, const nf_real *x,
                                        const nf_real *y, void *saved, const nf_real *gy, const nf_real *g_log_det,
                                        nf_real *gx, const nf_grad *g);
/** gy = J^-T gx. NF_EUNSUPPORTED if a layer has no solve_jt. As nf_flow_type.solve_jt. */
NF_API NF_CHECKED nf_status nf_flow_solve_jt(const nf_object *flow, nf_direction d, const nf_pass *p, const nf_real *x,
                                             const nf_real *y, void *saved, const nf_real *gx, nf_real *gy);

/* ---- composition ---- */

/**
 * A chain of flows, f[n-1] o ... o f[0]; f[0] is nearest to the base. n >= 1. Dimensions of neighbours must agree;
 * contexts must be equal or 0.
 * @return NULL on NF_EARG (n 0, `f` NULL), NF_EDIM (dimensions or contexts that do not agree), NF_ENOMEM.
 */
NF_API nf_flow *nf_chain(nf_flow *const *f, size_t n);
/**
 * Flows side by side: block i takes its dim_in rows and gives its dim_out rows. The blocks' rows are stacked in order,
 * and their log-dets are added. In this way parameters with different constraints (nflow/constraints.h), or any other
 * flows, become one flow. n >= 1. All blocks share the context; their n_ctx must be equal or 0.
 * @return NULL on NF_EARG (n 0, `f` NULL), NF_EDIM (contexts that differ), NF_ENOMEM.
 */
NF_API nf_flow *nf_blocks(nf_flow *const *f, size_t n);
/** f with forward and inverse exchanged. */
NF_API nf_flow *nf_invert(nf_flow *f);
/**
 * f with parameters head(context), for each sample its own. head maps its context (head's dim_in rows) to f's n_params
 * rows. f must have NF_PER_SAMPLE and read no context itself.
 */
NF_API nf_flow *nf_amortized(nf_flow *f, nf_net *head);
/**
 * f with the context itself as its parameters, for each sample its own: n_ctx is f's n_params. f must be as in
 * nf_amortized().
 */
NF_API nf_flow *nf_amortized_by_context(nf_flow *f);
/**
 * f with the context net(context), for each sample its own: net is an embedding net. f's parameters are shared by all
 * samples and are trained together with the net's; in nf_amortized() f has no parameters of its own. The net starts so
 * that it gives the context at which f starts well (nf_start_context). Layers of f that begin from data get a batch, as
 * usual.
 * @param f   reads context; any flow
 * @param net takes the context as its input, gives f's n_ctx rows, and reads no context beside its input
 * theta: f's, then the net's.
 * @return NULL on NF_EDIM, NF_ENOMEM.
 */
NF_API nf_flow *nf_context_net(nf_flow *f, nf_net *net);
/** f that reads rows first .. first + f's n_ctx - 1 of a context of n_ctx rows. */
NF_API nf_flow *nf_on_context(nf_flow *f, size_t n_ctx, size_t first);

/* ---- couplings ---- */

/**
 * Coupling layer (Dinh et al. 2014, 2017; Durkan et al. 2019). Rows i with mask[i] = 0 pass unchanged: x_a. The other
 * rows, x_b, are transformed: y_b = transform(x_b; net(x_a, context)). The inverse works in the same way. The net gives
 * the transform's parameters sample by sample. It is initialised so that these parameters start near the transform's
 * own initial ones. The net reads numbers beyond +-2^500 (float: 2^60), also infinite ones of rows that have
 * overflowed, as +-2^500 (2^60).
 * @param dim       rows, >= 1
 * @param mask      [dim], copied; nonzero: transformed. Not all 0; if all are nonzero, the net takes no rows
 * @param transform takes as many rows as are transformed; NF_PER_SAMPLE, with parameters, without context and state
 * @param net       takes the rows that pass, gives the transform's n_params; its n_ctx is the coupling's
 * theta: the net's.
 * @return NULL on NF_EARG, NF_EDIM, NF_EUNSUPPORTED (no NF_PER_SAMPLE, state), NF_ENOMEM.
 */
NF_API nf_flow *nf_coupling(size_t dim, const unsigned char *mask, nf_flow *transform, nf_net *net);
/**
 * A coupling whose net gives the transform's context instead of its parameters: y_b = transform(x_b; theta, c),
 * c = net(x_a, context). The transform's own parameters are shared by all samples and are trained together with the
 * net's. The transform may be any flow that reads context: a chain of nf_amortized() layers, nf_actnorm() and
 * nf_lu_linear(), say. The net starts so that it gives the context at which the transform starts well
 * (nf_start_context). The transform's layers that begin from data get the rows that the transform will change.
 * Everything else is as in nf_coupling().
 * @param dim       rows, >= 1
 * @param mask      [dim], copied, as in nf_coupling()
 * @param transform takes as many rows as are transformed, and reads n_ctx >= 1 rows of context
 * @param net       takes the rows that pass, gives the transform's n_ctx; its own n_ctx is the coupling's
 * theta: the transform's, then the net's.
 * @return NULL on NF_EARG, NF_EDIM, NF_ENOMEM.
 */
NF_API nf_flow *nf_coupling_by_context(size_t dim, const unsigned char *mask, nf_flow *transform, nf_net *net);
/**
 * Masks for the k-th coupling of a chain (k = 0, 1, ...). For even k, the transformed rows are: by nf_mask_halves() the
 * second half (the shorter one); by nf_mask_alternating() rows 1, 3, ...; by nf_mask_random() dim / 2 rows that are
 * chosen at random, anew for every pair of layers. For odd k they are the complement. If dim is 1, its one row is
 * always transformed. mask [dim] is written: 1 (transformed) or 0.
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
 * Overflow: exp(s) alone may overflow even if y does not. A y beyond the largest number becomes infinite, with its
 * sign. Its log-det is exact nevertheless, so a log-density there is finite or -infinity. Elementwise layers, couplings
 * and autoregressive flows make no NaN from an infinite row: values remain numbers or infinite. But the gradients of a
 * sample that has overflowed can be infinite or NaN, and then so are the sums over samples. nf_fit leaves out a sample
 * whose loss is not finite, and skips a step whose gradient is not finite. In y, an |s| above 1416 (float: 173) counts
 * as 1416 (173).
 */
NF_API nf_flow *nf_affine(size_t dim);
/**
 * Activation normalisation (Kingma & Dhariwal 2018, section 3.1): y = x exp(s) + m, elementwise. m and s come from the
 * initial batch (nf_model_init): each row (feature) of the batch, in the direction in which it goes through, gets mean
 * 0 and standard deviation 1. After that m and s are parameters like any others. If the deviation of a row is not above
 * the rounding of its numbers (a constant, or a batch of one sample), the row is only centred. Without a batch the
 * layer starts as the identity. theta: m [dim], s [dim]. A loaded model has the numbers of its file and is never
 * initialised. Not for amortisation, because amortised parameters do not begin from data.
 * @return NULL on NF_EARG (dim 0), NF_ENOMEM. Initialisation fails with NF_ENOTFINITE if data are not finite.
 */
NF_API nf_flow *nf_actnorm(size_t dim);

/** Options of nf_batch_norm; zero means the default. */
typedef struct nf_batch_norm_options {
    double momentum; /**< r, the weight of the past in a step's new statistics; 0.9 */
    double eps;      /**< added to the variance; 1e-5 */
} nf_batch_norm_options;

/**
 * Batch normalisation by lagged moving statistics (after Dinh et al. 2017, Real NVP, appendix E), for densities. In
 * inverse, from data to base, it computes x = (y - mean) / sqrt(variance + eps), elementwise. The statistics are those
 * of earlier steps, not of the present batch. Inverse and log-det are therefore exact, samples do not depend on each
 * other, no gradient goes through the statistics, and they are the same in training and evaluation. The inverse passes
 * of each training step then move them: mean += (1 - r) (batch's mean - mean). The variance is moved likewise, to that
 * of the past and the batch taken together. Forward passes undo the normalisation and do not move the statistics. For a
 * posterior take nf_invert(nf_batch_norm(...)).
 *
 * The layer has no parameters: put nf_affine after it for a learnt scale and shift (Papamakarios et al. 2017, appendix
 * B). State: mean [dim], variance [dim], number of steps. The batches of the first steps have equal weights until the
 * weight of the past reaches r. An initial batch that goes in inverse (nf_model_init) sets mean and variance. Without
 * one, the first step computes the identity (up to eps); if data lie 1e8 deviations (float: 1e4) or more from 0, their
 * variance is at first lost in rounding. A row whose sum is not finite keeps its statistics. nf_fit and
 * nf_objective_gradient move the state. The layer cannot be amortised.
 * @param options NULL: the defaults
 * @return NULL on NF_EARG (dim 0, a momentum or eps not between 0 and 1), NF_ENOMEM. Initialisation fails with
 * NF_ENOTFINITE if data are not finite.
 */
NF_API nf_flow *nf_batch_norm(size_t dim, const nf_batch_norm_options *options);

/** y = x + m, elementwise (Dinh et al. 2014, NICE, section 3.2). theta: m [dim]. log-det 0. Starts as the identity. */
NF_API nf_flow *nf_shift(size_t dim);

/**
 * How nf_scaled_affine computes its scale s from a parameter a. t = a + bias; u is the upper limit of log s, and l the
 * lower one. All forms are smooth, except that NF_SCALE_CLAMP has no gradient outside its limits.
 */
typedef enum nf_scale {
    NF_SCALE_EXP,        /**< log s = t, unbounded; the default. Overflows to infinity, see nf_affine() */
    NF_SCALE_TANH,       /**< log s = u tanh(t / u) (Dinh et al. 2017, Real NVP) */
    NF_SCALE_CLAMP,      /**< log s = t clipped to [-l, u] */
    NF_SCALE_SOFTSIGN,   /**< log s = t / (1 + |t| / u) (zuko's form) */
    NF_SCALE_ATAN,       /**< log s = (2 u / pi) atan(t / u) (Ardizzone et al. 2019) */
    NF_SCALE_ASYMMETRIC, /**< as NF_SCALE_ATAN, with u where t >= 0 and l where t < 0 (Andrade 2024) */
    NF_SCALE_SIGMOID,    /**< s = sigmoid(t) + floor (Kingma et al. 2016, IAF; there floor is 0). If floor is 0, the
                            inverse can overflow as with NF_SCALE_EXP */
    NF_SCALE_SOFTPLUS    /**< s = log(1 + exp t) + floor; the inverse can overflow likewise */
} nf_scale;

/** Options of nf_scaled_affine; zero means the default. */
typedef struct nf_scaled_affine_options {
    nf_scale scale; /**< the form of the scale */
    double limit;   /**< u; by default 2 (tanh), 5 (clamp), ln 1000 (softsign), 1.9 (atan), 0.1 (asymmetric) */
    double lower;   /**< l, of clamp and asymmetric; by default `limit` if that is given, else 5 and 2 */
    double bias;    /**< added to a: with 1 or 2, IAF's forget gate is open at the start */
    double floor;   /**< added to the scale, of sigmoid and softplus */
    bool gated;     /**< y = s x + (1 - s) m (Kingma et al. 2016, eq. 10), for NF_SCALE_SIGMOID */
} nf_scaled_affine_options;

/**
 * y = s x + m, elementwise, with a scale that can be bounded. theta, dimension by dimension: m_i, a_i. With zero
 * parameters this is the identity, except with sigmoid (then s = sigmoid(bias) + floor) and softplus (then
 * s = log(1 + exp(bias)) + floor). The MAF of the package nflows has NF_SCALE_SOFTPLUS with floor 1e-3; in old versions
 * it has NF_SCALE_SIGMOID with bias 2 and floor 1e-3.
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
 * Elementwise monotone rational-quadratic spline (Durkan et al. 2019). Its slope is 1 at both ends of the box, and
 * outside the box it is exactly the identity. Circular (Rezende et al. 2020): the spline is a map of the circle of
 * circumference 2 B that keeps -B fixed. It is computed as a map of the line with f(x + 2 B) = f(x) + 2 B, so y is in
 * the box if x is; wrap angles before or after.
 *
 * theta, dimension by dimension: w [K], h [K], d [K - 1] (circular: d [K], d[0] at the ends). The widths are
 * 2 B (min_width + (1 - K min_width) softmax(w)), the heights likewise, and the slopes between pieces are
 * min_slope + log(1 + exp(d + c)). With c = log(exp(1 - min_slope) - 1), zero parameters give the identity. The paper's
 * code has no c. To use numbers that were trained there, subtract c from d, and (where a net computes them) divide w
 * and h by the number by which that code divides them.
 *
 * Values are finite for all finite x and parameters. A slope above 1e15 (double: 1e140) times its piece's mean slope
 * counts as this bound.
 * @param options NULL: the defaults
 * @return NULL on NF_EARG (dim 0, a box not in 1e-15..1e15, a least share below 1e-6 or of 1 / K, a least slope not in
 * 1e-6..1), NF_ENOMEM.
 */
NF_API nf_flow *nf_spline(size_t dim, const nf_spline_options *options);
/**
 * y = W x + b, W = P L (U + diag(sign exp(s))). P is a fixed permutation, L unit lower triangular, U strictly upper
 * triangular (Kingma & Dhariwal 2018, section 3.2). This is the learnt permutation of Glow: it starts as a permutation
 * and moves away from it. theta: L's d(d-1)/2, U's d(d-1)/2, s [dim], b [dim], with d = dim. prep: M = P^T W, M^-1, the
 * log-det and e^s; rows of M may be stored with a stride larger than dim. P and the signs are drawn from `seed`, and W
 * starts as P diag(sign). With the seed NF_LU_IDENTITY there is no permutation and all signs are +: W = L U starts as
 * the identity (Durkan et al. 2019).
 */
NF_API nf_flow *nf_lu_linear(size_t dim, uint64_t seed);
#define NF_LU_IDENTITY UINT64_MAX /**< the seed of an nf_lu_linear without permutation and signs */
/**
 * y = m + L x, L lower triangular with diagonal exp(s). It turns a standard normal into any normal distribution, whose
 * covariance is L L^T. Both directions are exact: products and substitution. theta: m [dim], s [dim], l: the rows of L
 * below the diagonal, of 1, 2, ... dim - 1 numbers. Starts as the identity. It has NF_PER_SAMPLE, for amortised full
 * covariances.
 */
NF_API nf_flow *nf_full_affine(size_t dim);
/**
 * y = m + exp(s) (x + W W^T x), W [dim x rank]. It turns a standard normal into any normal distribution of covariance
 * D^2 + U U^T, with D diagonal and U [dim x rank] (factor analysis). The cost is of order dim rank a sample. The
 * log-det is sum s + log det(I + W^T W). The inverse is Woodbury's formula, which loses about log10(1 + |W|^2) digits;
 * the log-det loses as many if columns of W are nearly parallel. |W|^2 must not overflow. theta: m [dim], s [dim], W by
 * rows. Starts near the identity with small random W, because W = 0 has no gradient. It has NF_PER_SAMPLE.
 * @param rank from 1 to dim
 */
NF_API nf_flow *nf_low_rank_affine(size_t dim, size_t rank);
/** The permutation y[i] = x[order[i]]. order [dim] is copied and must be a permutation of 0..dim-1. */
NF_API nf_flow *nf_permutation(size_t dim, const size_t *order);
/** The permutation y[i] = x[dim - 1 - i]. */
NF_API nf_flow *nf_reverse(size_t dim);
/** A permutation that is drawn from `seed`, the same in both precisions. For a learnt one take nf_lu_linear. */
NF_API nf_flow *nf_random_permutation(size_t dim, uint64_t seed);

/** Options of nf_soft_log; zero means the default. */
typedef struct nf_soft_log_options {
    double threshold; /**< t: the layer is the identity up to |x| = t; 100 */
} nf_soft_log_options;

/**
 * The soft-log tail layer for posteriors with heavy tails (Andrade 2024, LOFT), elementwise. Forward, from base to
 * target, y = sign(x) (min(|x|, t) + log(1 + max(|x| - t, 0))). Draws that the layers before it have taken very far
 * therefore grow only as a logarithm beyond t, and stay finite. Put this layer after the layers that may diverge and
 * before a last nf_affine, which gives the target's location and scale. The inverse is the exponential. It is exact and
 * overflows to infinity beyond t + 709 (float: t + 88); with nf_invert it is the forward direction. No parameters.
 * @param options NULL: the defaults
 * @return NULL on NF_EARG (dim 0, a threshold that is not above 0 or is above 1e15), NF_ENOMEM.
 */
NF_API nf_flow *nf_soft_log(size_t dim, const nf_soft_log_options *options);
/**
 * y = x + u^ tanh(w.x + b) (Rezende & Mohamed 2015, eq. 10), u^ = u + (m(w.u) - w.u) w / |w|^2, m(a) = -1 + log(1+e^a)
 * (appendix A.1). theta: w [dim], u [dim], b. The inverse is a bracketed Newton iteration on w.x, to rounding. |w|^2,
 * w.u and w.x must not overflow. A w whose squared length is below the smallest normal number counts as 0.
 */
NF_API nf_flow *nf_planar(size_t dim);
/**
 * y = x + beta (x - z0) / (alpha + |x - z0|) (Rezende & Mohamed 2015, eq. 14), alpha = exp(a),
 * beta = -alpha + log(1+e^b) (appendix A.2). theta: z0 [dim], a, b. The inverse is in closed form. alpha and alpha +
 * beta are kept between 2^-500 and 2^500 (float: 2^-60 and 2^60), so that their quotients are finite.
 */
NF_API nf_flow *nf_radial(size_t dim);
/**
 * y = H_{n-1} ... H_0 x, H_j = I - 2 v_j v_j^T / |v_j|^2, a chain of reflections (Tomczak & Welling 2016). theta: v
 * [n x dim]. log-det 0; the inverse is the chain in reverse order. If the squared length of a v is below the smallest
 * normal number (0, say) or overflows, this v reflects nothing and has no gradient. v.x must not overflow. Starts with
 * random directions.
 * @param n reflections, >= 1; with n = dim every orthogonal map of determinant (-1)^dim is one
 * @return NULL on NF_EARG (dim or n is 0, or too large), NF_ENOMEM.
 */
NF_API nf_flow *nf_householder(size_t dim, size_t n);

/** What Q is in nf_sylvester. */
typedef enum nf_sylvester_kind {
    NF_SYLVESTER_ORTHOGONAL,  /**< [dim x columns], by as many reflections; the default */
    NF_SYLVESTER_HOUSEHOLDER, /**< [dim x dim], by `reflections` reflections */
    NF_SYLVESTER_TRIANGULAR   /**< the identity, or the rows in reverse order */
} nf_sylvester_kind;

/** Options of nf_sylvester; zero means the default. */
typedef struct nf_sylvester_options {
    nf_sylvester_kind kind; /**< what Q is */
    size_t columns;         /**< M of the orthogonal kind, at most dim; by default 8, or dim if that is less */
    size_t reflections;     /**< of the Householder kind; by default 8, or dim if that is less */
    bool reversed;          /**< of the triangular kind: Q reverses the order of rows; set it in every other layer */
} nf_sylvester_options;

/**
 * y = x + Q R tanh(R~ Q^T x + b) (van den Berg et al. 2018). R and R~ are upper triangular [M x M], and Q [dim x M] has
 * orthonormal columns. M = dim, except in the orthogonal kind.
 *
 * theta: v [n x dim], R above its diagonal row by row [M (M - 1) / 2], R~ likewise, alpha [M], alpha~ [M], b [M]. The
 * diagonals are tanh(alpha) and tanh(alpha~), which makes the map invertible for all parameters. Q is the first M
 * columns of H_0 ... H_{n-1}, H_j = I - 2 v_j v_j^T / |v_j|^2 (see nf_householder()), and is orthogonal to rounding. n
 * is M in the orthogonal kind; there the paper makes a matrix of as many numbers orthogonal by an iteration. n is 0 in
 * the triangular kind.
 *
 * The inverse solves one monotone equation for each row of Q^T x, to rounding. Starts near the identity, with Q drawn
 * at random.
 * @param options NULL: orthogonal, M = 8
 * @return NULL on NF_EARG (dim 0, more columns than rows, an option of another kind, overflow), NF_ENOMEM.
 */
NF_API nf_flow *nf_sylvester(size_t dim, const nf_sylvester_options *options);

/**
 * An autoregressive flow. In the given order, each dimension goes through `transform`, whose parameters the masked net
 * computes from the dimensions before it and from the context. In the direction `parallel` this takes one pass of the
 * net. In the other direction the dimensions are computed one after the other; all steps together also cost one pass,
 * since every hidden unit is computed once. With `parallel` NF_FORWARD it is IAF (Kingma et al. 2016): fast sampling
 * with log q. With NF_INVERSE it is MAF (Papamakarios et al. 2017). The net reads numbers beyond +-2^500 (float: 2^60)
 * as that of nf_coupling() does.
 * @param transform of one dimension, NF_PER_SAMPLE: nf_affine(1), nf_scaled_affine(1, ...), nf_spline(1, ...)
 * @param masked an nf_masked_net whose n_per_dim is the transform's n_params; its inputs are the rows in order
 * @param order [dim]: the row that comes t-th; copied. NULL: ascending
 * Parameters: the net's.
 * @return NULL on NF_EUNSUPPORTED (not NF_PER_SAMPLE), NF_EDIM, NF_EARG, NF_ENOMEM.
 */
NF_API nf_flow *nf_autoregressive(nf_flow *transform, nf_net *masked, const size_t *order, nf_direction parallel);
/**
 * An autoregressive flow whose net gives, for each dimension, the transform's context instead of its parameters. One
 * transform with parameters theta serves all dimensions: y_t = transform(x_t; theta, c_t), c_t = net_t(x_<t, context).
 * The transform's layers that begin from data get the samples of all dimensions, at the context at which the transform
 * starts well. Everything else is as in nf_autoregressive().
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
