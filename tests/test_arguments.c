/* Calls of models with something missing or out of range: the status, and a message that names the function. */
#include "expect.h"
#include "fail_alloc.h"
#include <nflow/nflow.h>

enum { N = 2, D = 3, CTX = 2, MOST = 16 };

/* What the calls need, good values all. The flow and the net read a context, the distribution does not. */
typedef struct fixture {
    nf_model *dist, *flow, *net, *vae;
    nf_noise noise;
    nf_real x[N * MOST], ctx[N * MOST], y[N * MOST], g[100];
    double log_p[N];
} fixture;

static fixture set_up(void)
{
    fixture f = {.noise = {.seed = 1}};
    f.dist = nf_model_of_dist(nf_pushforward(nf_normal(D), nf_affine(D)), NULL);
    f.flow = nf_model_of_flow(nf_amortized(nf_affine(D), nf_mlp(CTX, 2 * D, 0, NULL)), NULL);
    f.net = nf_model_of_net(nf_mlp(D, D, CTX, NULL), NULL);
    f.vae = nf_model_of_vae(
        nf_vae_new(nf_mlp(4, 2 * D, 0, NULL), nf_diagonal_posterior(D), nf_mlp(D, 4, 0, NULL), NF_BERNOULLI), NULL);
    cr_assert(f.dist && f.flow && f.net && f.vae, "%s", nf_error_message());
    cr_assert_leq(nf_model_gradient_size(f.flow), 100);
    return f;
}

static void tear_down(fixture *f)
{
    nf_model_free(f->dist);
    nf_model_free(f->flow);
    nf_model_free(f->net);
    nf_model_free(f->vae);
}

Test(arguments, sampling_and_scoring)
{
    fixture f = set_up();
    expect(nf_sample(f.flow, NULL, &f.noise, N, NULL, f.y, f.log_p), NF_EARG,
           "nf_sample: the model is of a `amortized`");
    expect(nf_log_prob(NULL, NULL, NULL, N, f.x, NULL, f.log_p), NF_EARG, "nf_log_prob: `m` is NULL");
    expect(nf_log_prob(f.net, NULL, NULL, N, f.x, NULL, f.log_p), NF_EARG, "nf_log_prob: the model is of a `mlp`");
    expect(nf_log_prob(f.dist, NULL, NULL, 0, f.x, NULL, f.log_p), NF_EARG, "nf_log_prob: `n` is 0");
    expect(nf_log_prob(f.dist, NULL, NULL, N, NULL, NULL, f.log_p), NF_EARG, "nf_log_prob: `x` is NULL");
    expect(nf_log_prob(f.dist, NULL, NULL, N, f.x, NULL, NULL), NF_EARG, "nf_log_prob: `log_p` is NULL");
    nf_model *given = nf_model_of_dist(nf_diagonal_posterior(D), NULL);
    expect(nf_log_prob(given, NULL, NULL, N, f.x, NULL, f.log_p), NF_EARG,
           "nf_log_prob: `ctx` is NULL, but the model reads 6");
    expect(nf_sample(given, NULL, &f.noise, N, NULL, f.y, NULL), NF_EARG,
           "nf_sample: `ctx` is NULL, but the model reads 6");
    cr_assert_eq(nf_sample(given, NULL, &f.noise, N, f.ctx, f.y, NULL), NF_OK);
    cr_assert_eq(nf_log_prob(given, NULL, NULL, N, f.x, f.ctx, f.log_p), NF_OK);
    nf_model_free(given);
    tear_down(&f);
}

Test(arguments, nets)
{
    fixture f = set_up();
    expect(nf_evaluate(NULL, NULL, NULL, N, f.x, f.ctx, f.y), NF_EARG, "nf_evaluate: `m` is NULL");
    expect(nf_evaluate(f.dist, NULL, NULL, N, f.x, f.ctx, f.y), NF_EARG,
           "nf_evaluate: the model is of a `pushforward`");
    expect(nf_evaluate(f.net, NULL, NULL, 0, f.x, f.ctx, f.y), NF_EARG, "nf_evaluate: `n` is 0");
    expect(nf_evaluate(f.net, NULL, NULL, N, NULL, f.ctx, f.y), NF_EARG, "nf_evaluate: `x` is NULL");
    expect(nf_evaluate(f.net, NULL, NULL, N, f.x, NULL, f.y), NF_EARG,
           "nf_evaluate: `ctx` is NULL, but the model reads 2 features");
    expect(nf_evaluate(f.net, NULL, NULL, N, f.x, f.ctx, NULL), NF_EARG, "nf_evaluate: `y` is NULL");
    cr_assert_eq(nf_evaluate(f.net, NULL, NULL, N, f.x, f.ctx, f.y), NF_OK);
    tear_down(&f);
}

