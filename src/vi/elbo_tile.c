/*
 * The loss and the gradient of a tile of draws x ~ q. With l_i = kl_t log q(x_i) - beta_t log p(x_i), weights w_i of
 * the draws (1, unless a mixture stratifies) and sums over the accepted draws alone, the loss of a step is
 *
 *     loss = sum_i w_i l_i / W - kl_t log Z,   W = sum_i w_i,   Z = W / sum over all draws of w_i.
 *
 * Z estimates the probability that the target accepts a draw of q. So the loss is that of q_A = q / Z on the accepted
 * region A, because log q_A = log q - log Z: with kl_t = beta_t = 1, -loss is a bound on the evidence whatever A is.
 *
 * Gradient by reparameterisation (Kingma & Welling 2014; Rezende & Mohamed 2015, eq. 20):
 *
 *     sum_i w_i [-beta_t grad log p(x_i)^T dx_i/dtheta + kl_t d log q(x_i)/dtheta] / W    with the noise held.
 *
 * It lets draws move, but does not see them cross the edge of A. If A is everything, this is the loss's gradient.
 * d log q(x_i)/dtheta is that along the path, d log q/dx dx_i/dtheta, and that at fixed x, whose mean over q_A is the
 * gradient of log Z. Sticking the landing (Roeder, Wu & Duvenaud 2017) keeps the first alone.
 *
 * elbo_score.c has the gradient by the score, elbo_groups.c the losses of groups of draws. Both use the sums that are
 * here.
 *
 * In training l_i has the flow's penalty R(x_i) (nf_pass.penalty) in addition: by reparameterisation that of the draw,
 * with its gradient.
 */
#include "dist/types.h"
#include "math/rows.h"
#include "object/live.h"
#include "object/pack.h"
#include "object/tree.h"
#include "vi/elbo.h"
#include <math.h>
#include <string.h>

static bool by_score(const nfi_elbo *e)
{
    return e->gradient == NF_GRADIENT_SCORE;
}

nf_status nfi_elbo_draw(const nfi_elbo *e, const nf_pass *p, nf_arena *keep, nfi_elbo_tile *t, const nfi_draws *to)
{
    size_t d = e->d, n = p->n, ld = p->ld;
    t->saved = NULL;
    t->x = nf_arena_reals(keep, d, ld);
    nf_mark mark = nf_arena_mark(p->scratch);
    double *log_q = nf_arena_alloc(p->scratch, 4 * ld * sizeof *log_q);
    if (!t->x || !log_q)
        return NF_ENOMEM;
    memset(log_q, 0, 4 * ld * sizeof *log_q);
    nf_pass pass = *p;
    double *log_weight = log_q + 2 * ld;
    pass.log_weight = e->batch.group_loss ? NULL : log_weight; /* draws of a group are independent */
    pass.log_det_total = log_q + ld;
    pass.tape = by_score(e) ? NULL : p->tape;
    pass.penalty = p->mode == NF_TRAIN && !by_score(e) ? log_q + 3 * ld : NULL;
    nf_status st = nf_dist_sample(e->dist, &pass, t->x, log_q, &t->saved);
    if (!st && !nf_leave_out(p, log_q)) {
        for (size_t s = 0; s < n; s++) {
            const size_t i = nfi_draw_place(to, s);
            to->log_q[i] = log_q[s];
            to->log_det[i] = log_q[ld + s];
            if (!to->group_loss) /* groups have their weights from `gather` */
                to->weight[i] = log_weight[s] == 0 ? 1 : exp(log_weight[s]);
            to->penalty[i] = log_q[3 * ld + s];
        }
        for (size_t r = 0; r < d; r++)
            for (size_t s = 0; s < n; s++)
                to->x[nfi_draw_place(to, s) * d + r] = (double)t->x[r * ld + s];
    }
    nf_arena_rewind(p->scratch, mark);
    return st;
}

