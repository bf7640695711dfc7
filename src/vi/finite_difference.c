/*
 * Gradients by central differences, one coordinate at a time for a whole batch,
 *
 *     d log p / dx_j  ~  (log p(x + h e_j) - log p(x - h e_j)) / 2h,    h = step (1 + |x_j|).
 *
 * If one of the two points is rejected, the difference is one-sided; if both are, it is 0. The error is O(h^2) +
 * epsilon / h; with a step of the cube root of epsilon the two terms are in balance.
 */
#include "base/memory.h"
#include "vi/target.h"
#include <math.h>
#include <string.h>

/* log p at x with x_j moved by h (1 + |x_j|), h of either sign. If the moved point is rejected, log p at x itself.
   `at` receives the x_j that was used. */
static nf_status moved(const nf_target *t, double h, size_t j, size_t n, const double *x, const double *log_p,
                       double *y, double *at, double *value, unsigned char *rejected)
{
    size_t d = t->d;
    memcpy(y, x, n * d * sizeof *y);
    for (size_t i = 0; i < n; i++)
        at[i] = y[i * d + j] += h * (1 + fabs(x[i * d + j]));
    nf_status st = nfi_target_call(t, NULL, n, y, value, NULL, rejected);
    for (size_t i = 0; !st && i < n; i++)
        if (rejected[i]) {
            at[i] = x[i * d + j];
            value[i] = log_p[i];
        }
    return st;
}

nf_status nfi_target_differences(const nf_target *t, double step, size_t n, const double *x, const double *log_p,
                                 const unsigned char *rejected, double *grad)
{
    size_t d = t->d;
    /* the moved points, two x_j, two values, the flags; n d numbers fit in memory, since x has as many */
    double *y = nfi_calloc(n, (d + 5) * sizeof *y);
    if (!y)
        return NF_ENOMEM;
    double *up = y + n * d, *down = up + n, *high = down + n, *low = high + n;
    unsigned char *flags = (unsigned char *)(low + n);
    nf_status st = NF_OK;
    for (size_t j = 0; j < d && !st; j++) {
        st = moved(t, step, j, n, x, log_p, y, up, high, flags);
        if (!st)
            st = moved(t, -step, j, n, x, log_p, y, down, low, flags);
        for (size_t i = 0; i < n && !st; i++)
            grad[i * d + j] = rejected[i] || up[i] == down[i] ? 0 : (high[i] - low[i]) / (up[i] - down[i]);
    }
    nfi_free(y);
    return st;
}

nf_status nf_target_check(const nf_target *t, size_t n, const double *x, nf_target_report *report)
{
    if (!t || !x || !report)
        return nf_error(NF_EARG, "nf_target_check: %s is NULL", !t ? "t" : !x ? "x" : "report");
    *report = (nf_target_report){0};
    if (n == 0)
        return nf_error(NF_EARG, "nf_target_check: n is 0, but a point is needed");
    size_t d = t->d;
    double *grad = nfi_calloc(n, (2 * d + 2) * sizeof *grad); /* two gradients, the values, the flags */
    if (!grad)
        return NF_ENOMEM;
    double *central = grad + n * d, *log_p = central + n * d;
    unsigned char *rejected = (unsigned char *)(log_p + n);
    nf_status st = nf_target_eval(t, n, x, log_p, grad, rejected);
    if (!st)
        st = nfi_target_differences(t, cbrt(0x1p-52), n, x, log_p, rejected, central);
    for (size_t k = 0; k < n * d && !st; k++) {
        double error = fabs(grad[k] - central[k]) / (1 + fabs(central[k]));
        if (!rejected[k / d] && !isnan(report->worst_error) && !(error <= report->worst_error)) {
            report->worst_error = error;
            report->row = k / d;
            report->column = k % d;
        }
    }
    for (size_t i = 0; i < n && !st; i++)
        report->rejected += rejected[i];
    nfi_free(grad);
    return st;
}
