/**
 * @file flow.h
 * Flows: bijections with parameters, exact log-determinants and gradients. A chain of flows is a flow.
 *
 * Constructors return NULL on failure; nf_error_message() says why. A constructor that takes objects consumes a
 * reference to each, also on failure (nf_object_ref()).
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
     * y = f(x) for NF_FORWARD, y = f^-1(x) for NF_INVERSE. x has the features of the side where the direction starts.
     * log_det[s] += log|det dy/dx| of the direction taken. *saved becomes what vjp needs beside x and y, which the
     * caller keeps. It is allocated on p->tape; where p->tape is NULL, *saved is not changed. x and y do not overlap.
     * If a sample cannot be computed, its features of y and its log_det become NaN; the other samples are not affected.
     */
    nf_status (*apply)(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved);
    /**
     * gx = J^T gy + g_log_det d(log_det)/dx, overwritten. The same gradient in parameters and context is added to g.
     * g_log_det is [ld]. gx and g are never NULL; the fields of g may be. If p->g_penalty is given, the gradients are
     * those of the penalty, too (nf_pass.penalty).
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
    /**
     * The options of the type's constructor; NULL: none. If part.describe is NULL, `self` begins with the settled
     * struct of options, and the library writes these as the fields of a description.
     */
    const nf_option_table *options;
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

NF_END_DECLS
#endif
