/* Parts of distributions that depend on what other parts give: their context is that, [given x ld], or that and then
   the context of the whole. */
#ifndef NFI_GIVEN_H
#define NFI_GIVEN_H
#include "object/tree.h"

/* The pass of child i with the context ctx, if it reads any. It draws plainly: if two parts took their mixtures'
   components in turn, not all pairs of components would occur. */
nf_pass nfi_given_pass(const nf_object *o, size_t i, const nf_pass *p, const nf_real *ctx);
/* Draws of child i, which has just been initialised, for the initial batch b: *x in `memory`. */
nf_status nfi_draw_child(const nf_object *o, size_t i, const nf_noise *noise, const nf_batch *b, nf_real *theta,
                         nf_real *state, nf_arena *memory, const nf_real **x);
/* The context [n_ctx x ld] of such a part, of which the first `given` rows are at x. A copy from `a` is made where the
   part reads ctx, too; otherwise this is x. NULL if there is no memory. */
const nf_real *nfi_given_context(const nf_object *part, size_t given, size_t ld, const nf_real *x, const nf_real *ctx,
                                 nf_arena *a);
/* Gives g->ctx, if it is wanted, the rows of g_ctx [n_ctx x ld] that belong to the context of the whole. */
void nfi_given_context_vjp(const nf_object *part, size_t given, size_t ld, const nf_real *g_ctx, const nf_grad *g);
/* Hook: the context at which the first child starts well. The other one starts from what that gives. */
nf_status nfi_given_start_context(const nf_object *o, const nf_noise *noise, nf_real *ctx);
/* How many features of the whole's context the part reads; with *status NF_EDIM if its n_ctx is none of 0, `given`, and
   `given` + others. Messages call the part `name`, and what gives its first context `giver`. others 0: any number. */
size_t nfi_given_others(const nf_shape *part, size_t given, size_t others, const char *who, const char *name,
                        const char *giver, nf_status *status);

#endif
