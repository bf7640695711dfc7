/* A transform that the output of a net steers for each sample: what amortised flows, couplings and autoregressive flows
   have in common. There are two ways:

       the first    y = T(x; theta),      theta = net(in, context)   [n_params x ld],
       the second   y = T(x; theta, c),   c = net(in, context)       [n_ctx x ld].

   The node's child 0 is the transform. In the first way it is detached: it has no numbers of its own. In the second way
   its numbers are among those of the tree, one set for all samples, and the net gives its context. Child 1 is the net.
   The caller decides what enters the net, and which pass the net gets. */
#ifndef NFI_CONDITIONED_H
#define NFI_CONDITIONED_H
#include "flows/compose.h"

enum { NFI_TRANSFORM, NFI_CONDITIONER };

/* Checks that a flow can be a transform of the first way: it has NF_PER_SAMPLE and parameters, and neither context
   nor state. */
nf_status nfi_check_transform(const nf_shape *transform, const char *who);
/* The same for what need not be a flow; `what` names it. */
nf_status nfi_check_amortised(const nf_shape *s, const char *who, const char *what);
/* Checks that a net gives the parameters of what has shape s, and that it takes the context as its input and nothing
   beside it. */
nf_status nfi_check_head(const nf_shape *s, const nf_shape *head, const char *who, const char *what);
/* The second of the two alone; messages call the net `name`. */
nf_status nfi_check_input(const nf_shape *net, const char *who, const char *name);
/* Checks that a flow can be a transform of the second way: it reads context. */
nf_status nfi_check_reader(const nf_shape *transform, const char *who);
/* The number of features that the net gives: the transform's parameters or its context. */
size_t nfi_steering_rows(const nf_object *o);
/* The transform's pass. `given` [nfi_steering_rows x ld] is the output of the net. */
nf_pass nfi_transform_pass(const nf_object *o, const nf_pass *p, const nf_real *given);
/* The pass of a net that reads the node's context as its input. */
nf_pass nfi_head_pass(const nf_object *o, const nf_pass *p);
/* Where the transform's gradients go. g is the node's; the gradient in `given` goes to g_given [nfi_steering_rows x
   ld] (NULL: not wanted). */
nf_grad nfi_transform_grad(const nf_object *o, const nf_pass *p, const nf_grad *g, nf_real *g_given);
/* The values at which the net's output should start: the transform's own initial parameters, or the context at which
   the transform starts well. given [nfi_steering_rows] must be zeros before. */
nf_status nfi_transform_start(const nf_object *o, const nf_noise *noise, nf_real *given);

/* Sets initial numbers. _init_net sets those of the net and moves its output to where the transform starts; `read` is
   what the net reads of the initial data (NULL: none), `copies` how many times that start is repeated in the output.
   _init is an nf_part.init that uses no data: it does the same with one copy and then, in the second way, sets the
   transform's numbers. */
nf_status nfi_conditioned_init_net(const nf_object *o, const nf_noise *noise, const nf_batch *read, size_t copies,
                                   nf_real *theta, nf_real *state);
nf_status nfi_conditioned_init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta,
                               nf_real *state);
/* Sets the transform's initial numbers in the second way, after the net's. batch has the features that enter the
   transform and the context of the net; `in` is what enters the net. */
nf_status nfi_init_steered(const nf_object *o, const nf_noise *noise, const nf_batch *batch, const nf_real *in,
                           nf_real *theta, nf_real *state);
/* An nf_part.start_context. It gives zeros, since only the net reads the context. */
nf_status nfi_conditioned_start_context(const nf_object *o, const nf_noise *noise, nf_real *ctx);

/* Copies x to `to`, `count` numbers, as nets read them: what is beyond +-2^500 (float: 2^60) is replaced by that
   limit, also infinities, so that sums in the net are finite. NaN stays NaN. */
void nfi_readable(size_t count, const nf_real *x, nf_real *to);
/* Such a copy of x [rows x ld] on scratch. NULL if there is no memory. */
const nf_real *nfi_read_rows(const nf_pass *p, size_t rows, const nf_real *x);
/* The net's pass, with such a copy of the context. */
nf_status nfi_conditioner_pass(const nf_object *o, const nf_pass *p, nf_pass *net);
/* nf_flow_type.apply of the transform; `net` is the net's pass. *saved is written only if p->tape is not NULL. */
nf_status nfi_conditioned_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_pass *net,
                                const nf_real *in, const nf_real *x, nf_real *y, double *log_det, void **saved);
/* nf_flow_type.vjp. g_in [features of in x ld] is overwritten (NULL: not wanted). g has the node's gradients, g_net
   those of the net among them. */
nf_status nfi_conditioned_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_pass *net,
                              const nf_real *in, const nf_real *x, const nf_real *y, void *saved, const nf_real *gy,
                              const nf_real *g_log_det, nf_real *gx, nf_real *g_in, const nf_grad *g,
                              const nf_grad *g_net);
/* gy = J^-T gx of the transform alone, at the output that the net gave. */
nf_status nfi_conditioned_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                   const nf_real *y, void *saved, const nf_real *gx, nf_real *gy);

#endif
