/* Objects that draw whenever they are used: scores, transforms and nets take noise, whose names follow the rows. And
   what calls on tiles may leave out: one rule for nets, flows and distributions, and hooks get what their headers
   promise. */
#include "object/workspace.h"
#include "objective_fixture.h"
#include <string.h>

enum { DIM = 2, N = 700 };

/* ---- a net, a flow and a distribution that draw ---- */

static nf_status noisy_apply(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved)
{
    (void)saved;
    nf_noise_normal(&p->noise, nf_object_shape(o)->dim_out, p->n, p->ld, y);
    for (size_t i = 0; i < DIM * p->ld; i++)
        y[i] += x[i];
    return NF_OK;
}

static nf_status noisy_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                           const nf_real *gy, nf_real *gx, const nf_grad *g)
{
    (void)o, (void)x, (void)y, (void)saved, (void)g;
    if (gx)
        memcpy(gx, gy, DIM * p->ld * sizeof *gx);
    return NF_OK;
}

static const nf_net_type noisy_net = {
    .part = {.name = "noisy_net"}, .abi = sizeof(nf_net_type), .apply = noisy_apply, .vjp = noisy_vjp};

/* y = x exp(e), and back, e normal for each sample: exactly inverse for equal noise. */
static nf_status factors(const nf_object *o, const nf_pass *p, nf_real **e)
{
    (void)o;
    *e = nf_arena_reals(p->scratch, 1, p->ld);
    if (!*e)
        return NF_ENOMEM;
    nf_noise_normal(&p->noise, 1, p->n, p->ld, *e);
    return NF_OK;
}