nfi_elbo_sums nfi_elbo_losses(const nfi_elbo *e, size_t n, const nfi_draws *w, double *loss)
{
    nfi_elbo_sums a = {0};
    for (size_t s = 0; s < n; s++) {
        const size_t i = nfi_draw_place(w, s);
        const double of_draw = w->group_loss ? w->group_loss[i] : e->weight * w->log_q[i] - e->beta * w->log_p[i];
        loss[s] = w->rejected[i] ? 0 : of_draw + w->penalty[i];
        a.drawn += w->weight[i];
        a.rejected += w->rejected[i];
        a.accepted += w->rejected[i] ? 0 : w->weight[i];
        a.square += w->rejected[i] ? 0 : w->weight[i] * w->weight[i];
        a.mean += w->weight[i] * loss[s];
    }
    a.mean = a.accepted > 0 ? a.mean / a.accepted : 0;
    return a;
}

void nfi_elbo_add_up(size_t n, const nfi_draws *w, const double *loss, const nfi_elbo_sums *a, nf_sums *to)
{
    for (size_t s = 0; s < n; s++) {
        const size_t i = nfi_draw_place(w, s);
        to->worst_log_det = fmax(to->worst_log_det, fabs(w->log_det[i]));
        if (w->rejected[i])
            continue;
        to->loss += w->weight[i] * loss[s];
        to->term[NFI_LOG_Q] += w->weight[i] * w->log_q[i];
        to->term[NFI_LOG_P] += w->weight[i] * w->log_p[i];
        to->penalty += w->weight[i] * w->penalty[i];
    }
    to->rejected += a->rejected;
    to->term[NFI_ACCEPTED] += a->accepted;
    to->term[NFI_DRAWN] += a->drawn;
}

double nfi_elbo_means(void *self, const nf_step *step, const nf_sums *sums, nf_step_report *report)
{
    const nfi_elbo *e = self;
    const double accepted = sums->term[NFI_ACCEPTED];
    report->term[NFI_ACCEPTED] = report->term[NFI_DRAWN] = 0;
    if (e->batch.group_loss)
        return nfi_groups_means(step, sums, report);
    if (sums->rejected == 0) /* a plain mean, which is unbiased also if the weights do not add up to the count */
        return (double)step->total - sums->failed;
    const double log_accepted = log(accepted / sums->term[NFI_DRAWN]);
    report->loss = sums->loss / accepted - e->weight * log_accepted;
    report->term[NFI_LOG_Q] = sums->term[NFI_LOG_Q] / accepted;
    report->term[NFI_LOG_P] = sums->term[NFI_LOG_P] / accepted;
    report->term[NFI_ACCEPTED] = log_accepted;
    report->penalty = sums->penalty / accepted;
    return accepted;
}

/* ---- the gradient by reparameterisation ---- */

/* The derivative of the loss in the logarithm of draw s's weight. If the tile has rejected draws, it is that of the
   quotient of sums above. */
static double weight_cotangent(const nfi_elbo *e, const nfi_elbo_sums *a, double weight, bool rejected, double loss)
{
    if (a->rejected == 0)
        return weight * loss;
    const double z = a->accepted / a->drawn;
    return rejected ? e->weight * weight * z : weight * (loss - a->mean - e->weight * (1 - z));
}

/* The gradient of a tile's loss in x, log q, log weight and penalty: gx [d x ld], the others [ld]. Rejected draws have
   zeros. */
static void cotangents(const nfi_elbo *e, size_t n, size_t ld, const nfi_draws *w, const double *loss,
                       const nfi_elbo_sums *a, nf_real *gx, nf_real *g_log_q, nf_real *g_log_weight, nf_real *g_penalty)
{
    const size_t d = e->d;
    for (size_t s = 0; s < n; s++) {
        const size_t i = nfi_draw_place(w, s);
        g_log_q[s] = w->rejected[i] ? 0 : (nf_real)(w->pull[i] * e->weight);
        g_log_weight[s] = (nf_real)weight_cotangent(e, a, w->weight[i], w->rejected[i], loss[s]);
        g_penalty[s] = w->rejected[i] ? 0 : (nf_real)w->weight[i];
    }
    for (size_t r = 0; r < d; r++) /* the target's gradient of a rejected draw is 0 already */
        for (size_t s = 0; s < n; s++) {
            const size_t i = nfi_draw_place(w, s);
            gx[r * ld + s] = (nf_real)(-e->beta * w->pull[i] * w->grad[i * d + r]);
        }
    nfi_pad_zero(d + 3, n, ld, gx); /* also the other three, which follow gx */
}

