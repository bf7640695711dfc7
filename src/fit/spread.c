/* Whether one row spoils the mean of n losses l_i. With m their mean, w the worst loss and e = w - m,

       spread  S = sum (l_i - m)^2 = sum l_i^2 - n m^2,   share = e^2 / S,
       the others' mean is e / (n - 1) below m, and their spread is S' = S - e^2 n / (n - 1).

   The row dominates if share > 1/2, if e n / (n - 1) > 20 sqrt(S' / (n - 1)), and if e > 0.01 (n - 1), so that the mean
   without the row would be better by 0.01. Few samples alone are no reason: of 100 samples of a standard normal, the
   worst is 20 deviations of the others' losses away with probability 1e-5. S is at least e^2 n / (n - 1), also where
   the difference above has lost it to rounding. */
#include "fit/objective.h"
#include <math.h>

void nf_add_to_spread(nf_spread *s, size_t sample, double loss)
{
    if (s->n == 0 || loss > s->worst) {
        s->worst = loss;
        s->worst_sample = (double)sample;
    }
    s->n++;
    s->sum += loss;
    s->squares += loss * loss;
}

void nfi_add_spreads(nf_spread *all, const nf_spread *s)
{
    if (s->n > 0 && (all->n == 0 || s->worst > all->worst)) {
        all->worst = s->worst;
        all->worst_sample = s->worst_sample;
    }
    all->n += s->n;
    all->sum += s->sum;
    all->squares += s->squares;
}

void nfi_report_spread(const nf_spread *s, nf_step_report *report)
{
    report->worst_loss = s->n > 0 ? s->worst : (double)NAN;
    report->worst_row = (size_t)s->worst_sample;
    if (s->n < 2)
        return;
    const double mean = s->sum / s->n, e = s->worst - mean, others = s->n - 1;
    const double own = e * e * (s->n / others), spread = fmax(s->squares - s->n * mean * mean, own);
    const bool huge = !isfinite(spread); /* squares overflow: nothing that is not far out has such a loss */
    report->worst_share = huge ? others / s->n : spread > 0 ? e * e / spread : 0;
    const bool far = e * (s->n / others) > 20 * sqrt((spread - own) / others);
    report->dominated = e > 0.01 * others && (huge || (far && e * e > 0.5 * spread));
}
