/*
 * A VAE in plain C whose posterior carries a normalizing flow from nflow, and nothing else: encoder, decoder, gradients
 * and optimiser are this program's own. Two calls are all it takes:
 *
 *     nf_posterior_forward:  mean, log_scale, ctx  ->  z, log q(z)
 *     nf_posterior_backward: d loss / d z, d loss / d log q  ->  those of mean, log_scale, ctx and the flow's
 * parameters
 *
 * The data are pictures of a disc somewhere in an 8 x 8 field. x -> 32 tanh units -> a head of mean, log_scale, ctx;
 * z in R^2 -> 32 tanh units -> logits. The flow: four planar layers whose parameters are ctx (amortised), then a linear
 * layer that all pictures share, whose parameters live in this program's own vector. (posterior_operator.c is shorter:
 * the plug-in as an operator to copy.)
 */
#include "cli.h"
#include "output.h"
#include <math.h>
#include <nflow/nflow.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 8, X = SIDE * SIDE, H = 32, Z = 2, K = 4, HEADS = 2 * Z + K * (2 * Z + 1), BATCH = 100 };

/* y = W x + b on rows; w: W [out x in], then b [out], and its gradient g. */
typedef struct layer {
    size_t in, out;
    double *w, *g;
} layer;

static void affine(const layer *l, size_t n, const double *x, double *y)
{
    for (size_t i = 0; i < n; i++)
        for (size_t o = 0; o < l->out; o++) {
            double sum = l->w[l->out * l->in + o];
            for (size_t j = 0; j < l->in; j++)
                sum += l->w[o * l->in + j] * x[i * l->in + j];
            y[i * l->out + o] = sum;
        }
}

/* l->g += gradient; gx += W^T gy unless gx is NULL. */
static void affine_back(const layer *l, size_t n, const double *x, const double *gy, double *gx)
{
    for (size_t i = 0; i < n; i++)
        for (size_t o = 0; o < l->out; o++) {
            double g = gy[i * l->out + o];
            l->g[l->out * l->in + o] += g;
            for (size_t j = 0; j < l->in; j++) {
                l->g[o * l->in + j] += g * x[i * l->in + j];
                if (gx)
                    gx[i * l->in + j] += g * l->w[o * l->in + j];
            }
        }
}

static void tanh_all(size_t n, double *h)
{
    for (size_t i = 0; i < n; i++)
        h[i] = tanh(h[i]);
}

static void tanh_back(size_t n, const double *h, double *g)
{
    for (size_t i = 0; i < n; i++)
        g[i] *= 1 - h[i] * h[i];
}

/* ---- the model: one vector of parameters, the flow's at its end ---- */

enum { HIDDEN, HEAD, DECODER_HIDDEN, LOGITS, LAYERS };
static layer net[LAYERS] = {{.in = X, .out = H}, {.in = H, .out = HEADS}, {.in = Z, .out = H}, {.in = H, .out = X}};
static size_t n_params, n_flow, n_nets;
static double *theta, *gradient;
static nf_model *posterior;
static nf_workspace *workspace;

static void build(uint64_t seed, size_t threads)
{
    nf_flow *planar[K];
    for (size_t k = 0; k < K; k++)
        planar[k] = nf_planar(Z);
    nf_flow *parts[] = {nf_amortized_by_context(nf_chain(planar, K)), nf_lu_linear(Z, seed)};
    nf_dist *q = cli_made(nf_posterior(Z, nf_chain(parts, 2)));
    n_flow = nf_dist_shape(q)->n_params;
    for (size_t i = 0; i < LAYERS; i++)
        n_nets += net[i].out * (net[i].in + 1);
    n_params = n_nets + n_flow;
    theta = calloc(n_params, sizeof *theta);
    gradient = calloc(n_params + nf_dist_shape(q)->n_prep, sizeof *gradient); /* room for the flow's prepared numbers */
    if (!theta || !gradient)
        cli_fail(1, "out of memory");
    nf_noise_normal(&(nf_noise){.seed = seed, .step = 1}, 1, n_nets, n_nets, theta);
    double *w = theta, *g = gradient;
    for (size_t i = 0; i < LAYERS; i++) {
        size_t weights = net[i].out * net[i].in;
        for (size_t j = 0; j < weights; j++)
            w[j] *= (i == HEAD && j / H >= 2 * Z ? 0.1 : 1) / sqrt((double)net[i].in);
        memset(w + weights, 0, net[i].out * sizeof *w);
        net[i].w = w;
        net[i].g = g;
        w += weights + net[i].out;
        g += weights + net[i].out;
    }
    /* The head's biases, where its outputs had best start: the flow near the identity. */
    cli_ok(nf_start_context(nf_dist_object(q), &(nf_noise){.seed = seed}, net[HEAD].w + HEADS * H));
    posterior = cli_made(nf_model_of_dist(q, &(nf_model_options){.theta = w}));
    workspace = cli_made(nf_workspace_new(threads));
}

