/* A sketch of Glow (Kingma & Dhariwal 2018, table 1) by the public contracts: a user's flow type, written here, makes
   layers of channels into layers of images. An image's features are in the order [C][H][W], so that a tile [C H W x ld]
   is a tile of C features whose samples are the pixels, [C x (H W ld)]:

       y[c, p, s] = f(x[., p, s])[c] for each pixel p and sample s,   log|det dy/dx| = sum over p of log|det df|.

   Of nf_actnorm(C) that is Glow's actnorm; of nf_lu_linear(C) it is the invertible 1x1 convolution: one product, with
   matrices that are prepared once a step. Both log-dets count H W times. */
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdlib.h>
#include <string.h>

#ifdef NF_SINGLE
static const double tolerance = 2e-3, rounding = 1.2e-7;
#else
static const double tolerance = 1e-6, rounding = 2.3e-16;
#endif

/* ---- a flow of channels, applied to each pixel ---- */

typedef struct image {
    size_t channels, pixels;
} image;

/* The child's pass over all pixels. The padding of each pixel's feature is among the samples: it repeats the last one,
   and its cotangents are 0. */
static nf_pass pass_of_pixels(const nf_object *o, const nf_pass *p)
{
    const image *m = nf_self(o);
    nf_pass c = nf_child_pass(o, 0, p);
    c.n = c.ld = m->pixels * p->ld;
    return c;
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    const nf_pass c = pass_of_pixels(o, p);
    const nf_mark mark = nf_arena_mark(p->scratch);
    double *of_pixel = nf_arena_alloc(p->scratch, c.ld * sizeof *of_pixel);
    if (!of_pixel)
        return NF_ENOMEM;
    memset(of_pixel, 0, c.ld * sizeof *of_pixel);
    const nf_status status = nf_flow_apply(nf_child(o, 0), d, &c, x, y, of_pixel, saved);
    for (size_t i = 0; i < c.ld; i++)
        log_det[i % p->ld] += of_pixel[i];
    nf_arena_rewind(p->scratch, mark);
    return status;
}

/* g_log_det [ld] for each pixel; NULL when out of memory. */
static const nf_real *repeated(const nf_pass *p, const nf_pass *c, const nf_real *g_log_det)
{
    nf_real *g = nf_arena_reals(p->scratch, 1, c->ld);
    for (size_t i = 0; g && i < c->ld; i++)
        g[i] = g_log_det[i % p->ld];
    return g;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    const nf_pass c = pass_of_pixels(o, p);
    const nf_grad gc = nf_child_grad(o, 0, p, g);
    const nf_mark mark = nf_arena_mark(p->scratch);
    const nf_real *g_of_pixel = repeated(p, &c, g_log_det);
    const nf_status status =
        g_of_pixel ? nf_flow_vjp(nf_child(o, 0), d, &c, x, y, saved, gy, g_of_pixel, gx, &gc) : NF_ENOMEM;
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    const nf_pass c = pass_of_pixels(o, p);
    return nf_flow_solve_jt(nf_child(o, 0), d, &c, x, y, saved, gx, gy);
}

/* The child begins from the pixels of all samples, without the padding between them: [C x (pixels n)]. */
static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    const image *m = nf_self(o);
    if (!batch)
        return nf_init_child(o, 0, noise, NULL, theta, state);
    const size_t n = m->pixels * batch->n, ld = (n + 15) / 16 * 16;
    nf_real *x = calloc(m->channels * ld, sizeof *x);
    if (!x)
        return nf_error(NF_ENOMEM, "pixelwise: no memory for the initial batch");
    for (size_t c = 0; c < m->channels; c++)
        for (size_t i = 0; i < ld; i++) {
            const size_t k = i < n ? i : n - 1, pixel = k / batch->n, s = k % batch->n;
            x[c * ld + i] = batch->x[(c * m->pixels + pixel) * batch->ld + s];
        }
    const nf_batch pixels = {.n = n, .ld = ld, .direction = batch->direction, .x = x};
    const nf_status status = nf_init_child(o, 0, noise, &pixels, theta, state);
    free(x);
    return status;
}

static const nf_flow_type pixelwise_type = {
    .part = {.name = "pixelwise", .init = init, .destroy = free},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_jt,
};

/* f of `channels` features without context and state, for each of `pixels` pixels. */
static nf_flow *pixelwise(nf_flow *f, size_t pixels)
{
    const size_t channels = nf_flow_shape(f)->dim_in;
    image *m = malloc(sizeof *m);
    cr_assert_not_null(m);
    *m = (image){.channels = channels, .pixels = pixels};
    const nf_shape own = {.dim_in = channels * pixels, .dim_out = channels * pixels};
    return nf_flow_new(&pixelwise_type, &own, m, (nf_object *[]){nf_flow_object(f)}, 1);
}

