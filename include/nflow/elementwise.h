/**
 * @file elementwise.h
 * Flows that transform each feature by itself: affine maps, normalisation, splines, tails.
 *
 * Constructors return NULL on failure; nf_error_message() says why.
 */
#ifndef NFLOW_ELEMENTWISE_H
#define NFLOW_ELEMENTWISE_H
#include <nflow/flow.h>
NF_BEGIN_DECLS

/**
 * y = x exp(s) + m, elementwise. theta: m [dim], s [dim]. Starts as the identity. m is in the units of y, so a step of
 * training moves it by the same number whatever the deviation of y is: where y are data, put nf_actnorm() next to them,
 * or standardise them.
 *
 * Overflow: exp(s) alone may overflow even if y does not. A y beyond the largest number becomes infinite, with its
 * sign. Its log-det is exact nevertheless, so a log-density there is finite or -infinity. Elementwise layers, couplings
 * and autoregressive flows make no NaN from an infinite feature: values remain numbers or infinite. But the gradients
 * of a sample that has overflowed can be infinite or NaN, and then so are the sums over samples. nf_fit leaves out a
 * sample whose loss is not finite, and skips a step whose gradient is not finite. In y, an |s| above 1416 (float: 173)
 * counts as 1416 (173).
 */
NF_API nf_flow *nf_affine(size_t dim);
/**
 * Activation normalisation (Kingma & Dhariwal 2018, section 3.1), an elementwise affine map that begins from data. The
 * initial batch (nf_model_init) gives each feature's mean M and the logarithm S of its deviation, which stay in the
 * state. Of the standardised data u, the layer is y = u exp(s) + m with the parameters m and s, which are 0 after the
 * initial batch. If the batch comes from the target's side (densities), data are y exp(S) + M, with y = x exp(s) + m;
 * if it comes from the base's side (nf_invert(nf_actnorm(dim)), posteriors), u = (x - M) exp(-S). In either case each
 * feature of the batch leaves with mean 0 and standard deviation 1.
 *
 * A fit therefore makes the same steps in every unit of the data: this is the layer to put next to data that are not
 * standardised. (In the paper, M and S are the initial values of m and s. A step of 0.001 is then 1000 deviations of
 * data whose deviation is 1e-6.)
 *
 * If the deviation of a feature is not above the rounding of its numbers (a constant, or a batch of one sample), the
 * feature is only centred. Without a batch M and S are 0, and the layer starts as the identity. theta: m [dim], s
 * [dim]. State: M [dim], S [dim], and 1 if the data are on the base's side, else 0. Training does not move it. A loaded
 * model has the numbers of its file and is never initialised. Files of an older form have no state: there the data's
 * mean and deviation are in m and s, and the layer is nf_affine. Not for amortisation, because amortised parameters do
 * not begin from data.
 * @return NULL on NF_EARG (dim 0), NF_ENOMEM. Initialisation fails with NF_ENOTFINITE if data are not finite.
 */
NF_API nf_flow *nf_actnorm(size_t dim);