static nf_status stretch(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                         double *log_det, void **saved)
{
    (void)saved;
    nf_real *e;
    const nf_mark mark = nf_arena_mark(p->scratch);
    const double sign = d == NF_FORWARD ? 1 : -1;
    nf_status status = factors(o, p, &e);
    for (size_t s = 0; s < p->ld && status == NF_OK; s++) {
        for (size_t r = 0; r < DIM; r++)
            y[r * p->ld + s] = (nf_real)(exp(sign * (double)e[s]) * (double)x[r * p->ld + s]);
        log_det[s] += sign * DIM * (double)e[s];
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status stretch_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                             void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)x, (void)y, (void)saved, (void)g_log_det, (void)g;
    nf_real *e;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_status status = factors(o, p, &e);
    for (size_t i = 0; i < DIM * p->ld && status == NF_OK; i++)
        gx[i] = (nf_real)(exp((d == NF_FORWARD ? 1 : -1) * (double)e[i % p->ld]) * (double)gy[i]);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static const nf_flow_type stretch_type = {
    .part = {.name = "stretch"}, .abi = sizeof(nf_flow_type), .apply = stretch, .vjp = stretch_vjp};

static const nf_shape drawing = {.dim_in = DIM, .dim_out = DIM, .flags = NF_STOCHASTIC};

static nf_model *flow_model(void)
{
    nf_flow *f = nf_flow_new(&stretch_type, &drawing, NULL, NULL, 0);
    return nf_model_of_dist(nf_pushforward(nf_normal(DIM), nf_chain((nf_flow *[]){nf_affine(DIM), nf_invert(f)}, 2)),
                            NULL);
}

/* ---- rows keep their noise ---- */

typedef nf_status call(const nf_model *m, nf_workspace *ws, const nf_noise *noise, size_t n, const nf_real *x,
                       nf_real *out);

static nf_status score(const nf_model *m, nf_workspace *ws, const nf_noise *noise, size_t n, const nf_real *x,
                       nf_real *out)
{
    double log_p[N];
    nf_status status = nf_log_prob(m, ws, noise, n, x, NULL, log_p);
    for (size_t i = 0; i < n && status == NF_OK; i++)
        out[i * DIM] = out[i * DIM + 1] = (nf_real)log_p[i];
    return status;
}

static nf_status forward(const nf_model *m, nf_workspace *ws, const nf_noise *noise, size_t n, const nf_real *x,
                         nf_real *out)
{
    return nf_transform(m, ws, noise, NF_FORWARD, n, x, NULL, out, NULL);
}

static nf_status backward(const nf_model *m, nf_workspace *ws, const nf_noise *noise, size_t n, const nf_real *x,
                          nf_real *out)
{
    return nf_transform_vjp(m, ws, noise, NF_INVERSE, n, x, NULL, x, NULL, out, NULL, NULL);
}

static nf_status evaluate(const nf_model *m, nf_workspace *ws, const nf_noise *noise, size_t n, const nf_real *x,
                          nf_real *out)
{
    return nf_evaluate(m, ws, noise, n, x, NULL, out);
}

static void check_rows(nf_model *m, call *f, const char *name)
{
    nf_real *x = calloc(N * DIM, sizeof *x), *all = calloc(N * DIM, sizeof *x), *part = calloc(N * DIM, sizeof *x);
    const nf_noise noise = {.seed = 5, .step = 9, .first_sample = 1000};
    for (size_t i = 0; i < N * DIM; i++)
        x[i] = NF_R(0.7); /* equal rows: what differs is noise */
    cr_assert(nf_model_shape(m)->flags & NF_STOCHASTIC);
    cr_assert_eq(f(m, NULL, NULL, N, x, all), NF_EARG, "%s", name);
    cr_assert(strstr(nf_error_message(), "`noise` is NULL"), "%s: %s", name, nf_error_message());
    cr_assert_eq(f(m, NULL, &noise, N, x, all), NF_OK, "%s: %s", name, nf_error_message());
    for (size_t i = 1; i < N; i++)
        cr_assert_neq(all[i * DIM], all[(i - 1) * DIM], "%s: row %zu", name, i);
    for (size_t threads = 1; threads <= 4; threads++)
        for (size_t n = N; n > 0; n = n == N ? 97 : n == 97 ? 1 : 0) { /* pieces */
            nf_workspace *ws = nf_workspace_new(threads);
            for (size_t first = 0; first < N; first += n) {
                const size_t count = N - first < n ? N - first : n;
                nf_noise here = noise;
                here.first_sample += first;
                cr_assert_eq(f(m, ws, &here, count, x + first * DIM, part + first * DIM), NF_OK);
            }
            cr_assert_arr_eq(part, all, N * DIM * sizeof *all, "%s: %zu threads, pieces of %zu", name, threads, n);
            nf_workspace_free(ws);
        }
    free(x), free(all), free(part);
}

Test(scoring_noise, rows_keep_it)
{
    nf_model *m = flow_model();
    nf_model *net = nf_model_of_net(nf_net_new(&noisy_net, &drawing, NULL, NULL, 0), NULL);
    check_rows(m, score, "nf_log_prob");
    check_rows(m, forward, "nf_transform");
    check_rows(m, backward, "nf_transform_vjp");
    check_rows(net, evaluate, "nf_evaluate");
    nf_model_free(m);
    nf_model_free(net);
}

/* With equal noise the two directions undo each other, and the diagnostics find nothing wrong. */
Test(scoring_noise, both_directions)
{
    nf_model *m = flow_model();
    nf_real x[N * DIM], y[N * DIM], back[N * DIM];
    double there[N], home[N], log_p[N], log_q[N];
    const nf_noise noise = {.seed = 6};
    nf_noise_normal(&(nf_noise){.seed = 1}, N * DIM, 1, 1, x);
    cr_assert_eq(nf_transform(m, NULL, &noise, NF_FORWARD, N, x, NULL, y, there), NF_OK);
    cr_assert_eq(nf_transform(m, NULL, &noise, NF_INVERSE, N, y, NULL, back, home), NF_OK);
    for (size_t i = 0; i < N * DIM; i++)
        cr_assert_float_eq(back[i], x[i], 30 * rounding * (1 + fabs((double)x[i])));
    for (size_t i = 0; i < N; i++)
        cr_assert_float_eq(there[i], -home[i], 30 * rounding);
    /* a draw's log q is its score */
    cr_assert_eq(nf_sample(m, NULL, &noise, N, NULL, y, log_q), NF_OK);
    cr_assert_eq(nf_log_prob(m, NULL, &noise, N, y, NULL, log_p), NF_OK);
    for (size_t i = 0; i < N; i++)
        cr_assert_float_eq(log_p[i], log_q[i], 300 * rounding * (1 + fabs(log_q[i])));
    nf_check_report r;
    cr_assert_eq(nf_check_flow(m, NULL, &r), NF_OK, "%s", nf_error_message());
    for (int d = 0; d < 2; d++) {
        cr_assert(r.inverse_error[d] < 1e3 * rounding);
        cr_assert(r.log_det_error[d] < 1e3 * rounding);
        cr_assert(r.x_error[d] < 10 * difference);
    }
    nf_model_free(m);
}

/* Dropout draws in training alone: its models need no noise to be used. */
Test(scoring_noise, dropout_needs_none)
{
    const size_t hidden[] = {8};
    const nf_mlp_options options = {.hidden = hidden, .n_hidden = 1, .dropout = 0.5};
    nf_model *m = nf_model_of_net(nf_mlp(DIM, DIM, 0, &options), NULL);
    const nf_real x[DIM] = {1, 2};
    nf_real y[DIM];
    cr_assert_eq(nf_evaluate(m, NULL, NULL, 1, x, NULL, y), NF_OK);
    nf_model_free(m);
}

/* ---- what may be NULL ---- */

/* Hooks that insist on what the headers promise them. */
static nf_status strict_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                              double *log_det, void **saved)
{
    cr_assert(o && p && p->scratch && x && y && log_det && saved);
    memcpy(y, x, DIM * p->ld * sizeof *y);
    return d == NF_FORWARD || d == NF_INVERSE ? NF_OK : NF_EARG;
}

