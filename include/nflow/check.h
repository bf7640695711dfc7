/**
 * @file check.h
 * nf_check_flow: are a flow's inverse, log-dets and gradients right? It checks any flow, also a user's own.
 */
#ifndef NFLOW_CHECK_H
#define NFLOW_CHECK_H
#include <nflow/model.h>
NF_BEGIN_DECLS

/** Options of nf_check_flow; zeros mean the defaults. */
typedef struct nf_check_options {
    size_t n;           /**< points, 0: 16 */
    uint64_t seed;      /**< of the random points, directions and parameters */
    double scale;       /**< points are N(0, scale^2), 0: 1; NF_ZERO: all points are 0 */
    double theta_scale; /**< noise N(0, theta_scale^2) is first added to (a copy of) the model's theta; 0: none */
    double radius;      /**< step of the finite differences, 0: 1e-5 in double, 1e-2 in float */
} nf_check_options;

/** The worst errors over all points. Index 0 is forward, 1 is inverse. A direction that is not supported leaves NaN. */
typedef struct nf_check_report {
    double inverse_error[2]; /**< |f^-1(f(x)) - x| / (1 + |x|), and the other way round */
    /** |log_det - log|det J||, with a dense J from the VJP, and its determinant by GSL's QR; only if J is square. */
    double log_det_error[2];
    double x_error[2];     /**< relative error of the VJP in x against a central difference along random directions */
    double theta_error[2]; /**< the same for parameters; 0 if there are none */
    double ctx_error[2];   /**< the same for context; 0 if there is none */
    /**
     * The same for the penalty alone (nf_pass.penalty, of which the three before know nothing): the largest error of
     * its gradients in x, parameters and context; 0 if the flow has none at these points.
     */
    double penalty_error[2];
    double log_det_min[2]; /**< the smallest log-det seen */
    double log_det_max[2]; /**< the largest */
    /**
     * How many dimensions of y are never transformed: at every point they are a copy of some dimension of x, perhaps
     * moved by permutations. (They may steer others, as in couplings.)
     */
    size_t untouched;
} nf_check_report;

/**
 * Checks the flow of a model (a model of a flow, or of a pushforward) at random points, with random context.
 * @return NF_OK whatever the errors are; NF_EARG, NF_ESTALE (see nf_model_update()), NF_ENOMEM; what the flow's own
 * hooks return.
 */
NF_API NF_CHECKED nf_status nf_check_flow(const nf_model *m, const nf_check_options *options, nf_check_report *report);

NF_END_DECLS
#endif