/** Options of nf_batch_norm; zero means the default. */
typedef struct nf_batch_norm_options {
    /**
     * r, the weight of the past in a step's new statistics; 0.9. PyTorch's momentum is 1 - decay. NF_ZERO: the
     * statistics are those of the last step's batch.
     */
    double decay;
    double eps; /**< added to the variance, in the square of the data's unit; 1e-5 */
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
 * The statistics follow the data's unit, but eps does not: of data whose deviation is below 0.03, it is more than 1 %
 * of the variance. Such data need a smaller eps, or nf_actnorm() between the layer and them.
 *
 * The layer has no parameters: put nf_affine after it for a learnt scale and shift (Papamakarios et al. 2017, appendix
 * B). State: mean [dim], variance [dim], number of steps. The batches of the first steps have equal weights until the
 * weight of the past reaches r. An initial batch that goes in inverse (nf_model_init) sets mean and variance. Without
 * one, the first step computes the identity (up to eps); if data lie 1e8 deviations (float: 1e4) or more from 0, their
 * variance is at first lost in rounding. A feature whose sum is not finite keeps its statistics. Variances are at most
 * the largest number of nf_real (float: 3.4e38, a deviation of 1.8e19). nf_fit and nf_objective_gradient move the
 * state. The layer cannot be amortised.
 * @param options NULL: the defaults
 * @return NULL on NF_EARG (dim 0, a decay not in [0, 1), an eps not between 0 and 1), NF_ENOMEM. Initialisation fails
 * with NF_ENOTFINITE if data are not finite.
 */
NF_API nf_flow *nf_batch_norm(size_t dim, const nf_batch_norm_options *options);

/**
 * y = x + m, elementwise (Dinh et al. 2014, NICE, section 3.2). theta: m [dim]. log-det 0. Starts as the identity. m is
 * in the units of the data, see nf_affine().
 */
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
    NF_SCALE_SOFTPLUS,   /**< s = log(1 + exp t) + floor; the inverse can overflow likewise */
    /** s = 1 / sigmoid(t): the inverse is (y - m) sigmoid(t), as in the code of Glow (Kingma & Dhariwal 2018) */
    NF_SCALE_INVERSE_SIGMOID
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
 * parameters this is the identity, except with sigmoid (then s = sigmoid(bias) + floor), inverse sigmoid (then
 * s = 1 / sigmoid(bias)) and softplus (then s = log(1 + exp(bias)) + floor). m is in the units of y, see nf_affine(),
 * and a bounded scale reaches data of any deviation only behind nf_actnorm(). The MAF of the package nflows has
 * NF_SCALE_SOFTPLUS with floor 1e-3; in old versions it has NF_SCALE_SIGMOID with bias 2 and floor 1e-3.
 * @param options NULL: NF_SCALE_EXP
 * @return NULL on NF_EARG (dim 0, a limit that is negative, above 700 or not for this scale, `gated` without sigmoid),
 * NF_ENOMEM.
 */
NF_API nf_flow *nf_scaled_affine(size_t dim, const nf_scaled_affine_options *options);

/** How the parameters of nf_spline become widths, heights and slopes. */
typedef enum nf_spline_form {
    NF_SPLINE_SOFTPLUS, /**< as in the code of Durkan et al. (2019): see nf_spline(); the default */
    /**
     * As in the package zuko: softmaxes and logarithms of slopes are softly clipped, and no share has a least value of
     * its own. See nf_spline()
     */
    NF_SPLINE_SOFT_CLIPPED
} nf_spline_form;

/** Options of nf_spline; zero means the default. */
typedef struct nf_spline_options {
    size_t bins;       /**< K, pieces of the spline; 8 */
    double box;        /**< B: the spline maps the box [-B, B] onto itself; 3 */
    double min_width;  /**< least width of a piece, in units of the box's size; 1e-3 */
    double min_height; /**< least height, likewise; 1e-3 */
    double min_slope;  /**< least slope at a knot; 1e-3 */
    bool circular;     /**< f(x + 2 B) = f(x) + 2 B, instead of the identity outside the box */
    double low;        /**< if low and high are not both 0, the box is [low, high], rounded to nf_real ... */
    double high;       /**< ... and `box` must be 0 or half its size. B is half its size below */
    /** The slopes at both ends of the box are parameters, too, instead of 1. For densities on an interval, see below */
    bool free_ends;
    nf_spline_form form; /**< how parameters become widths, heights and slopes */
} nf_spline_options;

/**
 * Elementwise monotone rational-quadratic spline (Durkan et al. 2019). Its slope is 1 at both ends of the box, and
 * outside the box it is exactly the identity. Circular (Rezende et al. 2020): the spline is a map of the circle of
 * circumference 2 B that keeps the ends of the box fixed. It is computed as a map of the line with f(x + 2 B) = f(x) +
 * 2 B, so y is in the box if x is; wrap angles before or after.
 *
 * Free ends (in other libraries "no tails", or unconstrained boundary slopes) are for densities on an interval, whose
 * values at the interval's edges are then free:
 *
 *     nf_pushforward(nf_uniform(dim, 0, 1), nf_spline(dim, &(nf_spline_options){.high = 1, .free_ends = true}))
 *
 * With slopes of 1, this density would be 1 at both edges whatever the data. The box with its edges is mapped onto
 * itself. Outside it the spline is still the identity, so the density of a uniform base on the box is 0 there
 * (-infinity as a logarithm), however many layers there are. Between the layers use what keeps the box:
 * couplings, autoregressive flows and permutations, but no linear layer. With another base than a uniform one the
 * density has jumps at the edges.
 *
 * theta, dimension by dimension: w [K], h [K], d [K - 1] (circular: d [K], d[0] at the ends; free ends: d [K + 1]). The
 * widths are 2 B (min_width + (1 - K min_width) softmax(w)), the heights likewise, and the slopes are
 * min_slope + log(1 + exp(d + c)). With c = log(exp(1 - min_slope) - 1), zero parameters give the identity. The paper's
 * code has no c. To use numbers that were trained there, subtract c from d, and (where a net computes them) divide w
 * and h by the number by which that code divides them.
 *
 * With NF_SPLINE_SOFT_CLIPPED, C(a, u) = a / (1 + |a| / u) and u = -log(min_slope), the widths are
 * 2 B softmax(C(w, u / 2)), the heights likewise, and the slopes exp(C(d, u)), between min_slope and 1 / min_slope.
 * Zero parameters give the identity, and min_width and min_height are not used. These are the splines of the package
 * zuko, with the same numbers.
 *
 * B is in the units of x and y: data far outside the box are not changed, and data far smaller than a bin see one
 * slope. Put nf_actnorm() between the data and the spline, or standardise them.
 *
 * Values are finite for all finite x and parameters. A slope above 1e15 (double: 1e140) times its piece's mean slope
 * counts as this bound.
 * @param options NULL: the defaults
 * @return NULL on NF_EARG (dim 0, a box not in 1e-15..1e15, edges that are not in this order or not the box's, a least
 * share below 1e-6 or of 1 / K, a least slope not in 1e-6..1, free ends of a circle), NF_ENOMEM.
 */
NF_API nf_flow *nf_spline(size_t dim, const nf_spline_options *options);
/** Options of nf_soft_log; zero means the default. */
typedef struct nf_soft_log_options {
    double threshold; /**< t: the layer is the identity up to |x| = t; 100 */
} nf_soft_log_options;

/**
 * The soft-log tail layer for posteriors with heavy tails (Andrade 2024, LOFT), elementwise. Forward, from base to
 * target, y = sign(x) (min(|x|, t) + log(1 + max(|x| - t, 0))). Draws that the layers before it have taken very far
 * therefore grow only as a logarithm beyond t, and stay finite. Put this layer after the layers that may diverge and
 * before a last nf_affine, which gives the target's location and scale. The inverse is the exponential. Its value grows
 * to 2^1000 (float: 2^120) and no further, because the layers below would make NaN of infinity; its log-det is exact
 * everywhere. So a density far out is 0 (-infinity as a logarithm). With nf_invert it is the forward direction. No
 * parameters. t is in the units of x, the base's side.
 * @param options NULL: the defaults
 * @return NULL on NF_EARG (dim 0, a threshold that is not above 0 or is above 1e15), NF_ENOMEM.
 */
NF_API nf_flow *nf_soft_log(size_t dim, const nf_soft_log_options *options);

/** Options of nf_sos_polynomial; zero means the default. */
typedef struct nf_sos_polynomial_options {
    size_t polynomials; /**< K, how many squares are added; 3 */
    size_t degree;      /**< L, of each polynomial; 4, at most 31 */
    double box;         /**< B: the map is a polynomial on [-B, B], and linear outside; 10 */
    double min_slope;   /**< m, the least slope; 1e-3 */
} nf_sos_polynomial_options;

/**
 * Sum-of-squares polynomials, elementwise (Jaini, Selby & Yu 2019):
 *
 *     y = c + integral from 0 to x of g(t / B) dt,   g(u) = 1/K sum_k (1 + sum_j a_kj u^j)^2 + m,   j = 0 .. L.
 *
 * The integral is exact. Outside [-B, B] the slope stays what it is at the end of the box, so that every finite x has a
 * finite image and the inverse of a large y is found at once. Inside the box this is the transform of the package zuko,
 * with the same numbers. theta, feature by feature: a [K x (L + 1)], c. With zero parameters y = (1 + m) x; the layer
 * starts near that, with small random a, because equal polynomials would stay equal. Squares of a must not overflow. B
 * and c are in the units of x and y: put nf_actnorm() between data and the layer, or standardise them. The inverse is
 * iterated (nf_monotone_solve()); if the density is what you need, take nf_invert(nf_sos_polynomial(...)).
 * @param options NULL: the defaults
 * @return NULL on NF_EARG (dim 0, a degree above 31, a box not in 1e-15..1e15, a least slope not in 1e-6..1),
 * NF_ENOMEM.
 */
NF_API nf_flow *nf_sos_polynomial(size_t dim, const nf_sos_polynomial_options *options);

/** Options of nf_monotone_net; zero means the default. */
typedef struct nf_monotone_net_options {
    size_t nodes;     /**< of the quadrature; 32, at most 256 */
    double min_slope; /**< m, the least value of the integrand; 1e-3 */
} nf_monotone_net_options;

/**
 * An unconstrained monotone net, elementwise (Wehenkel & Louppe 2019, UMNN). Feature i is
 *
 *     y_i = b_i + integral from 0 to x_i of f(t, c_i) dt,   f = log(1 + exp(net(t, c_i))) + m,
 *
 * by Gauss-Legendre quadrature: F(x) = x sum_k w_k f(x t_k, c). The log-det is that of F itself, log F'(x), in which
 * the quadrature is differentiated, too, and not log f(x). So log-det, inverse and gradients are exact for the function
 * that is computed, for any number of nodes. With smooth units and 32 nodes, F' and f agree to rounding; with few nodes
 * for a rough net, F can differ from the integral, and where it is not increasing the sample has no result (NaN).
 *
 * The flow's context, feature by feature: b_i, then the net's own context c_i. A net without context makes a flow
 * without context, and b is 0. Usually a net gives the context: nf_coupling_by_context(),
 * nf_autoregressive_by_context() and nf_context_net(). theta: the net's, shared by features and samples.
 *
 * The net runs on all nodes at once; nothing is kept for gradients, but computed again. Dropout in the net is not used.
 * It begins where its output gives a slope of 1, if its last weights are small (last_scale). The net reads x as it is:
 * put nf_actnorm() between data and the layer, or standardise them. The inverse is iterated
 * (nf_monotone_solve()).
 * @param net     one input, one output, any context; consumed. Its type must have a tangent (all nets of the library
 * do): else calls give NF_EUNSUPPORTED
 * @param options NULL: the defaults
 * @return NULL on NF_EARG (dim 0, too many nodes, a least slope not in 1e-6..0.5), NF_EDIM, NF_EUNSUPPORTED (the net
 * draws noise), NF_ENOMEM.
 */
NF_API nf_flow *nf_monotone_net(size_t dim, nf_net *net, const nf_monotone_net_options *options);

NF_END_DECLS
#endif
