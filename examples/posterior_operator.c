/*
 * nflow's posterior as an operator of somebody else's network library: copy the part between the two lines. The rest
 * stands for such a library, one that has all weights in one array, which moves as the network grows, and all gradients
 * in another, to which every operator adds. The program trains a small VAE, evaluates it, and checks its gradient. It
 * needs nothing but nflow, in double or in float:
 *
 *     cc posterior_operator.c $(pkg-config --cflags --libs nflow)
 *     cc posterior_operator.c $(pkg-config --cflags --libs nflowf)
 */
#include <math.h>
#include <nflow/nflow.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the operator: head [n x width] -> z [n x d], log q(z) [n] ---- */

typedef struct flow_op {
    nf_model *model;
    nf_workspace *ws;           /* keeps the tape between forward and backward */
    size_t d, width, n_weights; /* a row of the head: d means, d log-scales, the flow's context */
    nf_real *g;                 /* the gradient before it is pulled back to the weights */
} flow_op;

/* Takes the posterior over. flow_op_free() is right also after a failure. */
static nf_status flow_op_new(flow_op *op, nf_dist *posterior, uint64_t seed)
{
    *op = (flow_op){.model = nf_model_of_dist(posterior, &(nf_model_options){.seed = seed}), .ws = nf_workspace_new(1)};
    op->g = calloc(nf_model_gradient_size(op->model) + 1, sizeof *op->g);
    if (!op->model || !op->ws || !op->g)
        return NF_ENOMEM; /* or what nf_error_status() says */
    const nf_shape *s = nf_model_shape(op->model);
    op->d = s->dim_out, op->width = s->n_ctx, op->n_weights = s->n_params;
    return NF_OK;
}

static void flow_op_free(flow_op *op)
{
    nf_workspace_free(op->ws);
    nf_model_free(op->model);
    free(op->g);
}

/* `step` names the noise. Of threads that share a batch, each has a workspace and a `g` of its own and names the number
   of its first row in noise.first_sample; one of them calls nf_model_update() before the others begin. */
static nf_status flow_op_forward(flow_op *op, nf_mode mode, uint64_t step, size_t n, const nf_real *head, nf_real *z,
                                 double *log_q)
{
    const nf_noise noise = {.seed = 1, .step = step};
    nf_posterior_rows rows = {.n = n, .mean = head, .log_scale = head + op->d, .ctx = head + 2 * op->d};
    rows.mean_stride = rows.log_scale_stride = rows.ctx_stride = op->width;
    rows.z = z, rows.log_q = log_q;
    const nf_status status = nf_model_update(op->model, mode); /* the weights have changed since the last step */
    return status == NF_OK ? nf_posterior_forward(op->model, op->ws, mode, &noise, &rows) : status;
}

/* Adds to g_head [n x width] and to g_weights [n_weights]. */
static nf_status flow_op_backward(flow_op *op, size_t n, const nf_real *gz, const double *g_log_q, nf_real *g_head,
                                  nf_real *g_weights)
{
    nf_posterior_gradients r = {.n = n, .gz = gz, .g_log_q = g_log_q, .g = op->g, .accumulate = NF_ADD_TO_ALL};
    r.g_mean = g_head, r.g_log_scale = g_head + op->d, r.g_ctx = g_head + 2 * op->d;
    r.g_mean_stride = r.g_log_scale_stride = r.g_ctx_stride = op->width;
    memset(op->g, 0, nf_model_gradient_size(op->model) * sizeof *op->g);
    const nf_status status = nf_posterior_backward(op->model, op->ws, &r);
    return status == NF_OK ? nf_model_pull_gradient(op->model, op->g, g_weights) : status;
}

/* ---- end of the operator ---- */

static void check(nf_status status)
{
    if (status != NF_OK) {
        fprintf(stderr, "posterior_operator: %s\n", nf_error_message());
        exit(1);
    }
}

static void *checked(void *memory)
{
    if (!memory) {
        fprintf(stderr, "posterior_operator: out of memory, or %s\n", nf_error_message());
        exit(1);
    }
    return memory;
}

/* The library's arrays: weights, their gradients, and what its optimiser keeps. */
static size_t n_weights;
static nf_real *weights, *gradients, *momentum;