static nf_status strict_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                            void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)d, (void)saved;
    cr_assert(o && p && p->scratch && x && y && gy && g_log_det && gx && g);
    memcpy(gx, gy, DIM * p->ld * sizeof *gx);
    return NF_OK;
}

static const nf_flow_type strict_flow = {
    .part = {.name = "strict"}, .abi = sizeof(nf_flow_type), .apply = strict_apply, .vjp = strict_vjp};

static nf_status strict_net_apply(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved)
{
    cr_assert(o && p && p->scratch && x && y && saved);
    memcpy(y, x, DIM * p->ld * sizeof *y);
    return NF_OK;
}

static nf_status strict_net_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                                const nf_real *gy, nf_real *gx, const nf_grad *g)
{
    (void)saved;
    cr_assert(o && p && p->scratch && x && y && gy && g);
    if (gx)
        memcpy(gx, gy, DIM * p->ld * sizeof *gx);
    return NF_OK;
}

static const nf_net_type strict_net = {
    .part = {.name = "strict"}, .abi = sizeof(nf_net_type), .apply = strict_net_apply, .vjp = strict_net_vjp};

static nf_status strict_sample(const nf_object *o, const nf_pass *p, nf_real *x, double *log_q, void **saved)
{
    cr_assert(o && p && p->scratch && x && log_q && saved);
    memset(x, 0, DIM * p->ld * sizeof *x);
    return NF_OK;
}

static nf_status strict_sample_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved,
                                   const nf_real *gx, const nf_real *g_log_q, const nf_grad *g)
{
    (void)saved;
    cr_assert(o && p && p->scratch && x && gx && g_log_q && g);
    return NF_OK;
}

static nf_status strict_score(const nf_object *o, const nf_pass *p, const nf_real *x, double *log_p, void **saved)
{
    cr_assert(o && p && p->scratch && x && log_p && saved);
    return NF_OK;
}

static nf_status strict_score_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved,
                                  const nf_real *g_log_p, nf_real *gx, const nf_grad *g)
{
    (void)saved;
    cr_assert(o && p && p->scratch && x && g_log_p && g);
    if (gx)
        memset(gx, 0, DIM * p->ld * sizeof *gx);
    return NF_OK;
}