/* Mean ELBO of BATCH pictures; the gradient of its negative into `gradient`. */
static double elbo(const double *x, const nf_noise *noise)
{
    static double h[BATCH * H], head[BATCH * HEADS], z[BATCH * Z], d[BATCH * H], a[BATCH * X], log_q[BATCH];
    static double gh[BATCH * H], g_head[BATCH * HEADS], gz[BATCH * Z], gd[BATCH * H], ga[BATCH * X], g_log_q[BATCH];
    cli_ok(nf_model_update(posterior, NF_TRAIN)); /* theta has changed */
    memset(gradient, 0, (n_nets + nf_model_gradient_size(posterior)) * sizeof *gradient);
    memset(gd, 0, sizeof gd);
    memset(gz, 0, sizeof gz);
    memset(gh, 0, sizeof gh);

    affine(&net[HIDDEN], BATCH, x, h);
    tanh_all(BATCH * H, h);
    affine(&net[HEAD], BATCH, h, head);
    const nf_posterior_rows rows = {.n = BATCH,
                                    .mean = head,
                                    .log_scale = head + Z,
                                    .ctx = head + 2 * Z,
                                    .mean_stride = HEADS,
                                    .log_scale_stride = HEADS,
                                    .ctx_stride = HEADS,
                                    .z = z,
                                    .log_q = log_q};
    cli_ok(nf_posterior_forward(posterior, workspace, NF_TRAIN, noise, &rows));
    affine(&net[DECODER_HIDDEN], BATCH, z, d);
    tanh_all(BATCH * H, d);
    affine(&net[LOGITS], BATCH, d, a);

    double sum = 0; /* log p(x | z) + log p(z) - log q(z | x) */
    for (size_t i = 0; i < BATCH; i++) {
        for (size_t j = i * X; j < (i + 1) * X; j++) {
            sum += x[j] * a[j] - fmax(a[j], 0) - log1p(exp(-fabs(a[j])));
            ga[j] = (1 / (1 + exp(-a[j])) - x[j]) / BATCH;
        }
        for (size_t j = i * Z; j < (i + 1) * Z; j++)
            sum -= 0.5 * (z[j] * z[j] + log(2 * acos(-1)));
        sum -= log_q[i];
        g_log_q[i] = 1.0 / BATCH;
    }

    affine_back(&net[LOGITS], BATCH, d, ga, gd);
    tanh_back(BATCH * H, d, gd);
    affine_back(&net[DECODER_HIDDEN], BATCH, z, gd, gz);
    for (size_t j = 0; j < BATCH * Z; j++)
        gz[j] += z[j] / BATCH; /* of -log p(z) */
    double *g_flow = gradient + n_nets;
    const nf_posterior_gradients gradients = {.n = BATCH,
                                              .gz = gz,
                                              .g_log_q = g_log_q,
                                              .g_mean = g_head,
                                              .g_log_scale = g_head + Z,
                                              .g_ctx = g_head + 2 * Z,
                                              .g_mean_stride = HEADS,
                                              .g_log_scale_stride = HEADS,
                                              .g_ctx_stride = HEADS,
                                              .g = g_flow};
    cli_ok(nf_posterior_backward(posterior, workspace, &gradients));
    cli_ok(nf_model_pull_gradient(posterior, g_flow, g_flow));
    affine_back(&net[HEAD], BATCH, h, g_head, gh);
    tanh_back(BATCH * H, h, gh);
    affine_back(&net[HIDDEN], BATCH, x, gh, NULL);
    return sum / BATCH;
}

