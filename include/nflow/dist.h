/**
 * @file dist.h
 * Distributions: they can be sampled with reparameterised gradients, and scored.
 */
#ifndef NFLOW_DIST_H
#define NFLOW_DIST_H
#include <nflow/flow.h>
NF_BEGIN_DECLS

typedef struct nf_dist nf_dist; /**< a distribution over R^dim_out, perhaps given a context */

/** The table of a distribution type. A hook may be NULL: then this operation is refused with NF_EUNSUPPORTED. */
typedef struct nf_dist_type {
    size_t abi;   /**< sizeof(nf_dist_type); see nf_part */
    nf_part part; /**< name and common hooks */
    /**
     * x ~ q, as a smooth function of the noise p->noise; log_q[s] += log q(x_s). x is [dim x ld]. If p->log_weight is
     * given, x may come from another distribution instead, also as a smooth function of the noise. Then
     * p->log_weight[s] += log of the weight with which E[weight f(x)] is the mean of f under q. log_q is of q in both
     * cases.
     */
    nf_status (*sample)(const nf_object *o, const nf_pass *p, nf_real *x, double *log_q, void **saved);
    /**
     * Gradient of <gx, x> + <g_log_q, log_q> + <p->g_log_weight, log_weight>, with the noise constant. Gradients in
     * parameters and context are added to g. The hook does not read p->log_weight: whether samples are weighted was
     * decided while sampling. NF_EUNSUPPORTED if those samples have no such gradient.
     */
    nf_status (*sample_vjp)(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *gx,
                            const nf_real *g_log_q, const nf_grad *g);
    /** Scores: log_p[s] += log q(x_s). */
    nf_status (*score)(const nf_object *o, const nf_pass *p, const nf_real *x, double *log_p, void **saved);
    /**
     * Gradient of <g_log_p, log_p>: gx is overwritten (NULL: not wanted); gradients in parameters and context are added
     * to g.
     */
    nf_status (*score_vjp)(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *g_log_p,
                           nf_real *gx, const nf_grad *g);
    /** Makes the distribution from a description in a model file. */
    nf_dist *(*rebuild)(nf_reader *r);
    /**
     * The options of the type's constructor; NULL: none. If part.describe is NULL, `self` begins with the settled
     * struct of options, and the library writes these as the fields of a description.
     */
    const nf_option_table *options;
} nf_dist_type;

/**
 * A new distribution of a type. It consumes `children` and `self` as nf_flow_new does. own->dim_out is its dimension.
 */
NF_API nf_dist *nf_dist_new(const nf_dist_type *type, const nf_shape *own, void *self, nf_object *const *children,
                            size_t n_children);
/** The distribution as a node; borrowed. */
NF_API nf_object *nf_dist_object(nf_dist *dist);
/** The shape, children included. */
NF_API const nf_shape *nf_dist_shape(const nf_dist *dist);
/** One more reference. */
NF_API nf_dist *nf_dist_ref(nf_dist *dist);
/** Gives back a reference; NULL is allowed. */
NF_API void nf_dist_free(nf_dist *dist);

/**
 * Samples on a tile, for children, say. This and the next three functions are as the hooks of nf_dist_type.
 * nf_net_apply() says which arguments may be NULL.
 */
NF_API NF_CHECKED nf_status nf_dist_sample(const nf_object *dist, const nf_pass *p, nf_real *x, double *log_q,
                                           void **saved);
/** See nf_dist_type.sample_vjp. */
NF_API NF_CHECKED nf_status nf_dist_sample_vjp(const nf_object *dist, const nf_pass *p, const nf_real *x, void *saved,
                                               const nf_real *gx, const nf_real *g_log_q, const nf_grad *g);
/** See nf_dist_type.score. */
NF_API NF_CHECKED nf_status nf_dist_score(const nf_object *dist, const nf_pass *p, const nf_real *x, double *log_p,
                                          void **saved);
