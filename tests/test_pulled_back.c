/* Targets pulled back through flows. */
#include "expect.h"
#include "fail_alloc.h"
#include <math.h>
#include <nflow/nflow.h>
#include <stdio.h>
#include <string.h>

static const double close_to = sizeof(nf_real) == 8 ? 1e-10 : 1e-3;

/* log p = -x0^4/4 + sin(x0 x1) - exp(x2)/2 - x2^2, rejected where x1 > limit. */
typedef struct bumps {
    double limit;
    size_t calls, points;
    int code;
} bumps;

static int bump(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad, unsigned char *rejected)
{
    bumps *b = user;
    cr_assert_eq(d, 3);
    b->calls++;
    b->points += n;
    for (size_t i = 0; i < n; i++, x += 3) {
        log_p[i] = -pow(x[0], 4) / 4 + sin(x[0] * x[1]) - exp(x[2]) / 2 - x[2] * x[2];
        cr_assert(isfinite(x[0]) && isfinite(x[1]) && isfinite(x[2]),
                  "the callback sees only what the flow has computed");
        if (grad) {
            grad[3 * i] = -x[0] * x[0] * x[0] + x[1] * cos(x[0] * x[1]);
            grad[3 * i + 1] = x[0] * cos(x[0] * x[1]);
            grad[3 * i + 2] = -exp(x[2]) / 2 - 2 * x[2];
        }
        rejected[i] = x[1] > b->limit;
        if (rejected[i] && nf_error_status() == NF_OK)
            nf_error(NF_ETARGET, "%.4f is beyond the fence", x[1]);
    }
    return b->code;
}

Test(pulled_back, agrees_with_the_flow_and_the_target)
{
    enum { N = 500 };
    static double z[N * 3], log_p[N], grad[N * 3], x[N * 3], inner[N], g[N * 3], y[N * 3];
    static nf_real zr[N * 3], xr[N * 3], gr[N * 3];
    double log_det[N];
    nf_real ones[N];
    nf_model *m = nf_model_of_flow(nf_chain((nf_flow *[]){nf_planar(3), nf_affine(3), nf_radial(3)}, 3),
                                   &(nf_model_options){.seed = 3});
    for (size_t i = 0; i < N * 3; i++)
        zr[i] = (nf_real)(z[i] = sin(1.3 * (double)i) + 0.4 * cos((double)(i * i)));
    for (size_t i = 0; i < nf_model_shape(m)->n_params; i++)
        nf_model_theta(m)[i] += (nf_real)(0.3 * sin(2.1 * (double)i));
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    for (int rule = NF_SERIAL; rule <= NF_THREADSAFE; rule++) {
        bumps b = {.limit = 0.6};
        nf_target *t = nf_target_callback(3, bump, &b, (nf_thread_rule)rule);
        nf_target *p = nf_target_pulled_back(t, m);
        unsigned char rejected[N], flags[N];
        cr_assert_not_null(p, "%s", nf_error_message());
        cr_assert_eq(nf_target_eval(p, N, z, log_p, grad, rejected), NF_OK, "%s", nf_error_message());
        cr_assert(rule == NF_SERIAL ? b.calls == 1 : b.calls > 1, "%zu calls", b.calls);
        cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, N, zr, NULL, xr, log_det), NF_OK);
        for (size_t i = 0; i < N * 3; i++)
            x[i] = (double)xr[i];
        cr_assert_eq(nf_target_eval(t, N, x, inner, g, flags), NF_OK);
        for (size_t i = 0; i < N * 3; i++)
            xr[i] = (nf_real)g[i];
        for (size_t i = 0; i < N; i++)
            ones[i] = 1;
        cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_FORWARD, N, zr, NULL, xr, ones, gr, NULL, NULL), NF_OK);
        size_t out = 0;
        for (size_t i = 0; i < N; i++) {
            cr_assert_eq(rejected[i], flags[i]);
            out += rejected[i];
            if (rejected[i])
                cr_assert_eq(log_p[i], -INFINITY);
            else
                cr_assert_float_eq(log_p[i], inner[i] + log_det[i], close_to * (1 + fabs(inner[i])));
            for (size_t r = 0; r < 3; r++)
                cr_assert_float_eq(grad[i * 3 + r], rejected[i] ? 0 : (double)gr[i * 3 + r],
                                   close_to * (1 + fabs((double)gr[i * 3 + r])));
        }
        cr_assert(out > 10 && out < N / 2, "%zu", out);
        cr_assert(strstr(nf_target_rejection(p), "is beyond the fence"), "%s", nf_target_rejection(p));
        cr_assert_eq(nf_target_outputs(p, N, z, y), NF_OK);
        cr_assert_arr_eq(y, x, sizeof y);
        nf_target_free(p);
        nf_target_free(t);
    }
    nf_model_free(m);
}