/* ---- Glow ---- */

enum { SIDE = 4, DIM = SIDE * SIDE, C = 4, HW = DIM / C, STEPS_OF_FLOW = 3, N = 5000 };

/* Squeeze, from base to target: channel 2 i + j of [4][2][2] is the pixels (2 r + i, 2 c + j) of [1][4][4]. */
static nf_flow *unsqueeze(void)
{
    size_t order[DIM];
    for (size_t r = 0; r < SIDE; r++)
        for (size_t c = 0; c < SIDE; c++)
            order[r * SIDE + c] = (2 * (r % 2) + c % 2) * HW + r / 2 * (SIDE / 2) + c / 2;
    return nf_permutation(DIM, order);
}

/* The second half of the channels is transformed, given the first one. */
static nf_flow *coupling(void)
{
    unsigned char mask[DIM];
    for (size_t i = 0; i < DIM; i++)
        mask[i] = i >= DIM / 2;
    return nf_coupling(
        DIM, mask, nf_scaled_affine(DIM / 2, &(nf_scaled_affine_options){.scale = NF_SCALE_TANH}),
        nf_mlp(DIM / 2, DIM, 0,
               &(nf_mlp_options){.hidden = (size_t[]){32}, .n_hidden = 1, .activation = NF_TANH, .last_scale = 0.01}));
}

/* From base to target: (coupling, 1x1 convolution, actnorm) for each step of the flow, then the image. */
static nf_flow *glow(void)
{
    nf_flow *f[3 * STEPS_OF_FLOW + 1];
    for (size_t k = 0; k < STEPS_OF_FLOW; k++) {
        f[3 * k] = coupling();
        f[3 * k + 1] = pixelwise(nf_lu_linear(C, k), HW);
        f[3 * k + 2] = pixelwise(nf_actnorm(C), HW);
    }
    f[3 * STEPS_OF_FLOW] = unsqueeze();
    return nf_chain(f, 3 * STEPS_OF_FLOW + 1);
}

/* Images [n x DIM] whose pixels go on from those above and to the left: x = 1.7 + 2.3 u, u_rc = (u_up + u_left) / 2
   + 0.4 z. They are normal, of entropy DIM (log(2 pi e) / 2 + log(0.4 x 2.3)). */
static nf_real *images(uint64_t seed, size_t n)
{
    nf_real *x = malloc(n * DIM * sizeof *x);
    cr_assert_not_null(x);
    nf_noise_normal(&(nf_noise){.seed = seed}, n * DIM, 1, 1, x);
    for (size_t i = 0; i < n; i++) {
        double u[SIDE][SIDE];
        for (size_t r = 0; r < SIDE; r++)
            for (size_t c = 0; c < SIDE; c++) {
                nf_real *at = x + i * DIM + r * SIDE + c;
                u[r][c] = ((r ? u[r - 1][c] : 0) + (c ? u[r][c - 1] : 0)) / 2 + 0.4 * (double)*at;
                *at = (nf_real)(1.7 + 2.3 * u[r][c]);
            }
    }
    return x;
}
static const double entropy = DIM * (1.4189385332046727 - 0.083381608939051);

static nf_model *density(const nf_real *x)
{
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(DIM), glow()),
                                   &(nf_model_options){.seed = 11, .n_init = x ? N : 0, .init_x = x});
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

Test(glow, is_a_flow)
{
    nf_model *m = density(NULL);
    nf_check_report r;
    cr_assert_eq(nf_check_flow(m, &(nf_check_options){.seed = 3, .theta_scale = 0.1, .n = 21}, &r), NF_OK, "%s",
                 nf_error_message());
    for (int d = 0; d < 2; d++) {
        cr_assert_lt(r.inverse_error[d], tolerance, "inverse %g", r.inverse_error[d]);
        cr_assert_lt(r.log_det_error[d], tolerance, "log-det %g", r.log_det_error[d]);
        cr_assert_lt(r.x_error[d], tolerance, "gradient in x %g", r.x_error[d]);
        cr_assert_lt(r.theta_error[d], tolerance, "gradient in theta %g", r.theta_error[d]);
    }
    cr_assert_eq(r.untouched, 0);
    nf_model_free(m);
}