/** See nf_dist_type.score_vjp. */
NF_API NF_CHECKED nf_status nf_dist_score_vjp(const nf_object *dist, const nf_pass *p, const nf_real *x, void *saved,
                                              const nf_real *g_log_p, nf_real *gx, const nf_grad *g);

/** The standard normal in `dim` dimensions. No parameters. */
NF_API nf_dist *nf_normal(size_t dim);
/**
 * The learnt normal, with mean and log-scale of every dimension as parameters. It is nf_pushforward(nf_normal(dim),
 * nf_affine(dim)), theta: mean [dim], log-scale [dim]. The mean is in the units of x; for data whose deviations are far
 * from 1, take nf_pushforward(nf_normal(dim), nf_actnorm(dim)).
 */
NF_API nf_dist *nf_diagonal_normal(size_t dim);
/**
 * A normal with learnt mean and covariance L L^T: nf_pushforward(nf_normal(dim), nf_full_affine(dim)), theta: mean
 * [dim], log-diagonal of L [dim], rows of L below the diagonal [dim (dim - 1) / 2]. It starts as the standard normal.
 * Mean and L are in the units of x: for data, push it through nf_actnorm(dim).
 */
NF_API nf_dist *nf_full_normal(size_t dim);
/**
 * A diagonal normal whose mean [dim] and log-scale [dim] are the 2 dim features of head(context), in this order:
 * nf_pushforward(nf_normal(dim), nf_amortized(nf_affine(dim), head)).
 */
NF_API nf_dist *nf_conditional_normal(size_t dim, nf_net *head);
/** Options of nf_student_t; NULL or zeros mean the defaults. */
typedef struct nf_student_t_options {
    double df;          /**< degrees of freedom, fixed or initial; 0: 4. At least 1/2, at most 1e9 */
    const double *each; /**< [dim] degrees of freedom of each dimension, in place of df; NULL: df for all */
    bool learn;         /**< degrees of freedom are parameters, least + softplus(theta), and start from df or each */
    double least;       /**< learnt degrees of freedom are always above this; at least 1/2; 0: 1 */
} nf_student_t_options;

/**
 * Independent Student's t in every dimension, with location 0 and scale 1. Push it through nf_affine for other
 * locations and scales, or through nf_actnorm for those of data. Parameters: none, or theta [dim] if the degrees of
 * freedom are learnt. Samples are Bailey's (1994) exact function of two uniforms. The function is smooth in the degrees
 * of freedom, so its gradient is that of any reparameterisation. Scores and gradients are finite at every finite x
 * (below 1 degree of freedom: where x / sqrt(df) is finite). Samples are finite, too: no uniform gives more than a
 * float can hold. `options` is copied.
 * @return NULL on NF_EARG (dim 0, degrees of freedom out of range, or not above `least` if learnt), NF_ENOMEM.
 */
NF_API nf_dist *nf_student_t(size_t dim, const nf_student_t_options *options);
/**
 * Independent standard logistic in every dimension, with density e^-x / (1 + e^-x)^2. Push it through nf_affine for
 * location and scale, or through nf_actnorm for those of data. No parameters.
 */
NF_API nf_dist *nf_logistic(size_t dim);
/**
 * Uniform on the cube [low, high]^dim; both bounds are rounded to nf_real. No parameters. The score outside the cube is
 * -infinity, and its gradient is 0 everywhere. A flow on top of it must therefore keep data inside (boxed splines do).
 * @return NULL on NF_EARG (dim 0; not low < high, or not finite), NF_ENOMEM.
 */