/* Sticking the landing: log q has a gradient in x alone, which joins gx. score [d x ld] = d log q / dx at the draws. */
static void stick(size_t d, size_t n, size_t ld, const nf_real *score, nf_real *gx, nf_real *g_log_q)
{
    for (size_t r = 0; r < d; r++)
        for (size_t s = 0; s < n; s++)
            gx[r * ld + s] += g_log_q[s] == 0 ? 0 : g_log_q[s] * score[r * ld + s];
    for (size_t s = 0; s < ld; s++)
        g_log_q[s] = 0;
}

/* Whether every draw has a finite loss and, if gx is given, a finite gradient. Draws that do not are left out. value
   [n] is memory to compute with. */
static bool all_finite(const nfi_elbo *e, const nf_pass *p, const double *loss, const nf_real *gx, double *value)
{
    nf_real mark[NFI_WIDEST];
    memset(mark, 0, p->ld * sizeof *mark);
    if (gx)
        nfi_mark_not_finite(e->d, p->ld, gx, mark);
    for (size_t s = 0; s < p->n; s++)
        value[s] = loss[s] + (double)mark[s];
    return !nf_leave_out(p, value);
}

static nf_status path_gradient(const nfi_elbo *e, const nf_pass *p, const nfi_elbo_tile *t, const nfi_draws *w,
                               double *loss, nf_sums *to, const nf_grad *g)
{
    const nfi_elbo_sums a = nfi_elbo_losses(e, p->n, w, loss);
    const bool sticks = g && e->gradient == NF_GRADIENT_STL;
    nf_real *gx = g ? nf_arena_reals(p->scratch, e->d + 3, p->ld) : NULL;
    nf_real *g_log_q = gx ? gx + e->d * p->ld : NULL, *g_log_weight = gx ? g_log_q + p->ld : NULL;
    nf_real *g_penalty = gx ? g_log_weight + p->ld : NULL;
    nf_real *score = sticks ? nf_arena_reals(p->scratch, e->d, p->ld) : NULL;
    if ((g && !gx) || (sticks && !score))
        return NF_ENOMEM;
    if (g)
        cotangents(e, p->n, p->ld, w, loss, &a, gx, g_log_q, g_log_weight, g_penalty);
    if (sticks) {
        const nf_status st = nfi_draw_score(e->dist, p, t->x, t->saved, score);
        if (st)
            return st;
        stick(e->d, p->n, p->ld, score, gx, g_log_q);
    }
    if (!all_finite(e, p, loss, gx, loss + p->ld))
        return NF_OK;
    nfi_elbo_add_up(p->n, w, loss, &a, to);
    nf_pass pass = *p;
    pass.g_log_weight = g_log_weight;
    pass.g_penalty = g_penalty;
    return g ? nf_dist_sample_vjp(e->dist, &pass, t->x, t->saved, gx, g_log_q, g) : NF_OK;
}

nf_status nfi_elbo_finish(const nfi_elbo *e, const nf_pass *p, const nfi_elbo_tile *t, const nfi_draws *w, nf_sums *to,
                          const nf_grad *g)
{
    nf_mark mark = nf_arena_mark(p->scratch);
    double *loss = nf_arena_alloc(p->scratch, 3 * p->ld * sizeof *loss);
    nf_status st = NF_ENOMEM;
    if (loss)
        st = (by_score(e) && g ? nfi_elbo_score : path_gradient)(e, p, t, w, loss, to, g);
    nf_arena_rewind(p->scratch, mark);
    return st;
}