/* Makes room for n more weights, and returns the place of the first. All arrays may move. */
static size_t grow(size_t n)
{
    nf_real **array[] = {&weights, &gradients, &momentum};
    for (size_t i = 0; i < 3; i++) {
        *array[i] = checked(realloc(*array[i], (n_weights + n) * sizeof **array[i]));
        memset(*array[i] + n_weights, 0, n * sizeof **array[i]);
    }
    return (n_weights += n) - n;
}

/* A dense layer y = W x + b, with W [out x in] and then b [out] from weights[at] on. */
typedef struct dense {
    size_t in, out, at;
} dense;

static dense dense_new(size_t in, size_t out)
{
    dense l = {in, out, grow(out * (in + 1))};
    nf_noise_normal(&(nf_noise){.seed = 3, .site = (uint32_t)l.at}, 1, out * in, out * in, weights + l.at);
    for (size_t i = 0; i < out * in; i++)
        weights[l.at + i] *= NF_R(0.3) / (nf_real)sqrt((double)in);
    return l;
}

static void dense_forward(const dense *l, size_t n, const nf_real *x, nf_real *y)
{
    const nf_real *w = weights + l->at, *b = w + l->out * l->in;
    for (size_t i = 0; i < n; i++)
        for (size_t o = 0; o < l->out; o++) {
            y[i * l->out + o] = b[o];
            for (size_t j = 0; j < l->in; j++)
                y[i * l->out + o] += w[o * l->in + j] * x[i * l->in + j];
        }
}

/* Adds to the layer's gradients and to gx, unless that is NULL. */
static void dense_backward(const dense *l, size_t n, const nf_real *x, const nf_real *gy, nf_real *gx)
{
    const nf_real *w = weights + l->at;
    nf_real *gw = gradients + l->at, *gb = gw + l->out * l->in;
    for (size_t i = 0; i < n; i++)
        for (size_t o = 0; o < l->out; o++) {
            const nf_real g = gy[i * l->out + o];
            gb[o] += g;
            for (size_t j = 0; j < l->in; j++) {
                gw[o * l->in + j] += g * x[i * l->in + j];
                if (gx)
                    gx[i * l->in + j] += g * w[o * l->in + j];
            }
        }
}

static void optimiser_step(nf_real rate)
{
    for (size_t i = 0; i < n_weights; i++) {
        momentum[i] = NF_R(0.9) * momentum[i] + gradients[i];
        weights[i] -= rate * momentum[i];
    }
}

/* ---- a VAE of that library: x in R^3 -> head -> z in R^2 -> tanh units -> means of x with deviation 0.2 ---- */

enum { N = 64, X = 3, Z = 2, H = 12, LAYERS = 2, HEAD = 2 * Z + LAYERS * (2 * Z + 1) };
static dense encoder, hidden, decoder;
static flow_op op;
static size_t op_at; /* the place of the operator's weights */

static void build(void)
{
    nf_flow *planar[LAYERS] = {nf_planar(Z), nf_planar(Z)}; /* parameters from the context, then a layer for all rows */
    nf_flow *parts[] = {nf_amortized_by_context(nf_chain(planar, LAYERS)), nf_lu_linear(Z, 4)};
    nf_dist *posterior = nf_posterior(Z, nf_chain(parts, 2));
    encoder = dense_new(X, HEAD);
    nf_real *bias = weights + encoder.at + X * HEAD; /* where the head had best start: the flow near the identity */
    if (posterior)
        check(nf_start_context(nf_dist_object(posterior), &(nf_noise){.seed = 4}, bias));
    check(flow_op_new(&op, posterior, 4));
    op_at = grow(op.n_weights);
    memcpy(weights + op_at, nf_model_theta(op.model), op.n_weights * sizeof *weights);
    hidden = dense_new(Z, H);
    decoder = dense_new(H, X);
    check(nf_model_rebind(op.model, weights + op_at, NULL)); /* again whenever the array has moved */
}