static const nf_dist_type strict_dist = {.part = {.name = "strict"},
                                         .abi = sizeof(nf_dist_type),
                                         .sample = strict_sample,
                                         .sample_vjp = strict_sample_vjp,
                                         .score = strict_score,
                                         .score_vjp = strict_score_vjp};

/* Calls with everything that may be NULL being so, of hooks that insist and of the library's own types. */
Test(scoring_noise, one_rule_for_what_is_not_wanted)
{
    enum { LD = 16 };
    const nf_shape plain = {.dim_in = DIM, .dim_out = DIM};
    const size_t hidden[] = {4};
    nf_workspace *ws = nf_workspace_new(1);
    nf_net *nets[] = {nf_net_new(&strict_net, &plain, NULL, NULL, 0),
                      nf_mlp(DIM, DIM, 0, &(nf_mlp_options){.hidden = hidden, .n_hidden = 1})};
    nf_flow *flows[] = {nf_flow_new(&strict_flow, &plain, NULL, NULL, 0), nf_planar(DIM), nf_spline(DIM, NULL),
                        nf_chain((nf_flow *[]){nf_affine(DIM), nf_planar(DIM)}, 2)};
    nf_dist *dists[] = {nf_dist_new(&strict_dist, &plain, NULL, NULL, 0), nf_normal(DIM), nf_diagonal_normal(DIM),
                        nf_logistic(DIM)};
    nf_real x[DIM * LD], y[DIM * LD], gy[DIM * LD], g_l[LD], theta[200];
    nf_arena *tape = &ws->thread[0].tape, *scratch = &ws->thread[0].scratch;
    for (size_t i = 0; i < DIM * LD; i++)
        x[i] = gy[i] = NF_R(0.1) * (nf_real)(i % LD);
    for (size_t i = 0; i < LD; i++)
        g_l[i] = 1;
    for (size_t i = 0; i < 200; i++)
        theta[i] = NF_R(0.3);
    nf_pass p = {.n = LD, .ld = LD, .theta = theta, .scratch = scratch};
    for (int taped = 0; taped < 2; taped++) {
        void *saved = NULL, **keep = taped ? &saved : NULL;
        p.tape = taped ? tape : NULL;
        for (size_t k = 0; k < 2; k++) {
            const nf_object *o = nf_net_object(nets[k]);
            cr_assert_eq(nf_net_apply(o, &p, x, y, keep), NF_OK);
            if (taped)
                cr_assert_eq(nf_net_vjp(o, &p, x, y, saved, gy, NULL, NULL), NF_OK);
        }
        for (size_t k = 0; k < 4; k++)
            for (int d = 0; d < 2; d++) {
                const nf_object *o = nf_flow_object(flows[k]);
                saved = NULL;
                cr_assert_eq(nf_flow_apply(o, (nf_direction)d, &p, x, y, NULL, keep), NF_OK);
                if (taped)
                    cr_assert_eq(nf_flow_vjp(o, (nf_direction)d, &p, x, y, saved, gy, g_l, NULL, NULL), NF_OK);
            }
        for (size_t k = 0; k < 4; k++) {
            const nf_object *o = nf_dist_object(dists[k]);
            double log_p[LD] = {0};
            saved = NULL;
            cr_assert_eq(nf_dist_sample(o, &p, y, NULL, keep), NF_OK);
            if (taped)
                cr_assert_eq(nf_dist_sample_vjp(o, &p, y, saved, gy, g_l, NULL), NF_OK);
            saved = NULL;
            cr_assert_eq(nf_dist_score(o, &p, x, log_p, keep), NF_OK);
            if (taped)
                cr_assert_eq(nf_dist_score_vjp(o, &p, x, saved, g_l, NULL, NULL), NF_OK);
        }
    }
    for (size_t k = 0; k < 4; k++) {
        nf_flow_free(flows[k]);
        nf_dist_free(dists[k]);
        if (k < 2)
            nf_net_free(nets[k]);
    }
    nf_workspace_free(ws);
}