/* One convolution: its log-det is H W times that of the matrix, and every pixel gets the same matrix. */
Test(glow, a_convolution_counts_its_pixels)
{
    nf_model *conv = nf_model_of_flow(pixelwise(nf_lu_linear(C, 5), HW), NULL);
    nf_model *matrix = nf_model_of_flow(nf_lu_linear(C, 5), NULL);
    const size_t n_params = nf_model_shape(matrix)->n_params;
    cr_assert_eq(nf_model_shape(conv)->n_params, n_params);
    nf_noise_normal(&(nf_noise){.seed = 6}, n_params, 1, 1, nf_model_theta(matrix));
    memcpy(nf_model_theta(conv), nf_model_theta(matrix), n_params * sizeof(nf_real));
    cr_assert_eq(nf_model_update(conv, NF_EVAL), NF_OK);
    cr_assert_eq(nf_model_update(matrix, NF_EVAL), NF_OK);
    nf_real x[DIM], y[DIM], pixel[C], image_of[C];
    double log_det, of_matrix;
    nf_noise_normal(&(nf_noise){.seed = 7}, DIM, 1, 1, x);
    cr_assert_eq(nf_transform(conv, NULL, NULL, NF_FORWARD, 1, x, NULL, y, &log_det), NF_OK);
    for (size_t p = 0; p < HW; p++) {
        for (size_t c = 0; c < C; c++)
            pixel[c] = x[c * HW + p];
        cr_assert_eq(nf_transform(matrix, NULL, NULL, NF_FORWARD, 1, pixel, NULL, image_of, &of_matrix), NF_OK);
        for (size_t c = 0; c < C; c++)
            cr_assert_float_eq(y[c * HW + p], image_of[c], 20 * rounding * (1 + fabs((double)image_of[c])));
    }
    cr_assert_float_eq(log_det, HW * of_matrix, 20 * rounding * (1 + fabs(log_det)));
    nf_model_free(conv);
    nf_model_free(matrix);
}

/* The first actnorm on the way of the data leaves each channel with mean 0 and variance 1, over samples and pixels. */
Test(glow, actnorm_begins_from_the_pixels)
{
    nf_real *x = images(21, N), *y = malloc(N * DIM * sizeof *y);
    nf_flow *f = nf_chain((nf_flow *[]){pixelwise(nf_actnorm(C), HW), unsqueeze()}, 2);
    nf_model *m = nf_model_of_flow(f, &(nf_model_options){.n_init = N, .init_x = x});
    cr_assert_not_null(m, "%s", nf_error_message());
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_INVERSE, N, x, NULL, y, NULL), NF_OK);
    for (size_t c = 0; c < C; c++) {
        double mean = 0, square = 0;
        for (size_t i = 0; i < N; i++)
            for (size_t p = 0; p < HW; p++) {
                const double v = (double)y[i * DIM + c * HW + p];
                mean += v / (N * HW);
                square += v * v / (N * HW);
            }
        cr_assert_float_eq(mean, 0, 1e4 * rounding);
        cr_assert_float_eq(square, 1, 1e4 * rounding);
    }
    nf_model_free(m);
    free(x);
    free(y);
}

static double loss_of(const nf_model *m, const nf_real *x)
{
    double *log_p = malloc(N * sizeof *log_p), sum = 0;
    cr_assert_eq(nf_log_prob(m, NULL, NULL, N, x, NULL, log_p), NF_OK);
    for (size_t i = 0; i < N; i++)
        sum -= log_p[i] / N;
    free(log_p);
    return sum;
}

/* Trained for a few steps, the loss of fresh images falls, towards the entropy and not below it; and the same numbers
   come out for any number of threads. */
Test(glow, learns_a_density)
{
    nf_real *x = images(31, N), *fresh = images(32, N), *theta = NULL;
    for (size_t threads = 1; threads <= 2; threads++) {
        nf_model *m = density(x);
        const size_t bytes = nf_model_shape(m)->n_params * sizeof(nf_real);
        const nf_data data = {.n = N, .dim = DIM, .x = x};
        const double before = loss_of(m, fresh);
        nf_objective *o = nf_maximum_likelihood(m, &data, &(nf_likelihood_options){.batch = 250});
        cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 400, .rate = 0.004, .threads = threads}, NULL), NF_OK, "%s",
                     nf_error_message());
        const double after = loss_of(m, fresh);
        cr_assert_lt(after, before - 2, "%g, then %g; entropy %g", before, after, entropy);
        cr_assert_gt(after, entropy - 4 * sqrt(DIM / 2. / N)); /* a sample's -log p has the variance DIM / 2 */
        cr_assert_lt(after, entropy + 1, "%g, entropy %g", after, entropy);
        if (threads == 1) {
            theta = malloc(bytes);
            memcpy(theta, nf_model_theta(m), bytes);
        } else
            cr_assert_arr_eq(theta, nf_model_theta(m), bytes);
        nf_objective_free(o);
        nf_model_free(m);
    }
    free(theta);
    free(x);
    free(fresh);
}
