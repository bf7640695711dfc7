/*
 * With T steps of a constant rate, the next T / 2 have the factor (1 + cos(pi (t - T) / (T / 2))) / 2. A constant rate
 * moves fastest, and what is left at its end is the noise of steps, which falls with the rate. (A constant rate and
 * then a decay: Hägele et al. 2024, arXiv:2405.18392.)
 */
#include "vi/pace.h"
#include <math.h>

enum { LEAST = 100 };

static uint64_t half(uint64_t steps)
{
    return steps / 2 ? steps / 2 : 1;
}

void nfi_pace_begin(nfi_pace *p, uint64_t steps, nf_convergence *rule)
{
    *p = (nfi_pace){.rule = rule, .fall = steps - steps / 3, .last = steps};
    if (!rule->least)
        rule->least = steps / 8 > LEAST ? steps / 8 : LEAST;
}

double nfi_pace_factor(void *pace, uint64_t step)
{
    const nfi_pace *p = pace;
    const double length = (double)(p->last - p->fall);
    return step < p->fall ? 1 : step < p->last ? (1 + cos(acos(-1) * (double)(step - p->fall) / length)) / 2 : 0;
}

int nfi_pace_step(void *pace, const nf_progress *progress)
{
    nfi_pace *p = pace;
    if (progress->step < p->fall && nf_convergence_add(p->rule, -progress->last->loss)) {
        p->fall = progress->step;
        p->last = p->fall + half(p->fall);
    }
    nf_progress now = *progress;
    now.steps = p->last;
    p->stopped = p->callback && p->callback(p->user, &now);
    return p->stopped || progress->step >= p->last;
}