NF_API nf_dist *nf_uniform(size_t dim, double low, double high);
/**
 * A mixture of diagonal normals with learnt weights, means and scales. theta: logits [n_components], whose softmax
 * gives the weights; means [n_components x dim]; log-scales [n_components x dim]. At the start the weights are equal,
 * the means are drawn from N(0, 1), and the scales are 1, in the units of x: for data, push it through nf_actnorm.
 * Scores are exact, with all gradients. nf_sample() draws
 * components at random. The gradient of nf_elbo cannot go through that choice, so nf_elbo takes the components in turn
 * (stratified) and weights the samples; see there. No other objective samples a mixture with gradients: in a VAE or in
 * nf_posterior_backward it gives NF_EUNSUPPORTED.
 * @return NULL on NF_EARG (no dimension or component, or more numbers than fit), NF_ENOMEM.
 */
NF_API nf_dist *nf_mixture(size_t dim, size_t n_components);
/**
 * A mixture of normals with learnt weights, means and covariances L L^T. theta: logits [n_components], whose softmax
 * gives the weights; means [n_components x dim]; log-diagonals of L [n_components x dim]; rows of L below the diagonal
 * [n_components x dim (dim - 1) / 2], of 1, 2, ... dim - 1 numbers, as in nf_full_normal(). At the start the weights
 * are equal, the means are drawn from N(0, 1), and each L is the identity, in the units of x. nf_fit_mixture() fits it
 * to data by expectation-maximisation, whatever their units; for gradient steps push it through nf_actnorm(). Scores
 * are exact, with all gradients. What nf_mixture() says of draws and gradients holds here, too. It has NF_PER_SAMPLE,
 * for nf_amortized_dist().
 * @return NULL on NF_EARG (no dimension or component, or more numbers than fit), NF_ENOMEM.
 */
NF_API nf_dist *nf_gaussian_mixture(size_t dim, size_t n_components);
/**
 * A mixture whose weights, means and scales depend on the context: a mixture density network (Bishop 1994). It is
 * nf_amortized_dist(nf_mixture(dim, n_components), head): the head's features are, for each sample, the parameters of
 * nf_mixture() in the order given there. With a head that ends in small weights (last_scale of nf_mlp_options) it
 * starts near a mixture with equal weights, scattered means and scales 1. What nf_mixture() says of draws and gradients
 * holds here, too. As maximum likelihood favours a component that collapses on a single row, validate, or keep rows
 * many and nets small.
 * @param head the context in, n_components (1 + 2 dim) features out; consumed
 * @return NULL on NF_EARG, NF_EDIM, NF_EUNSUPPORTED, NF_ENOMEM, as those two.
 */
NF_API nf_dist *nf_conditional_mixture(size_t dim, size_t n_components, nf_net *head);
/**
 * A distribution whose parameters are head(context), for each sample: q(x | context) = q(x; head(context)). As
 * nf_amortized() does with flows, for distributions with NF_PER_SAMPLE: nf_mixture(), nf_gaussian_mixture(), and
 * nf_pushforward() of such a distribution, or of nf_normal(), nf_logistic() or nf_uniform(), by a flow with
 * NF_PER_SAMPLE. The head's output begins at q's own initial parameters. The head reads numbers of the context beyond
 * +-2^500 (float: 2^60) as that limit. If the parameters overflow nevertheless, the sample has no result (NaN).
 * @param q    consumed; its own parameters are not among those of the new distribution
 * @param head a net without context that takes the context as its input and gives q's parameters; consumed
 * @return NULL on NF_EUNSUPPORTED (q without NF_PER_SAMPLE or with state), NF_EDIM (sizes that do not fit, a q with
 * context), NF_EARG (q has no parameters), NF_ENOMEM.
 */
NF_API nf_dist *nf_amortized_dist(nf_dist *q, nf_net *head);
/**
 * The distribution of flow(z), z ~ base: log q(x) = log base(z) - log|det d flow/dz|. The n_ctx of base and flow must
 * be equal or 0.
 * @return NULL on NF_EDIM (dimensions or contexts that do not agree), NF_ENOMEM.
 */
