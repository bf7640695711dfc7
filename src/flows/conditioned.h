/* A transform that is steered, for each sample, by a net's output: what amortised flows, couplings and autoregressive
   flows share. There are two ways,

       y = T(x; theta),      theta = net(in, context)   [n_params x ld],
       y = T(x; theta, c),   c = net(in, context)       [n_ctx x ld].

   The node's child 0 is the transform. In the first way it is detached: it has no numbers of its own. In the second way
   its numbers are among the tree's, one set for all samples, and the net gives its context. Child 1 is the net. What
   enters the net, and the pass that it gets, are the caller's. */
#ifndef NFI_CONDITIONED_H
#define NFI_CONDITIONED_H
#include "flows/compose.h"

enum { NFI_TRANSFORM, NFI_CONDITIONER };

/* Whether a flow can be a transform of the first way: NF_PER_SAMPLE, with parameters, without context and state. */
nf_status nfi_check_transform(const nf_shape *transform, const char *who);
/* Whether it can be one of the second way, which reads context. */
nf_status nfi_check_reader(const nf_shape *transform, const char *who);
/* How many rows the net gives: the transform's parameters or its context. */
size_t nfi_steering_rows(const nf_object *o);
/* The transform's pass with what the net gave, [nfi_steering_rows x ld]. */
nf_pass nfi_transform_pass(const nf_object *o, const nf_pass *p, const nf_real *given);
/* Where the transform's gradients go: g is the node's, g_given [nfi_steering_rows x ld] (NULL: not wanted). */
nf_grad nfi_transform_grad(const nf_object *o, const nf_pass *p, const nf_grad *g, nf_real *g_given);
/* Where the net's output should start: the transform's own initial parameters, or the context at which it starts well.
   given [nfi_steering_rows] arrives as zeros. */
nf_status nfi_transform_start(const nf_object *o, const nf_noise *noise, nf_real *given);

/* Initial numbers: of the net, whose output is moved to where the transform starts, `copies` times; then, in the second
   way, of the transform. An nf_part.init without data, with one copy. */
nf_status nfi_conditioned_init_net(const nf_object *o, const nf_noise *noise, size_t copies, nf_real *theta,
                                   nf_real *state);
nf_status nfi_conditioned_init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta,
                               nf_real *state);
/* The transform's initial numbers in the second way, after the net's. batch: the rows that enter the transform, and the
   net's context; `in`: what enters the net. */
nf_status nfi_init_steered(const nf_object *o, const nf_noise *noise, const nf_batch *batch, const nf_real *in,
                           nf_real *theta, nf_real *state);
/* An nf_part.start_context: zeros, since the context is read by the net alone. */
nf_status nfi_conditioned_start_context(const nf_object *o, const nf_noise *noise, nf_real *ctx);

/* Numbers as nets read them: what is beyond +-2^500 (float: 2^60), so all that has overflowed, as that, so that their
   sums are numbers too. NaN stays. x, to [count] */
void nfi_readable(size_t count, const nf_real *x, nf_real *to);
/* As nf_flow_type.apply, of the transform; net: the net's pass. *saved is written if p->tape is not NULL. */
nf_status nfi_conditioned_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_pass *net,
                                const nf_real *in, const nf_real *x, nf_real *y, double *log_det, void **saved);
/* As nf_flow_type.vjp; g_in [rows of in x ld] is overwritten (NULL: not wanted), g: the node's gradients, of which the
   net's are g_net. */
nf_status nfi_conditioned_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_pass *net,
                              const nf_real *in, const nf_real *x, const nf_real *y, void *saved, const nf_real *gy,
                              const nf_real *g_log_det, nf_real *gx, nf_real *g_in, const nf_grad *g,
                              const nf_grad *g_net);
/* gy = J^-T gx of the transform alone, at what the net gave. */
nf_status nfi_conditioned_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                   const nf_real *y, void *saved, const nf_real *gx, nf_real *gy);

/* Child i of a description as a new reference to a net; NULL with NF_EFORMAT if it is not one. */
nf_net *nfi_read_net(nf_reader *r, size_t i, const char *whose);

#endif
