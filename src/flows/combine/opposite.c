/* The gradient of the direction that was not taken. After y = f(x), with the tape of that pass, it gives for cotangents
   gx of x = f^-1(y) and g of its log-det

       gy = J^-T (gx - g d log|det J|/dx),   J = dy/dx at x.

   For a draw y of a pushforward, with gx = d log base(x)/dx and g = 1, this is d log q(y)/dy: the recursion of Vaitl,
   Nicoli, Nakajima & Kessel (2022), "Gradients should stay on path", layer by layer and without the inverse.

   Most layers save the same in both directions (NFI_SAVES_ALIKE), or leave a direction's gradient to the library, which
   then works on the other direction's tape (flow.c). For these the inverse's vector-Jacobian product runs on the tape
   at hand. Of any other layer the inverse is run at y, so that errors of inverses do not add up along a chain. */
#include "flows/combine/chain.h"
#include "flows/compose.h"
#include "flows/types.h"

nf_status nfi_flow_vjp_opposite(const nf_object *flow, nf_direction d, const nf_pass *p, const nf_real *x,
                                const nf_real *y, void *saved, const nf_real *gx, const nf_real *g_log_det, nf_real *gy)
{
    const nf_direction back = nfi_opposite(d);
    const nf_grad none = {.theta = NULL};
    nf_pass pass = *p;
    pass.penalty = NULL;
    pass.g_penalty = NULL;
    if (flow->type == &nfi_chain_type)
        return nfi_chain_vjp_opposite(flow, d, &pass, x, y, saved, gx, g_log_det, gy);
    if (flow->type == &nfi_invert_type) {
        pass = nf_child_pass(flow, 0, &pass);
        return nfi_flow_vjp_opposite(nf_child(flow, 0), back, &pass, x, y, saved, gx, g_log_det, gy);
    }
    if (flow->own.flags & (NF_IMPLICIT_FORWARD | NF_IMPLICIT_INVERSE | NFI_SAVES_ALIKE))
        return nf_flow_vjp(flow, back, &pass, y, x, saved, gx, g_log_det, gy, &none);
    const nf_mark mark = nf_arena_mark(p->scratch), tape = nf_arena_mark(p->tape);
    nf_real *again = nf_arena_reals(p->scratch, nfi_rows_in(flow, d), p->ld);
    void *of_inverse = NULL;
    nf_status status = again ? nf_flow_apply(flow, back, &pass, y, again, NULL, &of_inverse) : NF_ENOMEM;
    if (status == NF_OK)
        status = nf_flow_vjp(flow, back, &pass, y, again, of_inverse, gx, g_log_det, gy, &none);
    nf_arena_rewind(p->tape, tape);
    nf_arena_rewind(p->scratch, mark);
    return status;
}
