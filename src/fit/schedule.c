/*
 * Schedules: a number that depends on the step t, with k = steps and r = min(t / k, 1).
 *
 *     linear   from + (to - from) r             Rezende & Mohamed (2015), eq. 20, for beta_t = min(1, 0.01 + t/10000)
 *     cosine   to + (from - to) (1 + cos pi r) / 2                        Loshchilov & Hutter (2017), eq. 5
 *     stairs   from to^floor(t / k)
 *
 * A warm-up of w steps comes first, with the values v(0) (t + 1) / w. It reaches v(0) at t = w - 1. After the
 * warm-up t counts from w.
 */
#include "fit/schedule.h"
#include <math.h>

static double shape(const nf_schedule *s, uint64_t t)
{
    const double pi = 3.14159265358979323846;
    double r = t < s->steps ? (double)t / (double)s->steps : 1;
    switch (s->kind) {
    case NF_LINEAR:
        return r < 1 ? s->from + (s->to - s->from) * r : s->to;
    case NF_COSINE:
        return s->to + (s->from - s->to) * 0.5 * (1 + cos(pi * r));
    case NF_STAIRS:
        return s->steps ? s->from * pow(s->to, (double)(t / s->steps)) : s->from;
    case NF_CUSTOM:
        return s->call ? s->call(s->user, t) : 1;
    case NF_CONSTANT:
        return s->from;
    case NF_SCHEDULE_DEFAULT:
        break;
    }
    return 1;
}

double nf_schedule_value(const nf_schedule *s, uint64_t t)
{
    if (!s)
        return 1;
    if (t < s->warmup)
        return shape(s, 0) * ((double)t + 1) / (double)s->warmup;
    return shape(s, t - s->warmup);
}

nf_status nfi_check_schedule(const char *who, const char *name, const nf_schedule *s)
{
    if ((int)s->kind < NF_SCHEDULE_DEFAULT || s->kind > NF_CUSTOM)
        return nf_error(NF_EARG, "%s: `%s.kind` is %d, which is no schedule", who, name, (int)s->kind);
    if (s->kind == NF_SCHEDULE_DEFAULT && (s->from != 0 || s->to != 0))
        return nf_error(NF_EARG, "%s: `%s` goes from %g to %g, but has no kind: for a constant take NF_CONSTANT", who,
                        name, s->from, s->to);
    if (!isfinite(s->from) || !isfinite(s->to))
        return nf_error(NF_EARG, "%s: `%s` goes from %g to %g, but both must be finite", who, name, s->from, s->to);
    const bool moves = s->kind == NF_LINEAR || s->kind == NF_COSINE;
    if (s->steps == 0 && (moves || s->kind == NF_STAIRS))
        return nf_error(NF_EARG, "%s: `%s.steps` is 0, but this schedule has a length", who, name);
    if (moves && s->from == 0 && s->to == 0)
        return nf_error(NF_EARG, "%s: `%s` goes from 0 to 0", who, name);
    if (s->kind == NF_CUSTOM && !s->call)
        return nf_error(NF_EARG, "%s: `%s` is NF_CUSTOM, but `call` is NULL", who, name);
    return NF_OK;
}
