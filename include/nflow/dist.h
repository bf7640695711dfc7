/**
 * @file dist.h
 * Distributions: what can be sampled with reparameterised gradients, and scored.
 */
#ifndef NFLOW_DIST_H
#define NFLOW_DIST_H
#include <nflow/flow.h>
NF_BEGIN_DECLS

typedef struct nf_dist nf_dist; /**< a distribution over R^dim_out, perhaps given a context */

/** The table of a distribution type. A hook may be NULL: the direction is refused with NF_EUNSUPPORTED. */
typedef struct nf_dist_type {
    size_t abi;   /**< sizeof(nf_dist_type); see nf_part */
    nf_part part; /**< name and common hooks */
    /**
     * x ~ q, a smooth function of the noise p->noise; log_q[s] += log q(x_s). x [dim x ld]. Where p->log_weight is
     * given, x may come from another distribution instead, as smooth a function: then p->log_weight[s] += the log of
     * the weight that makes E[weight f(x)] the mean of f under q. log_q is of q either way.
     */
    nf_status (*sample)(const nf_object *o, const nf_pass *p, nf_real *x, double *log_q, void **saved);
    /**
     * Gradient of <gx, x> + <g_log_q, log_q> + <p->g_log_weight, log_weight> with the noise held: g += parameters',
     * context's. p->log_weight is not read: what was asked for while sampling is what counts. NF_EUNSUPPORTED if those
     * samples have no such gradient.
     */
    nf_status (*sample_vjp)(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *gx,
                            const nf_real *g_log_q, const nf_grad *g);
    /** log_p[s] += log q(x_s). */
    nf_status (*score)(const nf_object *o, const nf_pass *p, const nf_real *x, double *log_p, void **saved);
    /** Gradient of <g_log_p, log_p>: gx overwritten (NULL: not wanted), g += parameters', context's. */
    nf_status (*score_vjp)(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *g_log_p,
                           nf_real *gx, const nf_grad *g);
    /** From a model file. */
    nf_dist *(*rebuild)(nf_reader *r);
} nf_dist_type;

/** A new distribution of a type; consumes children and self as nf_flow_new does. own->dim_out is its dimension. */
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

/** Tile calls for children; as the hooks of nf_dist_type. What may be NULL is said at nf_net_apply(). */
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
 * The learnt normal: mean and log-scale of every dimension are parameters. It is
 * nf_pushforward(nf_normal(dim), nf_affine(dim)), theta: mean [dim], log-scale [dim].
 */
NF_API nf_dist *nf_diagonal_normal(size_t dim);
/**
 * A normal with learnt mean and covariance L L^T: nf_pushforward(nf_normal(dim), nf_full_affine(dim)), theta: mean
 * [dim], log-diagonal of L [dim], rows of L below the diagonal [dim (dim - 1) / 2]. It starts as the standard normal.
 */
NF_API nf_dist *nf_full_normal(size_t dim);
/**
 * A diagonal normal whose mean [dim] and log-scale [dim] are head(context), head's 2 dim rows in that order:
 * nf_pushforward(nf_normal(dim), nf_amortized(nf_affine(dim), head)).
 */
NF_API nf_dist *nf_conditional_normal(size_t dim, nf_net *head);
/** Options of nf_student_t; NULL or zeros mean the defaults. */
typedef struct nf_student_t_options {
    double df;          /**< degrees of freedom, fixed or initial; 0: 4. At least 1/2, at most 1e9 */
    const double *each; /**< [dim] degrees of freedom of each dimension, in place of df; NULL: df for all */
    bool learn;         /**< they are parameters: least + softplus(theta), starting from the above */
    double least;       /**< what learnt degrees of freedom stay above; at least 1/2; 0: 1 */
} nf_student_t_options;

/**
 * Independent Student's t in every dimension, location 0 and scale 1; push it through nf_affine for others. Parameters:
 * none, or theta [dim] if learnt. Samples are Bailey's (1994) exact function of two uniforms, smooth in the degrees of
 * freedom, whose gradient is therefore that of any reparameterisation. Scores and gradients are finite at every finite
 * x (below 1 degree of freedom, where x / sqrt(df) is), and so are samples: no uniform leads to more than a float
 * holds. `options` is copied.
 * @return NULL on NF_EARG (dim 0, degrees of freedom out of range, or not above `least` if learnt), NF_ENOMEM.
 */
NF_API nf_dist *nf_student_t(size_t dim, const nf_student_t_options *options);
/**
 * Independent standard logistic in every dimension, density e^-x / (1 + e^-x)^2; push it through nf_affine for location
 * and scale. No parameters.
 */
NF_API nf_dist *nf_logistic(size_t dim);
/**
 * Uniform on the cube [low, high]^dim, both rounded to nf_real. No parameters. The score outside is -infinity, and its
 * gradient 0 everywhere: a flow on top must keep data inside (boxed splines do).
 * @return NULL on NF_EARG (dim 0; not low < high, or not finite), NF_ENOMEM.
 */
NF_API nf_dist *nf_uniform(size_t dim, double low, double high);
/**
 * A mixture of diagonal normals with learnt weights, means and scales. theta: logits [n_components], whose softmax are
 * the weights, means [n_components x dim], log-scales [n_components x dim]; the weights start equal, means as N(0, 1)
 * and scales at 1. Scores are exact, with all gradients. nf_sample() draws components at random; nf_elbo, whose
 * gradient cannot pass through that choice, deals them in turn (stratified) and weights the samples, see there. No
 * other objective samples it with gradients: in a VAE or nf_posterior_backward it gives NF_EUNSUPPORTED.
 * @return NULL on NF_EARG (no dimension or component, or more numbers than fit), NF_ENOMEM.
 */
NF_API nf_dist *nf_mixture(size_t dim, size_t n_components);
/**
 * The distribution of flow(z), z ~ base: log q(x) = log base(z) - log|det d flow/dz|. Contexts must be equal or 0.
 * @return NULL on NF_EDIM (dimensions or contexts that do not meet), NF_ENOMEM.
 */
NF_API nf_dist *nf_pushforward(nf_dist *base, nf_flow *flow);
/**
 * The posterior of a VAE over z in R^dim: a diagonal normal whose mean [dim] and log-scale [dim] are the first rows of
 * the context, pushed through `flow`, which reads the remaining rows. Context: 2 dim + flow's n_ctx rows.
 * @return NULL on NF_EARG (dim 0), NF_EDIM (a flow that does not start from dim rows), NF_ENOMEM.
 */
NF_API nf_dist *nf_posterior(size_t dim, nf_flow *flow);
/** The same without a flow: mean [dim] and log-scale [dim] are the context's 2 dim rows. */
NF_API nf_dist *nf_diagonal_posterior(size_t dim);

NF_END_DECLS
#endif