NF_API nf_dist *nf_pushforward(nf_dist *base, nf_flow *flow);
/**
 * The joint distribution of two parts, of which the second may depend on the first: q(h, z | context) =
 * first(h | context) rest(z | h, context). The features of x are those of h, then those of z. Several scales of an
 * image are joints inside pushforwards inside joints; a label and what it labels, or a latent variable and what depends
 * on it, are joints, too. If both parts are mixtures, nf_elbo() cannot go through the choice of the second.
 * @param first the distribution of h; may read the context. Consumed
 * @param rest  the distribution of z. Its context has no features (the parts are independent), those of h, or those of
 * h and then those of the context. Consumed
 * @return NULL on NF_EDIM (contexts that do not agree), NF_ENOMEM.
 */
NF_API nf_dist *nf_joint(nf_dist *first, nf_dist *rest);
/** Options of nf_dequantised; zero means the default. */
typedef struct nf_dequantised_options {
    size_t levels; /**< L, the whole numbers 0 .. L - 1, from 2 to 65536; 256 */
    /**
     * The difference of neighbouring levels in the units of x: x = step k. 0: 1 / (levels - 1), so that x is between 0
     * and 1, as bytes are read (nf_data.bytes). For whole numbers themselves it is 1.
     */
    double step;
} nf_dequantised_options;

/**
 * A distribution of whole numbers by a density of real ones: images, counts, rounded measurements. Fitted as they are,
 * a density would grow without bound at the few values that occur. With x = step k and noise u in the unit cube,
 *
 *     log P(x) >= E[log density((k + u) / L) - dim log L - log noise(u | x)],   u ~ noise(. | x).
 *
 * A score is the right side with one draw of u, which the call's nf_noise names (the distribution is NF_STOCHASTIC);
 * the mean over draws is a lower bound of log P(x), and log mean exp of K draws a tighter one. With noise
 * nf_uniform(dim, 0, 1) this is uniform dequantisation (Theis, van den Oord & Bethge 2016). With noise that is learnt,
 * it is variational dequantisation (Ho et al. 2019), and both parts are trained by the same likelihood; for images
 * nf_image_dequantiser() is such noise. A sample is step floor(L v) for v ~ density; its log q is its score. Samples
 * have no gradient.
 *
 * An x that is no multiple of the step (within 0.01 of it), or out of range, has log P = -infinity. The gradient in x
 * is 0. Noise outside the unit cube makes its sample NaN.
 * @param density over v in the unit cube, or in R^dim; may read the context. Consumed
 * @param noise   over the unit cube. Its context has no features, those of k / L (dim of them), or those and then those
 * of the context. Consumed
 * @param options NULL: the defaults; copied
 * @return NULL on NF_EDIM (dimensions or contexts that do not agree), NF_EARG (an option out of its range), NF_ENOMEM.
 */
NF_API nf_dist *nf_dequantised(nf_dist *density, nf_dist *noise, const nf_dequantised_options *options);
/**
 * Bits per dimension, -log_p / (dim log 2). With the log-likelihood of nf_dequantised() that is the figure papers give:
 * all constants (levels, scales, log-dets of a logit layer) are in it.
 */
static inline double nf_bits_per_dimension(double log_p, size_t dim)
{
    return -log_p / ((double)dim * 0.693147180559945309);
}
/**
 * The posterior of a VAE over z in R^dim. It is a diagonal normal pushed through `flow`. The normal's mean [dim] and
 * log-scale [dim] are the first features of the context, and `flow` reads the remaining features. Context: 2 dim +
 * flow's n_ctx features.
 * @return NULL on NF_EARG (dim 0), NF_EDIM (a flow that does not start from dim features), NF_ENOMEM.
 */
NF_API nf_dist *nf_posterior(size_t dim, nf_flow *flow);
/** The same without a flow: mean [dim] and log-scale [dim] are the 2 dim features of the context. */
NF_API nf_dist *nf_diagonal_posterior(size_t dim);

NF_END_DECLS
#endif
