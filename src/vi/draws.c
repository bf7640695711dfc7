/* See draws.h. */
#include "vi/draws.h"
#include <string.h>

size_t nfi_draw_doubles(size_t d, bool gradient)
{
    return (gradient ? 2 : 1) * d + 6;
}

nfi_draws nfi_draws_in(double *memory, size_t n, size_t d, bool gradient)
{
    nfi_draws w = {.d = d, .x = memory, .log_q = memory + n * d};
    w.log_p = w.log_q + n;
    w.log_det = w.log_p + n;
    w.weight = w.pull = w.log_det + n;
    w.penalty = w.weight + n;
    w.rejected = (unsigned char *)(w.penalty + n);
    w.grad = gradient ? w.penalty + 2 * n : NULL;
    return w;
}

nfi_draws nfi_draws_part(const nfi_draws *w, size_t first, const uint32_t *column)
{
    return (nfi_draws){.d = w->d,
                       .column = column,
                       .x = w->x + first * w->d,
                       .grad = w->grad + first * w->d,
                       .log_q = w->log_q + first,
                       .log_p = w->log_p + first,
                       .log_det = w->log_det + first,
                       .weight = w->weight + first,
                       .pull = w->pull + first,
                       .group_loss = w->group_loss ? w->group_loss + first : NULL,
                       .penalty = w->penalty + first,
                       .rejected = w->rejected + first,
                       .drawn = w->drawn + first};
}

nf_status nfi_draws_ask(const nfi_draws *w, const nf_target *target, size_t first, size_t n)
{
    const size_t d = w->d;
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        if (w->drawn[i])
            memmove(w->x + k++ * d, w->x + i * d, d * sizeof *w->x);
    nf_status st = k ? nfi_target_draws(target, first, k, w->x, w->log_p, w->grad, w->rejected) : NF_OK;
    for (size_t i = n; i-- > 0 && !st;) {
        if (!w->drawn[i])
            continue;
        k--;
        w->log_p[i] = w->log_p[k];
        w->rejected[i] = w->rejected[k];
        if (w->grad)
            memmove(w->grad + i * d, w->grad + k * d, d * sizeof *w->grad);
    }
    return st;
}
