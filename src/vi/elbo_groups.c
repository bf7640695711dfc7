/* Importance weights in groups of K draws. With w_k = p(x_k)^beta_t / q(x_k)^kl_t and a = 1 - alpha, the loss of a
   group, whose mean over the groups is that of the step, is minus Renyi's bound of order alpha (Li & Turner 2016),

       L = -log(sum_k w_k^a / K) / a,    and -sum_k log w_k / K for alpha = 1,

   which for alpha = 0 is the bound of importance-weighted autoencoders (Burda, Grosse & Salakhutdinov 2016). With
   v_k = w_k^a / sum_j w_j^a, the total gradient by reparameterisation is

       dL = -sum_k v_k d log w_k.

   Its part at fixed x, kl_t sum_k v_k d log q(x_k)/dtheta, has a mean other than 0, since v_k depends on x_k. By
   reparameterisation E[v_k d log q(x_k)/dtheta] = E[dv_k/dx_k dx_k/dtheta], where dv_k/dx_k = a v_k (1 - v_k) d log
   w_k/dx_k. So the doubly reparameterised gradient (Tucker, Lawson, Gu & Maddison 2019; alpha = 0: v_k^2) is

       -sum_k v_k (1 - kl_t a (1 - v_k)) d log w_k/dx_k dx_k/dtheta.

   In both, draw k has the gradient of -log w_k with a factor, nfi_draws.pull; the rest is done as for single draws.

   A rejected draw has the weight 0. For alpha = 0 that is all; for other orders the loss is that of q restricted to the
   accepted region (elbo_tile.c), of which the share of accepted draws is an estimate: L is computed from the n
   accepted draws of the group, and -kl_t log(n / K) is added to it. For alpha = 0 the two are the same. A draw without
   a finite result is left out, and K is smaller by one. A group without an accepted draw is left out. */
#include "vi/elbo.h"
#include <math.h>

/* Whether the draw can be used: it was made, and the target's answers are numbers. Otherwise its tile leaves it out,
   because its loss is not finite. */
static bool usable(const nfi_elbo *e, const nfi_draws *w, size_t i)
{
    bool finite = w->drawn[i] && w->log_p[i] < INFINITY;
    for (size_t r = 0; e->wants_gradient && finite && r < w->d; r++)
        finite = isfinite(w->grad[i * w->d + r]);
    return finite;
}

static bool accepted(const nfi_draws *w, size_t i)
{
    return !w->rejected[i] && w->weight[i] > 0;
}

/* One group, the draws first .. last - 1. Of its draws, weight is 1 / n for an accepted one, and pull is v_k for the
   time being. */
static void weigh(const nfi_elbo *e, const nfi_draws *w, size_t first, size_t last)
{
    const double a = 1 - e->alpha;
    double n = 0, drawn = 0, sum = 0, largest = -INFINITY, excess = 0;
    for (size_t i = first; i < last; i++) {
        const bool counts = usable(e, w, i);
        w->weight[i] = counts;
        w->pull[i] = e->beta * w->log_p[i] - e->weight * w->log_q[i]; /* log w_k */
        w->group_loss[i] = NAN;
        drawn += counts;
        if (!accepted(w, i))
            continue;
        n++;
        sum += w->pull[i];
        largest = fmax(largest, a < 0 ? -w->pull[i] : w->pull[i]);
    }
    largest = a < 0 ? -largest : largest; /* the one whose w^a is the largest */
    for (size_t i = first; i < last; i++)
        excess += accepted(w, i) ? expm1(a * (w->pull[i] - largest)) / n : 0;
    const double bound = a == 0 ? sum / n : largest + log1p(excess) / a; /* excess > -1: one of its terms is 0 */
    for (size_t i = first; i < last; i++) {
        if (!accepted(w, i)) {
            w->pull[i] = 0;
            continue;
        }
        const double v = exp(a * (w->pull[i] - largest)) / (n * (1 + excess));
        const double twice = e->gradient == NF_GRADIENT_STL ? e->weight * a * (1 - v) : 0;
        w->pull[i] = v * (1 - twice);
        w->weight[i] = 1 / n;
        w->group_loss[i] = -bound - e->weight * log(n / drawn);
    }
}

void nfi_groups_weigh(const nfi_elbo *e, const nf_step *step)
{
    for (size_t i = step->first; i < step->first + step->n; i += e->group)
        weigh(e, &e->batch, i, i + e->group);
}

/* Sums over accepted draws have the weight 1 / n each: they are sums over groups of the groups' means. */
double nfi_groups_means(const nf_step *step, const nf_sums *sums, nf_step_report *report)
{
    const double groups = sums->term[NFI_ACCEPTED], drawn = (double)step->total - sums->failed;
    report->loss = sums->loss / groups;
    report->term[NFI_LOG_Q] = sums->term[NFI_LOG_Q] / groups;
    report->term[NFI_LOG_P] = sums->term[NFI_LOG_P] / groups;
    report->term[NFI_ACCEPTED] = sums->rejected == 0 ? 0 : log1p(-sums->rejected / drawn);
    report->penalty = sums->penalty / groups;
    return groups;
}
