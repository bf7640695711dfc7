/* The soft-log layer against its formula, at its kinks and ends. */
#include "push.h"
#include "fail_alloc.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <string.h>

#ifdef NF_SINGLE
static const double rounding = 1.2e-7, huge = 3e38, most_log = 88;
#else
static const double rounding = 2.3e-16, huge = 1.7e308, most_log = 709;
#endif

enum { N = 14 };
static const double t = 2.385;

static nf_model *soft_log(double threshold)
{
    nf_model *m = nf_model_of_flow(nf_soft_log(1, &(nf_soft_log_options){.threshold = threshold}), NULL);
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

static const double points[N] = {0,    1e-30, -0.731, t,     -t,   2.38500001, -2.3851,
                                 3.17, -5.9,  41.3,   -8e12, 1e15, 3e35,       -3e35};

Test(soft_log, is_its_formula)
{
    nf_model *m = soft_log(t);
    nf_real x[N], y[N], back[N], gx[N], ones[N], some[N];
    double log_det[N], log_back[N];
    for (size_t i = 0; i < N; i++) {
        x[i] = (nf_real)points[i];
        ones[i] = 1;
        some[i] = NF_R(0.3) + (nf_real)i / 7;
    }
    push(m, NF_FORWARD, N, x, NULL, y, log_det);
    push(m, NF_INVERSE, N, y, NULL, back, log_back);
    cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_FORWARD, N, x, NULL, ones, some, gx, NULL, NULL), NF_OK);
    for (size_t i = 0; i < N; i++) {
        const double size = fabs((double)x[i]), over = fmax(size - (double)(nf_real)t, 0);
        const double wanted = copysign(fmin(size, (double)(nf_real)t) + log1p(over), (double)x[i]);
        const double slope = 1 / (1 + over), bend = over > 0 ? -copysign(slope, (double)x[i]) : 0;
        cr_assert_float_eq(y[i], wanted, 4 * rounding * fabs(wanted), "%g gives %.12g", size, (double)y[i]);
        cr_assert_float_eq(log_det[i], -log1p(over), 4 * rounding * log1p(over));
        cr_assert_float_eq(log_back[i], log1p(over), 8 * rounding * fabs(wanted));
        cr_assert_float_eq(back[i], x[i], 8 * rounding * (1 + fabs(wanted)) * size, "%g comes back as %.12g", size,
                           (double)back[i]);
        cr_assert_float_eq(gx[i], slope + (double)some[i] * bend,
                           8 * rounding * (slope + fabs((double)some[i] * bend)));
    }
    nf_model_free(m);
}

/* Base to target is the direction that bounds what comes, by default beyond 100. */
Test(soft_log, forward_stays_finite)
{
    const double far[] = {100, -100, 101, huge, -huge};
    nf_real x[5], y[5];
    double log_det[5];
    for (size_t i = 0; i < 5; i++)
        x[i] = (nf_real)far[i];
    nf_model *m = nf_model_of_flow(nf_soft_log(1, NULL), NULL);
    push(m, NF_FORWARD, 5, x, NULL, y, log_det);
    cr_assert(y[0] == 100 && y[1] == -100 && log_det[0] == 0);
    cr_assert_float_eq(y[2], 100 + log(2), 200 * rounding);
    cr_assert_float_eq(y[3], 100 + log(huge), 400 * rounding);
    cr_assert_float_eq(y[4], -100 - log(huge), 400 * rounding);
    cr_assert_float_eq(log_det[3], -log(huge), 400 * rounding);
    nf_model_free(m);
    m = nf_model_of_flow(nf_invert(nf_soft_log(1, NULL)), NULL);
    push(m, NF_INVERSE, 5, x, NULL, y, NULL);
    cr_assert_float_eq(y[3], 100 + log(huge), 400 * rounding);
    nf_model_free(m);
}

/* Before the exponential overflows it stays at a bound, with the log-det that it has; where no gradient comes, none
   goes. */
Test(soft_log, inverse_is_bounded)
{
    nf_model *m = soft_log(t);
    nf_real y[4] = {(nf_real)(t + most_log - 1), (nf_real)(t + most_log + 2), (nf_real)(-t - most_log - 2), NF_R(NAN)};
    nf_real x[4], gy[4], gx[4] = {0};
    double log_det[4];
    push(m, NF_INVERSE, 4, y, NULL, x, log_det);
    const double bound = ldexp(1, sizeof(nf_real) == 4 ? 120 : 1000);
    for (int i = 0; i < 3; i++)
        cr_assert_float_eq((double)x[i] / bound, i == 2 ? -1 : 1, 1000 * rounding, "%g", (double)x[i]);
    cr_assert(isnan(x[3]), "a NaN has become %g", (double)x[3]);
    cr_assert_float_eq(log_det[2], most_log + 2, 400 * rounding);
    cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_INVERSE, 3, y, NULL, gx, NULL, gy, NULL, NULL), NF_OK);
    for (size_t i = 0; i < 3; i++)
        cr_assert_eq(gy[i], 0);
    push(m, NF_FORWARD, 4, y, NULL, x, log_det);
    cr_assert(isnan(x[3]) && isfinite(x[1]));
    nf_model_free(m);
}

Test(soft_log, bad_arguments_are_refused)
{
    const double bad[] = {-1, NAN, INFINITY};
    const size_t live = alloc_live();
    for (size_t i = 0; i < 3; i++) {
        cr_assert_null(nf_soft_log(3, &(nf_soft_log_options){.threshold = bad[i]}));
        cr_assert_eq(nf_error_status(), NF_EARG);
    }
    cr_assert_null(nf_soft_log(0, NULL));
    cr_assert_not_null(strstr(nf_error_message(), "nf_soft_log: `dim` is 0"));
    fail_alloc_after(1);
    nf_flow *f = nf_soft_log(2, NULL);
    cr_assert(fail_alloc_off());
    cr_assert_null(f);
    cr_assert_eq(alloc_live(), live);
}