/* The mean over n rows of log q(z|x) - log p(z) - log p(x|z). In training its gradient goes to `gradients`. */
static double loss(nf_mode mode, uint64_t step, size_t n, const nf_real *x)
{
    static nf_real head[N * HEAD], z[N * Z], h[N * H], y[N * X], g_head[N * HEAD], gz[N * Z], gh[N * H], gy[N * X];
    static double log_q[N], g_log_q[N];
    const double precision = 1 / (0.2 * 0.2), log_2_pi = log(2 * acos(-1));
    dense_forward(&encoder, n, x, head);
    check(flow_op_forward(&op, mode, step, n, head, z, log_q));
    dense_forward(&hidden, n, z, h);
    for (size_t i = 0; i < n * H; i++)
        h[i] = (nf_real)tanh((double)h[i]);
    dense_forward(&decoder, n, h, y);
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += log_q[i] + 0.5 * (double)Z * log_2_pi + (double)X * (0.5 * log_2_pi + log(0.2));
    for (size_t i = 0; i < n * Z; i++)
        sum += 0.5 * (double)z[i] * (double)z[i];
    for (size_t i = 0; i < n * X; i++)
        sum += 0.5 * precision * ((double)y[i] - (double)x[i]) * ((double)y[i] - (double)x[i]);
    if (mode == NF_EVAL)
        return sum / (double)n;

    memset(gradients, 0, n_weights * sizeof *gradients);
    memset(g_head, 0, sizeof g_head);
    memset(gh, 0, sizeof gh);
    for (size_t i = 0; i < n * X; i++)
        gy[i] = (nf_real)precision * (y[i] - x[i]) / (nf_real)n;
    for (size_t i = 0; i < n * Z; i++)
        gz[i] = z[i] / (nf_real)n; /* of -log p(z) */
    for (size_t i = 0; i < n; i++)
        g_log_q[i] = 1 / (double)n;
    dense_backward(&decoder, n, h, gy, gh);
    for (size_t i = 0; i < n * H; i++)
        gh[i] *= 1 - h[i] * h[i];
    dense_backward(&hidden, n, z, gh, gz);
    check(flow_op_backward(&op, n, gz, g_log_q, g_head, gradients + op_at));
    dense_backward(&encoder, n, x, g_head, NULL);
    return sum / (double)n;
}

/* Points on a circle that is bent out of its plane. */
static void draw_data(uint64_t step, nf_real *x)
{
    nf_real angle[N];
    nf_noise_uniform(&(nf_noise){.seed = 5, .step = step}, 1, N, N, angle);
    for (size_t i = 0; i < N; i++) {
        const double a = 2 * acos(-1) * (double)angle[i];
        x[i * X] = (nf_real)cos(a), x[i * X + 1] = (nf_real)sin(a), x[i * X + 2] = (nf_real)(0.5 * sin(2 * a));
    }
}

/* The relative difference between the gradient in a random direction of all weights and a central difference. */
static double gradient_error(const nf_real *x)
{
    const double step = sizeof(nf_real) == sizeof(float) ? 1e-3 : 1e-5;
    nf_real *v = checked(malloc(n_weights * sizeof *v));
    double exact = 0, side[2];
    nf_noise_normal(&(nf_noise){.seed = 6}, 1, n_weights, n_weights, v);
    loss(NF_TRAIN, 0, N, x);
    for (size_t i = 0; i < n_weights; i++)
        exact += (double)gradients[i] * (double)v[i];
    for (int s = 0; s < 2; s++) {
        for (size_t i = 0; i < n_weights; i++)
            weights[i] += (nf_real)(s ? 2 * step : -step) * v[i];
        side[s] = loss(NF_TRAIN, 0, N, x);
    }
    for (size_t i = 0; i < n_weights; i++)
        weights[i] -= (nf_real)step * v[i];
    free(v);
    return fabs(exact - (side[1] - side[0]) / (2 * step)) / (1 + fabs(exact));
}

int main(void)
{
    enum { STEPS = 1500, TEST = 40 };
    nf_real x[N * X], test[N * X];
    build();
    draw_data(0, test);
    const double error = gradient_error(test), before = loss(NF_EVAL, 0, TEST, test);
    for (uint64_t step = 1; step <= STEPS; step++) {
        draw_data(step, x);
        loss(NF_TRAIN, step, N, x);
        optimiser_step(NF_R(0.002));
    }
    const double after = loss(NF_EVAL, 0, TEST, test), trained_error = gradient_error(test);
    printf("loss %.3f before, %.3f after training; gradient wrong by %.1e and %.1e\n", before, after, error,
           trained_error);
    flow_op_free(&op);
    free(weights), free(gradients), free(momentum);
    return !(after < before - 5 && fmax(error, trained_error) < (sizeof(nf_real) == sizeof(float) ? 1e-2 : 1e-6));
}
