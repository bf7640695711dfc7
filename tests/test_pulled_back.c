/* Targets pulled back through flows. */
#include "expect.h"
#include "fail_alloc.h"
#include <math.h>
#include <nflow/nflow.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static const double close_to = sizeof(nf_real) == 8 ? 1e-10 : 1e-3;

/* log p = -x0^4/4 + sin(x0 x1) - exp(x2)/2 - x2^2, rejected where x1 > limit. */
typedef struct bumps {
    double limit;
    atomic_size_t calls, points;
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
        cr_assert(rule == NF_SERIAL ? b.calls == 1 : b.calls > 1, "%zu calls", (size_t)b.calls);
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

/* Draws that the target behind rejects and draws that the flow cannot compute stand between others: each row is as if
   it stood alone, and the lowest one's reason is told. */
Test(pulled_back, rows_do_not_meet)
{
    enum { N = 150 };
    static double z[N * 3], log_p[N], grad[N * 3], y[N * 3];
    unsigned char rejected[N];
    nf_model *m = nf_model_of_flow(nf_lower(3, -2), NULL);
    for (size_t i = 0; i < N * 3; i++)
        z[i] = i % 31 == 7 ? 2000 : sin(1.3 * (double)i);
    for (int rule = NF_SERIAL; rule <= NF_THREADSAFE; rule++) {
        bumps b = {.limit = -0.2};
        nf_target *t = nf_target_callback(3, bump, &b, (nf_thread_rule)rule), *p = nf_target_pulled_back(t, m);
        cr_assert_eq(nf_target_eval(p, N, z, log_p, grad, rejected), NF_OK);
        cr_assert_eq(nf_target_outputs(p, N, z, y), NF_OK);
        size_t lost = 0, out = 0;
        for (size_t i = 0; i < N; i++) {
            double alone, g[3], at[3];
            unsigned char flag;
            const bool over = z[3 * i] == 2000 || z[3 * i + 1] == 2000 || z[3 * i + 2] == 2000;
            cr_assert_eq(nf_target_eval(p, 1, z + 3 * i, &alone, g, &flag), NF_OK);
            cr_assert_eq(nf_target_outputs(p, 1, z + 3 * i, at), NF_OK);
            cr_assert(flag == rejected[i] && alone == log_p[i]);
            cr_assert_arr_eq(g, grad + 3 * i, sizeof g);
            cr_assert(over ? isnan(at[0]) && isnan(y[3 * i + 2]) : memcmp(at, y + 3 * i, sizeof at) == 0);
            cr_assert(!over || flag);
            lost += over;
            out += flag && !over;
        }
        cr_assert(lost == 15 && out > 10 && out < N / 2, "%zu %zu", lost, out);
        cr_assert(strstr(nf_target_rejection(p), rejected[0] || rejected[1] ? "beyond the fence" : "no finite result"),
                  "%s", nf_target_rejection(p));
        nf_target_counts c;
        const size_t before = b.points;
        nf_target_count(t, &c);
        cr_assert_eq(c.gradients, 2 * (N - lost), "the target behind saw the others only");
        cr_assert_eq(before, c.gradients);
        cr_assert_str_eq(nf_target_rejection(t), "", "it notes nothing itself");
        nf_target_free(p);
        nf_target_free(t);
    }
    nf_model_free(m);
}

/* A pushforward's flow, whose inverse makes the target normal; a second flow on top of that. */
Test(pulled_back, whitening_and_a_tower)
{
    enum { N = 40 };
    double z[N * 2], log_p[N], grad[N * 2];
    for (size_t i = 0; i < N * 2; i++)
        z[i] = 1.5 * sin(1.7 * (double)i);
    nf_model *q =
        nf_model_of_dist(nf_pushforward(nf_normal(2), nf_chain((nf_flow *[]){nf_affine(2), nf_soft_log(2, NULL)}, 2)),
                         &(nf_model_options){.seed = 2});
    for (size_t i = 0; i < nf_model_shape(q)->n_params; i++)
        nf_model_theta(q)[i] += (nf_real)(0.2 * cos(1.9 * (double)i));
    cr_assert_eq(nf_model_update(q, NF_EVAL), NF_OK);
    nf_target *t = nf_target_of_model(q, NULL), *white = nf_target_pulled_back(t, q);
    cr_assert_not_null(white, "%s", nf_error_message());
    cr_assert_eq(nf_target_eval(white, N, z, log_p, grad, NULL), NF_OK);
    for (size_t i = 0; i < N; i++) {
        const double *at = z + 2 * i;
        cr_assert_float_eq(log_p[i], -0.5 * (at[0] * at[0] + at[1] * at[1]) - 1.8378770664093453, close_to * 10);
        cr_assert_float_eq(grad[2 * i], -at[0], close_to * 10);
        cr_assert_float_eq(grad[2 * i + 1], -at[1], close_to * 10);
    }
    nf_model *shift = nf_model_of_flow(nf_offset_multiplier(2, (double[]){0.5, -0.25}, (double[]){2, 0.5}), NULL);
    nf_target *tower = nf_target_pulled_back(white, shift);
    cr_assert_eq(nf_target_eval(tower, N, z, log_p, grad, NULL), NF_OK);
    for (size_t i = 0; i < N; i++) {
        const double a = 0.5 + 2 * z[2 * i], b = -0.25 + 0.5 * z[2 * i + 1];
        cr_assert_float_eq(log_p[i], -0.5 * (a * a + b * b) - 1.8378770664093453, close_to * 20);
        cr_assert_float_eq(grad[2 * i], -2 * a, close_to * 20);
        cr_assert_float_eq(grad[2 * i + 1], -0.5 * b, close_to * 20);
    }
    cr_assert_str_eq(nf_target_output_name(tower, 1), "x.2");
    nf_target_free(tower);
    nf_target_free(white);
    nf_target_free(t);
    nf_model_free(shift);
    nf_model_free(q);
}

static nf_target *standing(size_t d)
{
    static bumps b = {.limit = 100};
    return nf_target_callback(d, bump, &b, NF_THREADSAFE);
}

/* Only the first calls allocate, also those of nf_target_of_model. */
Test(pulled_back, later_calls_allocate_nothing)
{
    enum { N = 300 };
    static double z[N * 3], log_p[N], grad[N * 3], y[N * 3];
    unsigned char rejected[N];
    nf_model *m = nf_model_of_flow(nf_lower(3, 0), NULL), *q = nf_model_of_dist(nf_normal(3), NULL);
    nf_target *inner = standing(3);
    nf_target *targets[] = {nf_target_pulled_back(inner, m), nf_target_of_model(q, NULL)};
    for (size_t i = 0; i < 2; i++) {
        for (int warm = 0; warm < 2; warm++) {
            const size_t before = alloc_count();
            cr_assert_eq(nf_target_eval(targets[i], N, z, log_p, grad, rejected), NF_OK);
            cr_assert_eq(nf_target_eval(targets[i], N / 2, z, log_p, NULL, rejected), NF_OK);
            cr_assert_eq(nf_target_outputs(targets[i], N, z, y), NF_OK);
            cr_assert(warm ? alloc_count() == before : alloc_count() > before, "%zu", alloc_count() - before);
        }
        nf_target_free(targets[i]);
    }
    nf_target_free(inner);
    nf_model_free(q);
    nf_model_free(m);
}

/* Many threads on one target, with a workspace each: the bits of one thread. */
Test(pulled_back, threads)
{
    bumps b = {.limit = 100};
    nf_model *m =
        nf_model_of_flow(nf_chain((nf_flow *[]){nf_planar(3), nf_affine(3)}, 2), &(nf_model_options){.seed = 3});
    nf_model *q = nf_model_of_dist(nf_pushforward(nf_normal(3), nf_affine(3)), NULL);
    double loss[4], norm[4];
    for (size_t k = 0; k < 4; k++) {
        nf_target *t = nf_target_callback(3, bump, &b, k % 2 ? NF_SERIAL : NF_THREADSAFE),
                  *p = nf_target_pulled_back(t, m);
        cr_assert_eq(nf_target_rule(p), nf_target_rule(t));
        nf_objective *o = nf_elbo(q, p, &(nf_elbo_options){.draws = 900});
        nf_workspace *ws = nf_workspace_new(k < 2 ? 1 : 5);
        static nf_real g[64];
        nf_step_report r;
        memset(g, 0, sizeof g);
        cr_assert_eq(nf_objective_gradient(o, ws, 5, 0, &r, g), NF_OK, "%s", nf_error_message());
        cr_assert_eq(nf_model_update(q, NF_EVAL), NF_OK);
        loss[k] = r.loss;
        norm[k] = 0;
        for (size_t i = 0; i < nf_model_shape(q)->n_params; i++)
            norm[k] += (double)(g[i] * g[i]);
        nf_workspace_free(ws);
        nf_objective_free(o);
        nf_target_free(p);
        nf_target_free(t);
    }
    for (size_t k = 1; k < 4; k++)
        cr_assert(loss[k] == loss[0] && norm[k] == norm[0] && norm[0] > 0);
    nf_model_free(m);
    nf_model_free(q);
}

Test(pulled_back, failures)
{
    double z[6] = {0.1, 0.2, 0.3, -0.1, 0.4, 0.2}, log_p[2], grad[6];
    nf_target *t = standing(3);
    nf_model *fits = nf_model_of_flow(nf_affine(3), NULL), *net = nf_model_of_net(nf_mlp(3, 3, 0, NULL), NULL);
    nf_model *two = nf_model_of_flow(nf_affine(2), NULL), *normal = nf_model_of_dist(nf_normal(3), NULL);
    nf_model *context = nf_model_of_flow(nf_amortized_by_context(nf_affine(3)), NULL);
    cr_assert(t && fits && net && two && normal && context, "%s", nf_error_message());
    nf_error(NF_OK, "-");
    expect_none(nf_target_pulled_back(NULL, fits), NF_EARG, "nf_target_pulled_back: `t` is NULL");
    expect_none(nf_target_pulled_back(t, NULL), NF_EARG, "nf_target_pulled_back: `flow` is NULL");
    expect_none(nf_target_pulled_back(t, net), NF_EARG, "which has no flow");
    expect_none(nf_target_pulled_back(t, normal), NF_EARG, "which has no flow");
    expect_none(nf_target_pulled_back(t, two), NF_EDIM, "the flow gives 2 features, but the target has 3 dimensions");
    expect_none(nf_target_pulled_back(t, context), NF_EDIM, "reads a context of 6 features");
    nf_target *p = nf_target_pulled_back(t, fits);
    /* parameters that have changed, where a layer prepares others of them */
    nf_model *lu = nf_model_of_flow(nf_lu_linear(3, 1), NULL);
    nf_target *stale = nf_target_pulled_back(t, lu);
    nf_model_theta(lu)[0] += NF_R(0.25);
    expect(nf_target_eval(stale, 2, z, log_p, grad, NULL), NF_ETARGET, "since the last nf_model_update()");
    expect(nf_target_outputs(stale, 2, z, grad), NF_ETARGET, "since the last nf_model_update()");
    cr_assert_eq(nf_model_update(lu, NF_EVAL), NF_OK);
    cr_assert_eq(nf_target_eval(stale, 2, z, log_p, grad, NULL), NF_OK);
    nf_target_free(stale);
    nf_model_free(lu);
    nf_target_free(p);
    /* fatal errors of the target behind */
    bumps b = {.limit = 100, .code = -3};
    nf_target *bad = nf_target_callback(3, bump, &b, NF_SERIAL);
    p = nf_target_pulled_back(bad, fits);
    expect(nf_target_eval(p, 2, z, log_p, grad, NULL), NF_ETARGET,
           "the target's callback returned -3 for a batch of 2 points");
    nf_target_free(p);
    nf_target_free(bad);
    nf_model_free(context);
    nf_model_free(normal);
    nf_model_free(two);
    nf_model_free(net);
    nf_model_free(fits);
    nf_target_free(t);
}

/* Wherever memory or an arena ends. */
Test(pulled_back, failing_allocations)
{
    double z[6] = {0.1, 0.2, 0.3, -0.1, 0.4, 0.2}, log_p[2], grad[6], y[6];
    nf_model *m = nf_model_of_flow(nf_chain((nf_flow *[]){nf_lower(3, 0), nf_radial(3)}, 2), NULL);
    nf_target *t = standing(3);
    const size_t before = alloc_live();
    for (int arena = 0; arena < 2; arena++) {
        size_t failures = 0;
        for (size_t k = 0;; k++) {
            (arena ? fail_arena_once : fail_alloc_after)(k);
            nf_target *p = nf_target_pulled_back(t, m);
            nf_status st = p ? nf_target_eval(p, 2, z, log_p, grad, NULL) : nf_error_status();
            if (st == NF_OK)
                st = nf_target_outputs(p, 2, z, y);
            const bool failed = fail_alloc_off();
            cr_assert_eq(st == NF_OK, !failed, "%s", nf_error_message());
            cr_assert(!failed || st == NF_ENOMEM || strstr(nf_error_message(), "nf_target_pulled_back: ") || arena);
            nf_target_free(p);
            cr_assert_eq(alloc_live(), before);
            if (!failed)
                break;
            failures++;
        }
        cr_assert_geq(failures, 8, "%zu", failures);
    }
    nf_target_free(t);
    nf_model_free(m);
}

/* The text is that of the lowest row, be it the flow's or the target's. */
Test(pulled_back, lowest_reason)
{
    const double rows[3][3] = {
        {0.1, -1, 0.2}, {2000, 0.5, -0.3}, {0.4, 1.5, 0.6}}; /* fine; overflows; beyond the fence */
    const size_t orders[4][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {2, 1, 0}};
    nf_model *m = nf_model_of_flow(nf_lower(3, -2), NULL);
    for (int rule = NF_SERIAL; rule <= NF_THREADSAFE; rule++)
        for (size_t k = 0; k < 4; k++) {
            bumps b = {.limit = 1};
            double z[9], log_p[3], grad[9];
            unsigned char rejected[3];
            nf_target *t = nf_target_callback(3, bump, &b, (nf_thread_rule)rule), *p = nf_target_pulled_back(t, m);
            for (size_t i = 0; i < 3; i++)
                memcpy(z + 3 * i, rows[orders[k][i]], sizeof rows[0]);
            cr_assert_eq(nf_target_eval(p, 3, z, log_p, grad, rejected), NF_OK);
            for (size_t i = 0; i < 3; i++)
                cr_assert_eq(rejected[i], orders[k][i] > 0);
            const char *words =
                k % 2 ? "2.4817 is beyond the fence" : "the flow has no finite result at (2000, 0.5, -0.3)";
            cr_assert_str_eq(nf_target_rejection(p), words);
            nf_target_free(p);
            nf_target_free(t);
        }
    nf_model_free(m);
}
