/* What users' code calls inside, their BLAS say, has one thread wherever the library calls kernels, in teams of one and
   of several, so that its bits do not depend on the machine; and the caller's own setting comes through. Asked of
   OpenMP, which OpenBLAS asks, by a net among the library's own. */
#include <criterion/criterion.h>
#include <nflow/nflow.h>
#include <omp.h>
#include <stdatomic.h>
#include <string.h>

enum { N = 70, D = 3 };
static atomic_int worst, calls;

static void look(void)
{
    int threads = omp_get_max_threads(), seen = worst;
    atomic_fetch_add(&calls, 1);
    while (threads > seen && !atomic_compare_exchange_weak(&worst, &seen, threads))
        ;
}

/* y = x in dimension D. */
static nf_status copy(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved)
{
    (void)o, (void)saved;
    look();
    memcpy(y, x, D * p->ld * sizeof *y);
    return NF_OK;
}

static nf_status copy_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                          const nf_real *gy, nf_real *gx, const nf_grad *g)
{
    (void)o, (void)x, (void)y, (void)saved, (void)g;
    look();
    if (gx)
        memcpy(gx, gy, D * p->ld * sizeof *gx);
    return NF_OK;
}

static nf_net *watcher(void)
{
    static const nf_net_type type = {
        .part = {.name = "watcher"}, .abi = sizeof(nf_net_type), .apply = copy, .vjp = copy_vjp};
    return nf_net_new(&type, &(nf_shape){.dim_in = D, .dim_out = D}, NULL, NULL, 0);
}

/* A translation by the context: D features of watcher(ctx) are m, with unit scales. */
static nf_status shift(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    (void)log_det, (void)saved;
    const nf_pass head = nf_child_pass(o, 0, p);
    nf_real *m = nf_arena_reals(p->scratch, D, p->ld);
    void *none = NULL;
    nf_status status = m ? nf_net_apply(nf_child(o, 0), &head, p->ctx, m, &none) : NF_ENOMEM;
    for (size_t i = 0; i < D * p->ld && status == NF_OK; i++)
        y[i] = d == NF_FORWARD ? x[i] + m[i] : x[i] - m[i];
    return status;
}

static nf_status shift_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                           void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)o, (void)d, (void)x, (void)y, (void)saved, (void)g_log_det, (void)g;
    look();
    memcpy(gx, gy, D * p->ld * sizeof *gx);
    return NF_OK;
}

static nf_flow *watching_flow(void)
{
    static const nf_flow_type type = {
        .part = {.name = "watching"}, .abi = sizeof(nf_flow_type), .apply = shift, .vjp = shift_vjp};
    nf_object *child = nf_net_object(watcher());
    return nf_flow_new(&type, &(nf_shape){.dim_in = D, .dim_out = D, .n_ctx = D}, NULL, &child, 1);
}

static nf_real x[N * D], ctx[N * D], y[N * D];

static void begin(void)
{
    omp_set_num_threads(5);
    worst = calls = 0;
    for (size_t i = 0; i < N * D; i++) {
        x[i] = NF_R(0.731) * (nf_real)(i % 11) - NF_R(2.385);
        ctx[i] = NF_R(0.173) * (nf_real)(i % 7) - NF_R(0.619);
    }
}

static void end(const char *what)
{
    cr_assert_gt(calls, 0, "%s called nothing", what);
    cr_assert_eq(worst, 1, "%s leaves BLAS %d threads", what, worst);
    cr_assert_eq(omp_get_max_threads(), 5, "%s changed the caller's setting", what);
    worst = calls = 0;
}

Test(threads, blas_has_one_in_batch_calls)
{
    begin();
    nf_model *net = nf_model_of_net(watcher(), NULL);
    nf_model *flow = nf_model_of_flow(watching_flow(), NULL);
    nf_model *q = nf_model_of_dist(nf_pushforward(nf_normal(D), watching_flow()), NULL);
    for (size_t threads = 1; threads <= 3; threads++) {
        nf_workspace *ws = nf_workspace_new(threads);
        cr_assert_eq(nf_evaluate(net, ws, NULL, N, x, NULL, y), NF_OK);
        end("nf_evaluate");
        cr_assert_eq(nf_transform(flow, ws, NULL, NF_FORWARD, N, x, ctx, y, NULL), NF_OK);
        end("nf_transform");
        cr_assert_eq(nf_transform_vjp(flow, ws, NULL, NF_FORWARD, N, x, ctx, x, NULL, y, NULL, NULL), NF_OK);
        end("nf_transform_vjp");
        cr_assert_eq(nf_sample(q, ws, &(nf_noise){.seed = 3}, N, ctx, y, NULL), NF_OK);
        end("nf_sample");
        double log_p[N];
        cr_assert_eq(nf_log_prob(q, ws, NULL, N, x, ctx, log_p), NF_OK);
        end("nf_log_prob");
        nf_workspace_free(ws);
    }
    nf_model_free(net);
    nf_model_free(flow);
    nf_model_free(q);
}

Test(threads, blas_has_one_in_steps)
{
    begin();
    nf_dist *base = nf_pushforward(nf_diagonal_normal(D), watching_flow());
    nf_model *q = nf_model_of_dist(base, NULL);
    nf_data data = {.n = N, .dim = D, .x = x, .n_ctx = D, .ctx = ctx};
    nf_objective *o = nf_maximum_likelihood(q, &data, &(nf_likelihood_options){.batch = N});
    cr_assert(o, "%s", nf_error_message());
    nf_real g[2 * D];
    for (size_t threads = 1; threads <= 3; threads++) {
        nf_workspace *ws = nf_workspace_new(threads);
        nf_step_report report;
        cr_assert_eq(nf_objective_value(o, ws, 1, 2, &report), NF_OK);
        end("nf_objective_value");
        cr_assert_eq(nf_objective_gradient(o, ws, 1, 2, &report, g), NF_OK);
        end("nf_objective_gradient");
        cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 2, .threads = threads}, NULL), NF_OK);
        end("nf_fit");
        nf_workspace_free(ws);
    }
    nf_objective_free(o);
    nf_model_free(q);
}

Test(threads, blas_has_one_in_the_plug_in)
{
    begin();
    nf_model *q = nf_model_of_dist(nf_posterior(D, watching_flow()), NULL);
    nf_workspace *ws = nf_workspace_new(1);
    double log_q[N];
    double g_log_q[N] = {0};
    cr_assert_eq(nf_posterior_forward(
                     q, ws, NF_TRAIN, &(nf_noise){.seed = 5},
                     &(nf_posterior_rows){.n = N, .mean = x, .log_scale = ctx, .ctx = ctx, .z = y, .log_q = log_q}),
                 NF_OK);
    end("nf_posterior_forward");
    cr_assert_eq(nf_posterior_backward(q, ws, &(nf_posterior_gradients){.n = N, .gz = y, .g_log_q = g_log_q}), NF_OK);
    end("nf_posterior_backward");
    nf_workspace_free(ws);
    nf_model_free(q);
}
