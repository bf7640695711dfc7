/**
 * @file monotone.h
 * Elementwise layers of one's own: the library makes a flow of a formula y = f(x) for one number, and inverts every
 * increasing function.
 *
 * A new layer is its formula, the formula's derivative, and a table:
 *
 *     static nf_status forward(const nf_feature *f, const nf_real *x, nf_real *y, nf_real *log_slope) { ... }
 *     static nf_status vjp(const nf_feature *f, const nf_real *x, const nf_real *gy, const nf_real *g_log_slope,
 *                          nf_real *gx, nf_real *g_theta) { ... }
 *     static const nf_formula formula = {.abi = sizeof(nf_formula), .forward = forward, .vjp = vjp};
 *     static const nf_flow_type type = {NF_FORMULA_HOOKS, .part.name = "mine", .rebuild = rebuild};
 *
 *     nf_flow *mine(size_t dim)
 *     {
 *         const nf_shape own = {.dim_in = dim, .n_params = 2 * dim, .flags = NF_PER_SAMPLE};
 *         return nf_formula_flow(&type, &formula, &own, NULL, 0, NULL, 0);
 *     }
 *
 * Such a flow has both directions, log-dets and all gradients. With NF_PER_SAMPLE it also goes into couplings,
 * autoregressive and amortised flows. examples/custom_layer.c is a whole program.
 */
#ifndef NFLOW_MONOTONE_H
#define NFLOW_MONOTONE_H
#include <nflow/flow.h>
NF_BEGIN_DECLS

/** One feature (dimension) of a tile, and what a formula may read to compute it. */
typedef struct nf_feature {
    const nf_object *flow; /**< the flow as a node: its shape and children */
    const void *options;   /**< the options that nf_formula_flow() was given: its own copy */
    size_t index;          /**< which feature, 0 .. dim-1 */
    size_t n_params;       /**< the feature's parameters: n_params / dim of the flow */
    size_t ld;           /**< samples, a multiple of 16. Formulas compute the padding of a tile like any other sample */
    size_t theta_stride; /**< as in nf_pass: 0 or 1 */
    const nf_real *theta; /**< [n_params], or [n_params x ld] if theta_stride is 1; nf_feature_param() reads it */
    const nf_real *ctx;   /**< [n_ctx / dim x ld], the feature's part of the flow's context; NULL if it reads none */
    nf_real *g_ctx;       /**< in `vjp`: the gradient in this part, to be added to. NULL: not wanted */
    const nf_pass *pass;  /**< the flow's pass: its scratch memory, and what children need */
    const nf_grad *grad;  /**< in `vjp`: the flow's gradients, for those of children. Else NULL */
} nf_feature;

/** Parameter k of sample s. */
static inline nf_real nf_feature_param(const nf_feature *f, size_t k, size_t s)
{
    return f->theta_stride ? f->theta[k * f->ld + s] : f->theta[k];
}

/**
 * A formula y = f(x; parameters), increasing in x. All hooks work on one feature: arrays are [ld], a number for each
 * sample. Hooks return NF_OK or an error, which ends the call. If a sample cannot be computed, its log_slope becomes
 * NaN; the library then makes NaN of its result.
 */
typedef struct nf_formula {
    size_t abi;             /**< sizeof(nf_formula); see nf_part */
    const char *parameters; /**< name of the parameters' tensor [dim x n_params] in model files; NULL: "theta" */
    /** y = f(x) and log_slope = log dy/dx. y and x do not overlap. */
    nf_status (*forward)(const nf_feature *f, const nf_real *x, nf_real *y, nf_real *log_slope);
    /**
     * gx = gy dy/dx + g_log_slope d(log_slope)/dx, and the same gradient in each parameter, sample by sample, to
     * g_theta [n_params x ld]. Both are overwritten; the library sums where parameters are shared. g_theta is NULL if
     * it is not wanted or there are no parameters. The gradient in the context is added to f->g_ctx, that of children
     * to f->grad. Everything written or added is 0 in a sample where gy and g_log_slope are 0.
     */
    nf_status (*vjp)(const nf_feature *f, const nf_real *x, const nf_real *gy, const nf_real *g_log_slope, nf_real *gx,
                     nf_real *g_theta);
    /**
     * x = f^-1(y) and log_slope = log dx/dy, in closed form. NULL: the library solves f(x) = y by nf_monotone_solve().
     * Gradients need no hook: they follow from those of `forward`.
     */
    nf_status (*inverse)(const nf_feature *f, const nf_real *y, nf_real *x, nf_real *log_slope);
} nf_formula;

