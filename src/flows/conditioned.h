/* A transform whose parameters are, for each sample, a net's output: what an amortised flow and a coupling share.

       y = T(x; theta),   theta = net(in, context)   [n_params x ld].

   The node's child 0 is the transform, detached: it has no numbers of its own. Child 1 is the net. What enters the net,
   and the pass that it gets, are the caller's. */
#ifndef NFI_CONDITIONED_H
#define NFI_CONDITIONED_H
#include "flows/compose.h"

enum { NFI_TRANSFORM, NFI_CONDITIONER };

/* Whether a flow can be a transform: NF_PER_SAMPLE, with parameters, without context and state. */
nf_status nfi_check_transform(const nf_shape *transform, const char *who);
/* The transform's pass with parameters theta [n_params x ld]. */
nf_pass nfi_transform_pass(const nf_object *o, const nf_pass *p, const nf_real *theta);
/* The transform's own initial parameters, where the net's output should start. theta [n_params] */
nf_status nfi_transform_start(const nf_object *o, const nf_noise *noise, nf_real *theta);
/* An nf_part.init: the net's initial output is moved by the transform's own initial parameters. */
nf_status nfi_conditioned_init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta,
                               nf_real *state);

/* Numbers as nets read them: what is beyond +-2^500 (float: 2^60), so all that has overflowed, as that, so that their
   sums are numbers too. NaN stays. x, to [count] */
void nfi_readable(size_t count, const nf_real *x, nf_real *to);
/* As nf_flow_type.apply, of the transform; net: the net's pass. *saved is written if p->tape is not NULL. */
nf_status nfi_conditioned_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_pass *net,
                                const nf_real *in, const nf_real *x, nf_real *y, double *log_det, void **saved);
/* As nf_flow_type.vjp; g_in [rows of in x ld] is overwritten (NULL: not wanted), g_net: the net's gradients. */
nf_status nfi_conditioned_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_pass *net,
                              const nf_real *in, const nf_real *x, const nf_real *y, void *saved, const nf_real *gy,
                              const nf_real *g_log_det, nf_real *gx, nf_real *g_in, const nf_grad *g_net);
/* gy = J^-T gx of the transform alone, at fixed parameters. */
nf_status nfi_conditioned_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                   const nf_real *y, void *saved, const nf_real *gx, nf_real *gy);

/* Child i of a description as a new reference to a net; NULL with NF_EFORMAT if it is not one. */
nf_net *nfi_read_net(nf_reader *r, size_t i, const char *whose);

#endif
