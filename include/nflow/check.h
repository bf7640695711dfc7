/**
 * @file check.h
 * nf_check_flow: is this flow what it claims to be? For any flow, a user's own included.
 */
#ifndef NFLOW_CHECK_H
#define NFLOW_CHECK_H
#include <nflow/model.h>
NF_BEGIN_DECLS

/** What to check with; zeros mean the defaults. */
typedef struct nf_check_options {
    size_t n;           /**< points, 0: 16 */
    uint64_t seed;      /**< of points, directions, parameters */
    double scale;       /**< points are N(0, scale^2), 0: 1 */
    double theta_scale; /**< N(0, theta_scale^2) is added to the model's theta (in a copy) first; 0: none */
    double radius;      /**< step of the finite differences, 0: 1e-5 in double, 1e-2 in float */
} nf_check_options;

/** Worst errors over points; a direction that is not supported leaves NaN. [0] is forward, [1] inverse. */
typedef struct nf_check_report {
    double inverse_error[2]; /**< |f^-1(f(x)) - x| / (1 + |x|), and the other way round */
    double
        log_det_error[2]; /**< |log_det - log|det J||, J dense from the VJP, its determinant by GSL's QR; square only */
    double x_error[2];    /**< relative error of the VJP in x against a central difference along random directions */
    double theta_error[2]; /**< the same in parameters; 0 if there are none */
    double ctx_error[2];   /**< the same in context; 0 if there is none */
    double log_det_min[2]; /**< the smallest log-det seen */
    double log_det_max[2]; /**< the largest */
    size_t untouched; /**< dimensions that are never transformed: of y, those that are a copy of some dimension of x
                           at every point, moved perhaps by permutations (they may steer others, as in couplings) */
} nf_check_report;

/**
 * Checks the flow of a model (of a flow, or of a pushforward) at random points, with random context.
 * @return NF_OK whatever the errors found; NF_EARG, NF_ENOMEM; what the flow's own hooks return.
 */
NF_API NF_CHECKED nf_status nf_check_flow(const nf_model *m, const nf_check_options *options, nf_check_report *report);

NF_END_DECLS
#endif