/* A disc of radius 2 around a random place; its rim is noisy. */
static void draw_pictures(uint64_t seed, uint64_t step, double *x)
{
    static double u[BATCH * (X + 2)];
    nf_noise_uniform(&(nf_noise){.seed = seed, .step = step, .site = 1}, 1, BATCH * (X + 2), BATCH * (X + 2), u);
    for (size_t i = 0; i < BATCH; i++) {
        const double *r = u + i * (X + 2);
        for (size_t j = 0; j < X; j++) {
            double dx = (double)(j % SIDE) - r[X] * (SIDE - 1), dy = (double)(j / SIDE) - r[X + 1] * (SIDE - 1);
            x[i * X + j] = r[j] < 1 / (1 + exp(4 * (hypot(dx, dy) - 2)));
        }
    }
}

/* The largest difference between the gradient and central differences, over some parameters of every layer. */
static double check_gradient(const double *x, const nf_noise *noise)
{
    double worst = 0;
    const double step = 1e-5;
    elbo(x, noise);
    double *g = malloc(n_params * sizeof *g);
    if (!g)
        cli_fail(1, "out of memory");
    memcpy(g, gradient, n_params * sizeof *g);
    for (size_t i = 0; i < n_params; i += i < n_nets - 23 ? 23 : 1) {
        double kept = theta[i];
        theta[i] = kept + step;
        double up = elbo(x, noise);
        theta[i] = kept - step;
        double down = elbo(x, noise);
        theta[i] = kept;
        worst = fmax(worst, fabs(g[i] + (up - down) / (2 * step)));
    }
    free(g);
    return worst;
}

static void adam(size_t t, double rate, double *m, double *v)
{
    for (size_t i = 0; i < n_params; i++) {
        m[i] += 0.1 * (gradient[i] - m[i]);
        v[i] += 0.001 * (gradient[i] * gradient[i] - v[i]);
        theta[i] -= rate * m[i] / (1 - pow(0.9, (double)t)) / (sqrt(v[i] / (1 - pow(0.999, (double)t))) + 1e-8);
    }
}

int main(int argc, char **argv)
{
    static uint64_t seed = 1;
    static size_t steps = 2000, threads = 1;
    static const char *json;
    static bool check;
    static const cli_option options[] = {
        {"steps", "N", "updates", .size = &steps, .min = 1},
        {"seed", "S", "of parameters, data and noise", .seed = &seed},
        {"threads", "N", "of the posterior; 0: as many as the machine has", .size = &threads, .max = 1024},
        {"json", "FILE", "write the last ELBO there", .text = &json},
        {"check", NULL, "compare the gradient with finite differences before and after training", .flag = &check},
        {0},
    };
    cli_parse(argc, argv, "A VAE in plain C with a normalizing flow as its posterior.", options);
    cli_writable(json);
    cli_catch_interrupt();
    build(seed, threads);
    static double x[BATCH * X];
    double *m = calloc(n_params, sizeof *m), *v = calloc(n_params, sizeof *v);
    if (!m || !v)
        cli_fail(1, "out of memory");
    double mean = 0, worst = 0;
    for (size_t t = 1; t <= steps && !cli_interrupted; t++) {
        nf_noise noise = {.seed = seed, .step = t};
        draw_pictures(seed, t, x);
        if (check && (t == 1 || t == steps))
            worst = fmax(worst, check_gradient(x, &noise));
        mean += elbo(x, &noise);
        adam(t, 0.003, m, v);
        cli_progress("training", (double)t, (double)steps, "%zu steps", steps);
        if (t % 200 == 0 || t == steps) {
            mean /= (double)((t - 1) % 200 + 1);
            cli_progress_clear();
            printf("step %5zu  elbo %8.3f\n", t, mean);
            if (t < steps)
                mean = 0;
        }
    }
    cli_progress_clear();
    js_file *j = js_open(json);
    js_begin(j, NULL, '{');
    js_integer(j, "steps", steps);
    js_number(j, "elbo", mean);
    if (check)
        js_number(j, "gradient_error", worst);
    js_end(j);
    js_close(j);
    if (check)
        printf("gradient: largest difference from central differences %.1e\n", worst);
    nf_workspace_free(workspace);
    nf_model_free(posterior);
    free(theta);
    free(gradient);
    free(m);
    free(v);
    if (check && !(worst < 1e-6))
        cli_fail(1, "the gradient is wrong");
    return 0;
}