/**
 * A flow that applies a formula to each feature. theta, feature by feature: the formula's parameters.
 * @param type     the flow's table: NF_FORMULA_HOOKS, a name, perhaps init, describe and rebuild
 * @param formula  must outlive the flow
 * @param own      the layer's own shape. dim_in, and n_params as a multiple of dim_in; NF_PER_SAMPLE if the formula
 *                 reads its parameters by nf_feature_param(); n_ctx, a multiple of dim_in, if it reads context,
 *                 which has the part of feature 0, then that of feature 1, ... dim_out and the flags of implicit
 *                 directions are filled in
 * @param options  `size` bytes, copied: what the formula needs beside its parameters. NULL with size 0: nothing. They
 *                 must not contain pointers to memory of their own
 * @param children [n_children] or NULL; consumed, also on failure
 * @return NULL on NF_EARG (dim_in 0, n_params or n_ctx no multiple of it, a hook or a name is missing), NF_ENOMEM.
 */
NF_API nf_flow *nf_formula_flow(const nf_flow_type *type, const nf_formula *formula, const nf_shape *own,
                                const void *options, size_t size, nf_object *const *children, size_t n_children);
/** The options of such a flow: the copy that belongs to it. */
NF_API const void *nf_formula_options(const nf_object *flow);

/**
 * What the table of such a flow begins with. The hooks that it names are the following functions, which expect a flow
 * of nf_formula_flow().
 */
#define NF_FORMULA_HOOKS                                                                                            \
    .abi = sizeof(nf_flow_type), .apply = nf_formula_apply, .vjp = nf_formula_vjp, .solve_jt = nf_formula_solve_jt, \
    .part.slices = nf_formula_slices, .part.destroy = nf_formula_destroy

/** See NF_FORMULA_HOOKS; nf_flow_type.apply. */
NF_API nf_status nf_formula_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                                  double *log_det, void **saved);
/** See NF_FORMULA_HOOKS; nf_flow_type.vjp, of the forward direction. */
NF_API nf_status nf_formula_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                const nf_real *y, void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx,
                                const nf_grad *g);
/** See NF_FORMULA_HOOKS; nf_flow_type.solve_jt, of the forward direction. */
NF_API nf_status nf_formula_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                     const nf_real *y, void *saved, const nf_real *gx, nf_real *gy);
/** See NF_FORMULA_HOOKS; nf_part.slices. */
NF_API void nf_formula_slices(const nf_object *o, nf_slice_fn *each, void *user);
/** See NF_FORMULA_HOOKS; nf_part.destroy. */
NF_API void nf_formula_destroy(void *self);

/**
 * An increasing function, for nf_monotone_solve(): y = f(x) and slope = dy/dx, for ld samples at once. The slope may be
 * approximate, also by a factor: the solver is then slower. y may become infinite or NaN where x is too large.
 */
typedef nf_status nf_monotone_fn(void *user, const nf_real *x, nf_real *y, nf_real *slope);

/**
 * Solves f(x) = y for each of ld samples, to rounding, by Newton's iteration. Each sample keeps a bracket around its
 * root, which grows geometrically until the root is inside; a step that leaves it or makes little progress is replaced
 * by bisection. So the result does not depend on the other samples, nor on where the function is flat or steep, and
 * most smooth functions need 5 to 10 evaluations. At most 140 are made.
 *
 * x becomes NaN where y is NaN, where f has no root (or only infinite values beyond it), and where f is NaN at 0. An
 * infinite y gives the same infinity.
 * @param ld samples, a multiple of 16
 * @param y, x [ld]; they do not overlap
 * @param scratch memory for temporaries, given back
 * @return NF_ENOMEM, or the status with which f failed.
 */
NF_API NF_CHECKED nf_status nf_monotone_solve(size_t ld, nf_monotone_fn *f, void *user, const nf_real *y, nf_real *x,
                                              nf_arena *scratch);

NF_END_DECLS
#endif