Test(arguments, transforms)
{
    fixture f = set_up();
    const nf_direction odd = (nf_direction)7;
    expect(nf_transform(NULL, NULL, NULL, NF_FORWARD, N, f.x, f.ctx, f.y, NULL), NF_EARG, "nf_transform: `m` is NULL");
    expect(nf_transform(f.net, NULL, NULL, NF_FORWARD, N, f.x, f.ctx, f.y, NULL), NF_EARG,
           "nf_transform: the model is of a `mlp`");
    expect(nf_transform(f.flow, NULL, NULL, odd, N, f.x, f.ctx, f.y, NULL), NF_EARG, "nf_transform: `d` is 7");
    expect(nf_transform(f.flow, NULL, NULL, NF_FORWARD, 0, f.x, f.ctx, f.y, NULL), NF_EARG, "nf_transform: `n` is 0");
    expect(nf_transform(f.flow, NULL, NULL, NF_FORWARD, N, NULL, f.ctx, f.y, NULL), NF_EARG,
           "nf_transform: `x` is NULL");
    expect(nf_transform(f.flow, NULL, NULL, NF_INVERSE, N, f.x, NULL, f.y, NULL), NF_EARG,
           "nf_transform: `ctx` is NULL, but the flow reads 2 features");
    expect(nf_transform(f.flow, NULL, NULL, NF_FORWARD, N, f.x, f.ctx, NULL, f.log_p), NF_EARG,
           "nf_transform: `y` is NULL");
    for (int d = 0; d < 2; d++)
        cr_assert_eq(nf_transform(f.flow, NULL, NULL, (nf_direction)d, N, f.x, f.ctx, f.y, NULL), NF_OK);
    tear_down(&f);
}

/* The vector-Jacobian product of a model's flow, where arguments may be missing. */
static nf_status vjp(fixture *f, const nf_model *m, nf_direction d, size_t n, const nf_real *x, const nf_real *ctx)
{
    return nf_transform_vjp(m, NULL, NULL, d, n, x, ctx, f->x, NULL, f->y, NULL, f->g);
}

Test(arguments, vector_jacobian_products)
{
    fixture f = set_up();
    nf_real none[N * D];
    expect(vjp(&f, NULL, NF_FORWARD, N, f.x, f.ctx), NF_EARG, "nf_transform_vjp: `m` is NULL");
    expect(vjp(&f, f.net, NF_FORWARD, N, f.x, f.ctx), NF_EARG, "nf_transform_vjp: the model is of a `mlp`");
    expect(vjp(&f, f.vae, NF_FORWARD, N, f.x, f.ctx), NF_EARG, "nf_transform_vjp: the model is of a `vae`");
    expect(vjp(&f, f.flow, (nf_direction)-1, N, f.x, f.ctx), NF_EARG, "nf_transform_vjp: `d` is -1");
    expect(vjp(&f, f.flow, NF_FORWARD, 0, f.x, f.ctx), NF_EARG, "nf_transform_vjp: `n` is 0");
    expect(vjp(&f, f.flow, NF_FORWARD, N, NULL, f.ctx), NF_EARG, "nf_transform_vjp: `x` is NULL");
    expect(vjp(&f, f.flow, NF_FORWARD, N, f.x, NULL), NF_EARG,
           "nf_transform_vjp: `ctx` is NULL, but the flow reads 2 features");
    for (size_t i = 0; i < 100; i++)
        cr_assert_eq(f.g[i], 0, "a refused call has written");
    /* all that may be missing is missing, and zeros come of no cotangents */
    cr_assert_eq(nf_transform_vjp(f.flow, NULL, NULL, NF_FORWARD, N, f.x, f.ctx, NULL, NULL, NULL, NULL, NULL), NF_OK);
    cr_assert_eq(nf_transform_vjp(f.flow, NULL, NULL, NF_INVERSE, N, f.x, f.ctx, NULL, NULL, none, f.y, f.g), NF_OK);
    for (size_t i = 0; i < N * D; i++)
        cr_assert(none[i] == 0 && f.g[i] == 0);
    tear_down(&f);
}

Test(arguments, vaes)
{
    fixture f = set_up();
    expect(nf_vae_encode(NULL, NULL, &f.noise, N, f.x, f.y, NULL), NF_EARG, "nf_vae_encode: `m` is NULL");
    expect(nf_vae_decode(NULL, NULL, &f.noise, N, f.x, f.y), NF_EARG, "nf_vae_decode: `m` is NULL");
    cr_assert_eq(nf_vae_encode(f.vae, NULL, &f.noise, N, f.x, f.y, NULL), NF_OK);
    cr_assert_eq(nf_vae_decode(f.vae, NULL, NULL, N, f.x, f.y), NF_OK);
    tear_down(&f);
}

Test(arguments, objectives)
{
    nf_real g[1];
    nf_step_report r;
    expect(nf_objective_gradient(NULL, NULL, 1, 0, &r, g), NF_EARG, "nf_objective_gradient: `o` is NULL");
    expect(nf_objective_value(NULL, NULL, 1, 0, &r), NF_EARG, "nf_objective_value: `o` is NULL");
}

/* ---- constructors ---- */

static void refused(const void *made, const char *message)
{
    cr_assert_null(made);
    expect(nf_error_status(), NF_EARG, message);
}

Test(arguments, no_dimension)
{
    size_t before = alloc_live();
    refused(nf_diagonal_normal(0), "nf_diagonal_normal: `dim` is 0");
    refused(nf_full_normal(0), "nf_full_normal: `dim` is 0");
    refused(nf_conditional_normal(0, nf_mlp(2, 4, 0, NULL)), "nf_conditional_normal: `dim` is 0");
    refused(nf_diagonal_posterior(0), "nf_diagonal_posterior: `dim` is 0");
    refused(nf_posterior(0, nf_planar(2)), "nf_posterior: `dim` is 0");
    cr_assert_eq(alloc_live(), before);
}
