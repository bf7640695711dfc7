/* The type tables of the built-in distributions, which model files need, and a hook that several of them use. */
#ifndef NFI_DIST_TYPES_H
#define NFI_DIST_TYPES_H
#include <nflow/dist.h>

extern const nf_dist_type nfi_normal_type;
extern const nf_dist_type nfi_student_t_type;
extern const nf_dist_type nfi_logistic_type;
extern const nf_dist_type nfi_uniform_type;
extern const nf_dist_type nfi_mixture_type;
extern const nf_dist_type nfi_gaussian_mixture_type;
extern const nf_dist_type nfi_pushforward_type;
extern const nf_dist_type nfi_amortized_dist_type;
extern const nf_dist_type nfi_joint_type;
extern const nf_dist_type nfi_dequantised_type;

#define NFI_HALF_LOG_2PI 0.91893853320467274178 /* log(2 pi) / 2 */

/* gx [dim x ld] = d log q(x) / dx at the draws x of a pass that left `saved` on p->tape. Whether the draws are weighted
   makes no difference: log q is always of q. Of a pushforward, this takes neither the flow's inverse nor the gradients
   in parameters (see flows/combine/opposite.c). */
nf_status nfi_draw_score(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, nf_real *gx);

/* sample_vjp of a distribution without parameters. With the noise held, neither x nor log q depends on anything. */
nf_status nfi_sample_vjp_none(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *gx,
                              const nf_real *g_log_q, const nf_grad *g);

#endif
