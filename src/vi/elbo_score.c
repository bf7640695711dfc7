/* Gradient by the score, for any A and without the target's gradient (Richter et al. 2020, VarGrad): for fixed x,

       d loss/dtheta = Cov_{q_A}(l, d log q(x)/dtheta)
                     = E sum_i w_i (l_i - m) d log q(x_i)/dtheta / (W - sum_i w_i^2 / W),   m = sum_i w_i l_i / W.

   The means m are taken in each tile, so that each tile's sum is an unbiased estimate of its own.

   In training l_i has the flow's penalty R(x_i) (nf_pass.penalty) in addition, here that of scoring x_i, whose gradient
   at fixed x is added to the covariance. The symbols are those of elbo_tile.c. */
#include "math/rows.h"
#include "object/pack.h"
#include "object/tree.h"
#include "vi/elbo.h"
#include <string.h>

/* The draws are scored once more, now as given points. The running statistics of layers do not count these. */
nf_status nfi_elbo_score(const nfi_elbo *e, const nf_pass *p, const nfi_elbo_tile *t, const nfi_draws *w, double *loss,
                         nf_sums *to, const nf_grad *g)
{
    double *log_q = loss + p->ld, *penalty = loss + 2 * p->ld;
    nf_real *g_log_q = nf_arena_reals(p->scratch, 2, p->ld), *g_penalty = g_log_q ? g_log_q + p->ld : NULL;
    if (!g_log_q)
        return NF_ENOMEM;
    memset(log_q, 0, 2 * p->ld * sizeof *log_q);
    void *saved = NULL;
    nf_pass pass = *p;
    pass.penalty = penalty;
    pass.g_penalty = g_penalty;
    nf_status st = nf_dist_score(e->dist, &pass, t->x, log_q, &saved);
    for (size_t s = 0; s < p->n; s++)
        w->penalty[nfi_draw_place(w, s)] = penalty[s];
    const nfi_elbo_sums a = nfi_elbo_losses(e, p->n, w, loss);
    for (size_t s = 0; s < p->n; s++)
        log_q[s] += loss[s]; /* not finite if either is not */
    if (st || nf_leave_out(p, log_q))
        return st;
    const double size = a.accepted > 0 ? a.accepted - a.square / a.accepted : 0; /* W for many draws; 0 for one */
    const double scale = size > 0x1p-40 * a.accepted ? a.accepted / size : 0;
    for (size_t s = 0; s < p->n; s++) {
        const size_t i = nfi_draw_place(w, s);
        g_log_q[s] = w->rejected[i] ? 0 : (nf_real)(w->weight[i] * (loss[s] - a.mean) * scale);
        g_penalty[s] = w->rejected[i] ? 0 : (nf_real)w->weight[i];
    }
    nfi_pad_zero(2, p->n, p->ld, g_log_q); /* also g_penalty, which follows it */
    nfi_elbo_add_up(p->n, w, loss, &a, to);
    nf_grad grad = *g;
    grad.stats = NULL;
    return nf_dist_score_vjp(e->dist, &pass, t->x, saved, g_log_q, NULL, &grad);
}
