/* Tangent maps of nets and their vector-Jacobian products, one table over all nets, units, contexts, dropout and
   numbers of directions: tangents against differences of the net, both against its own product, products against
   differences of both. In float, differences are so wide that they meet kinks: there only smooth units are compared by
   them. */
#include "fail_alloc.h"
#include "net_fixture.h"
#include "nn/swish.h"
#include "numbers.h"
#include <nflow/image.h>
#include <stdio.h>

#ifdef NF_SINGLE
static const bool is_double = false;
static const double rounding = 1.2e-7;
#else
static const bool is_double = true;
static const double rounding = 2.3e-16;
#endif

/* ---- the nets ---- */

typedef enum subject_kind {
    PERCEPTRON,
    GATED_UNITS,
    MAXOUT_UNITS,
    RESIDUAL_NET,
    MASKED,
    MASKED_RESIDUAL,
    SQUASH,
    CONVOLUTIONS,
    GATED_CONVOLUTIONS,
    RESIDUAL_CONVOLUTIONS,
    CONVOLUTIONS_OF_CONTEXT,
    AFFINE, /* no hidden layers, here and below */
    ONE_LAYER,
    MASKED_AFFINE,
    CONTEXT_ALONE, /* no features of x */
    N_SUBJECTS
} subject_kind;
static const char *const subject_names[N_SUBJECTS] = {"mlp",
                                                      "gated mlp",
                                                      "maxout mlp",
                                                      "residual mlp",
                                                      "masked net",
                                                      "residual masked net",
                                                      "gated by time",
                                                      "convolutions",
                                                      "gated convolutions",
                                                      "residual convolutions",
                                                      "convolutions of an image in the context",
                                                      "affine",
                                                      "one layer",
                                                      "masked affine",
                                                      "no features of input"};

/* Kinds of hidden units that a net is tested with. */
static int n_units(subject_kind kind)
{
    return kind == PERCEPTRON || kind == RESIDUAL_NET || kind == MASKED || kind == MASKED_RESIDUAL || kind == SQUASH ||
                   kind == CONVOLUTIONS || kind == RESIDUAL_CONVOLUTIONS
               ? N_ACTIVATIONS
               : 1;
}

static nf_net *masked_net(size_t n_hidden, size_t n_blocks, size_t n_ctx, nf_activation unit, double dropout)
{
    static const size_t hidden[] = {9, 7};
    return nf_masked_net(4, 2, n_ctx,
                         &(nf_masked_options){.hidden = hidden,
                                              .n_hidden = n_hidden ? n_hidden : NF_NONE,
                                              .n_blocks = n_blocks,
                                              .activation = unit,
                                              .dropout = dropout});
}

static nf_net *subject_net(subject_kind kind, nf_activation unit, size_t n_ctx, double dropout)
{
    switch (kind) {
    case PERCEPTRON:
        return fixture_net(MLP, 5, 3, n_ctx, unit, NF_TANH, dropout);
    case GATED_UNITS:
        return fixture_net(GATED, 5, 3, n_ctx, unit, NF_SIGMOID, dropout);
    case MAXOUT_UNITS:
        return fixture_net(MAXOUT, 5, 3, n_ctx, unit, NF_IDENTITY, dropout);
    case RESIDUAL_NET:
        return fixture_net(RESIDUAL, 5, 3, n_ctx, unit, NF_IDENTITY, dropout);
    case MASKED:
        return masked_net(2, 0, n_ctx, unit, dropout);
    case MASKED_RESIDUAL:
        return masked_net(1, 2, n_ctx, unit, dropout);
    case SQUASH:
        return nf_squash_mlp(
            5, 3, n_ctx,
            &(nf_mlp_options){
                .hidden = (const size_t[]){7, 4}, .n_hidden = 2, .activation = unit, .output = NF_SOFTPLUS});
    case CONVOLUTIONS: /* from the even pixels of 3 x 2 to the odd ones */
        return nf_conv_net((nf_image){2, 3, 2}, 2, n_ctx,
                           &(nf_conv_options){.hidden = (const size_t[]){4, 3},
                                              .n_hidden = 2,
                                              .activation = unit,
                                              .in_pixels = NF_EVEN_PIXELS,
                                              .out_pixels = NF_ODD_PIXELS,
                                              .n_per_feature = 2,
                                              .dropout = dropout});
    case GATED_CONVOLUTIONS:
        return nf_conv_net(
            (nf_image){1, 2, 3}, 1, n_ctx,
            &(nf_conv_options){.hidden = (const size_t[]){3, 4}, .n_hidden = 2, .gated = true, .dropout = dropout});
    case RESIDUAL_CONVOLUTIONS:
        return nf_conv_net(
            (nf_image){1, 2, 2}, 1, n_ctx,
            &(nf_conv_options){
                .hidden = (const size_t[]){2}, .n_hidden = 1, .n_blocks = 1, .activation = unit, .dropout = dropout});
    case CONVOLUTIONS_OF_CONTEXT: /* two features of it are an image */
        return nf_conv_net((nf_image){2, 2, 1}, 1, n_ctx,
                           &(nf_conv_options){.hidden = (const size_t[]){3},
                                              .n_hidden = 1,
                                              .n_blocks = 1,
                                              .activation = NF_TANH,
                                              .ctx_channels = n_ctx / 3});
    case AFFINE:
        return nf_mlp(5, 3, n_ctx, NULL);
    case ONE_LAYER:
        return nf_mlp(5, 3, n_ctx, &(nf_mlp_options){.output = NF_SOFTPLUS});
    case MASKED_AFFINE:
        return masked_net(0, 0, n_ctx, unit, dropout);
    default:
        return fixture_net(MLP, 0, 3, n_ctx, unit, NF_TANH, dropout);
    }
}

/* Whether the slopes are smooth, too. */
static bool is_smooth(subject_kind kind, nf_activation unit)
{
    const bool kinked = unit == NF_ACTIVATION_DEFAULT || unit == NF_RELU || unit == NF_LEAKY_RELU || unit == NF_ELU;
    return kind != MAXOUT_UNITS && !(kinked && (n_units(kind) > 1 || kind == CONTEXT_ALONE));
}

/* ---- a net at a point, with k directions and cotangents of everything ---- */

typedef struct tangent {
    fixture f;
    subject_kind kind;
    nf_activation unit;
    size_t k, n_ctx;
    double dropout;
    nf_real *dx, *dy, *gdy, *gdx;
    void *saved;
} tangent;

static const char *title(const tangent *t)
{
    static char text[120];
    snprintf(text, sizeof text, "%s, unit %d, %zu features of context, dropout %g, %zu directions",
             subject_names[t->kind], (int)t->unit, t->n_ctx, t->dropout, t->k);
    return text;
}

static void begin(tangent *t, subject_kind kind, nf_activation unit, size_t n_ctx, double dropout, size_t k, size_t n)
{
    *t = (tangent){.kind = kind, .unit = unit, .k = k, .n_ctx = n_ctx, .dropout = dropout};
    fixture *f = &t->f;
    f->net = subject_net(kind, unit, n_ctx, dropout);
    cr_assert_not_null(f->net, "%s: %s", title(t), nf_error_message());
    draw_numbers(f, n);
    f->p.mode = NF_TRAIN;
    f->p.noise = (nf_noise){.seed = 815, .step = 3, .first_sample = 1234, .site = 6};
    const size_t in = f->shape->dim_in, out = f->shape->dim_out, ld = f->p.ld;
    t->dx = fixture_draw(f, in * k, n, ld, 31);
    t->dy = fixture_draw(f, out * k, n, ld, 32);
    t->gdy = fixture_draw(f, out * k, n, ld, 33);
    nfi_pad_zero(out * k, n, ld, t->gdy);
    t->gdx = fixture_draw(f, in * k, n, ld, 34);
    run(f);
    cr_assert_eq(nf_net_tangent(nf_net_object(f->net), &f->p, f->x, f->y, f->saved, k, t->dx, t->dy, &t->saved), NF_OK,
                 "%s: %s", title(t), nf_error_message());
}

static void back(const tangent *t, const nf_real *gy, nf_real *gx, nf_real *gdx, const nf_grad *g)
{
    const fixture *f = &t->f;
    cr_assert_eq(nf_net_tangent_vjp(nf_net_object(f->net), &f->p, f->x, f->y, f->saved, t->k, t->dx, t->dy, t->saved,
                                    gy, t->gdy, gx, gdx, g),
                 NF_OK, "%s: %s", title(t), nf_error_message());
}

static nf_real *zeros(fixture *f, size_t n)
{
    nf_real *v = fixture_draw(f, n, 1, 1, 1);
    memset(v, 0, n * sizeof *v);
    return v;
}

/* f(t) for every net, unit, context, dropout; k and n as given. */
static void for_each_subject(size_t k, size_t n, void (*f)(tangent *t))
{
    for (subject_kind kind = PERCEPTRON; kind < N_SUBJECTS; kind++)
        for (int unit = 0; unit < n_units(kind); unit++)
            for (size_t n_ctx = 0; n_ctx < 4; n_ctx += 3)
                for (int drops = 0; drops < 2; drops++) {
                    tangent t;
                    begin(&t, kind, (nf_activation)unit, n_ctx, drops ? 0.4 : 0, k, n);
                    f(&t);
                    tear_down(&t.f);
                }
}

/* What a displacement moves, each may be NULL. */
typedef struct moved {
    const nf_real *theta, *x, *ctx, *dx;
} moved;
enum { N_INPUTS = 4 };
static const char *const input_names[N_INPUTS] = {"the parameters", "x", "the context", "dx"};

/* y and dy at a point moved by h v, in f's numbers. */
static void displaced_to(tangent *t, double h, moved v, nf_real **y, nf_real **dy)
{
    fixture *f = &t->f;
    const size_t ld = f->p.ld, in = f->shape->dim_in, out = f->shape->dim_out;
    const nf_real *from[N_INPUTS] = {f->theta, f->x, f->ctx, t->dx}, *move[N_INPUTS] = {v.theta, v.x, v.ctx, v.dx};
    const size_t size[N_INPUTS] = {f->shape->n_params, in * ld, t->n_ctx * ld, in * t->k * ld};
    nf_real *at[N_INPUTS];
    for (int i = 0; i < N_INPUTS; i++) {
        at[i] = nf_arena_reals(&f->numbers, size[i] + 1, 1);
        for (size_t j = 0; j < size[i]; j++)
            at[i][j] = (nf_real)((double)from[i][j] + (move[i] ? h * (double)move[i][j] : 0));
    }
    *y = nf_arena_reals(&f->numbers, out, ld);
    *dy = nf_arena_reals(&f->numbers, out * t->k, ld);
    nf_arena tape = {0};
    nf_pass p = f->p;
    p.tape = &tape;
    p.theta = at[0];
    p.ctx = t->n_ctx ? at[2] : NULL;
    void *saved = NULL, *saved_tangent = NULL;
    cr_assert_eq(nf_net_apply(nf_net_object(f->net), &p, at[1], *y, &saved), NF_OK);
    cr_assert_eq(nf_net_tangent(nf_net_object(f->net), &p, at[1], *y, saved, t->k, at[3], *dy, &saved_tangent), NF_OK);
    nfi_arena_clear(&tape);
}

/* <gy, y> + <gdy, dy> at a displaced point. */
static double loss_at(tangent *t, double h, moved v)
{
    fixture *f = &t->f;
    const nf_mark mark = nf_arena_mark(&f->numbers);
    nf_real *y, *dy;
    displaced_to(t, h, v, &y, &dy);
    const size_t n = f->p.n, ld = f->p.ld, out = f->shape->dim_out;
    const double sum = inner(out, n, ld, f->gy, NULL, y) + inner(out * t->k, n, ld, t->gdy, NULL, dy);
    nf_arena_rewind(&f->numbers, mark);
    return sum;
}

/* ---- the tangent ---- */

/* The largest difference between dy's direction j and (y(x + h dx_j) - y(x - h dx_j)) / 2h; *noise: what of it may be
   rounding. */
static double error_of_differences(tangent *t, size_t j, double h, double *noise)
{
    fixture *f = &t->f;
    const nf_mark mark = nf_arena_mark(&f->numbers);
    const size_t ld = f->p.ld, k = t->k;
    nf_real *vx = zeros(f, f->shape->dim_in * ld), *y[2], *dy;
    for (size_t r = 0; r < f->shape->dim_in; r++)
        memcpy(vx + r * ld, t->dx + (r * k + j) * ld, ld * sizeof *vx);
    displaced_to(t, h, (moved){.x = vx}, &y[0], &dy);
    displaced_to(t, -h, (moved){.x = vx}, &y[1], &dy);
    double worst = 0;
    *noise = 0;
    for (size_t r = 0; r < f->shape->dim_out; r++)
        for (size_t s = 0; s < f->p.n; s++) {
            *noise = fmax(*noise, 10 * rounding * (1 + fabs((double)y[0][r * ld + s])) / h);
            const double by = ((double)y[0][r * ld + s] - (double)y[1][r * ld + s]) / (2 * h);
            worst = fmax(worst, fabs(by - (double)t->dy[(r * k + j) * ld + s]));
        }
    nf_arena_rewind(&f->numbers, mark);
    return worst;
}

static void check_tangent(tangent *t)
{
    const bool smooth = is_smooth(t->kind, t->unit);
    double noise;
    for (size_t j = 0; j < t->k; j++) {
        if (smooth && is_double) {
            const double wide = error_of_differences(t, j, 4e-4, &noise);
            const double narrow = error_of_differences(t, j, 2e-4, &noise);
            cr_assert_lt(narrow, 1e-3, "%s: off by %g", title(t), narrow);
            if (narrow > 30 * noise)
                cr_assert_float_eq(log2(wide / narrow), 2, 0.06, "%s: error falls from %g to %g", title(t), wide,
                                   narrow);
        } else if (smooth || is_double) {
            const double error = error_of_differences(t, j, is_double ? 1e-6 : 2e-3, &noise);
            cr_assert_lt(error, noise + (is_double ? 1e-7 : 2e-2), "%s: off by %g", title(t), error);
        }
    }
    for (size_t i = 0; i < t->f.shape->dim_out * t->k * t->f.p.ld; i++)
        cr_assert(isfinite((double)t->dy[i]), "%s: padding", title(t));
}

Test(tangent, is_the_derivative_of_the_net)
{
    for_each_subject(1, 37, check_tangent);
    for_each_subject(3, 37, check_tangent);
}

/* <gy, J dx> = <J^T gy, dx>, direction by direction, and gdx is J^T gdy. */
static void check_adjoint(tangent *t)
{
    fixture *f = &t->f;
    const size_t ld = f->p.ld, k = t->k, n = f->p.n, in = f->shape->dim_in, out = f->shape->dim_out;
    const nf_grad none = {0};
    nf_real *gy = zeros(f, out * ld), *gx = zeros(f, in * ld);
    back(t, f->gy, NULL, t->gdx, &none);
    for (size_t j = 0; j < k; j++) {
        for (size_t r = 0; r < out; r++)
            memcpy(gy + r * ld, t->gdy + (r * k + j) * ld, ld * sizeof *gy);
        cr_assert_eq(nf_net_vjp(nf_net_object(f->net), &f->p, f->x, f->y, f->saved, gy, gx, &none), NF_OK);
        double forth = 0, terms = 0, back_again = 0;
        for (size_t r = 0; r < out; r++)
            for (size_t s = 0; s < n; s++) {
                const double term = (double)gy[r * ld + s] * (double)t->dy[(r * k + j) * ld + s];
                forth += term;
                terms += fabs(term);
            }
        for (size_t r = 0; r < in; r++)
            for (size_t s = 0; s < ld; s++) {
                const double g = (double)gx[r * ld + s], got = (double)t->gdx[(r * k + j) * ld + s];
                back_again += g * (double)t->dx[(r * k + j) * ld + s];
                cr_assert_float_eq(got, g, 50 * rounding * (1 + fabs(g)), "%s: gdx is %.17g, not %.17g", title(t), got,
                                   g);
                cr_assert(s < n || got == 0, "%s: padding of gdx", title(t));
            }
        cr_assert_float_eq(forth, back_again, 20 * rounding * (1 + terms), "%s: %.17g and %.17g", title(t), forth,
                           back_again);
    }
}

Test(tangent, is_the_transpose_of_the_product)
{
    for_each_subject(1, 37, check_adjoint);
    for_each_subject(3, 37, check_adjoint);
}

/* ---- its product ---- */

/* A random direction of norm 1 in input i, which has [features x ld] numbers; returns the derivative along it. */
static double along(tangent *t, int i, const nf_real *gradient, size_t rows, size_t n, size_t ld, moved *v)
{
    nf_real *e = fixture_draw(&t->f, rows, n, ld, 41 + (uint64_t)i);
    const double norm = sqrt(inner(rows, n, ld, e, NULL, e));
    for (size_t j = 0; j < rows * ld; j++)
        e[j] = (nf_real)((double)e[j] / norm);
    *v = (moved){i == 0 ? e : NULL, i == 1 ? e : NULL, i == 2 ? e : NULL, i == 3 ? e : NULL};
    return inner(rows, n, ld, gradient, NULL, e);
}

/* Taylor: L(h) - L(0) - h d falls as h^2, and central differences are d. */
static void check_along(tangent *t, int i, double d, moved v)
{
    const bool smooth = is_smooth(t->kind, t->unit);
    const double h = !is_double ? 2e-2 : smooth ? 1e-3 : 1e-6;
    const double up[2] = {loss_at(t, h, v), loss_at(t, h / 2, v)}, down[2] = {loss_at(t, -h, v), loss_at(t, -h / 2, v)};
    const double here = loss_at(t, 0, v), noise = 50 * rounding * (10 + fabs(here));
    const double wide = (up[0] - down[0]) / (2 * h), narrow = (up[1] - down[1]) / h;
    cr_assert_float_eq(d, narrow, (is_double ? 1e-9 : 2e-4) * (1 + fabs(d)) + fabs(wide - narrow) / 2 + 4 * noise / h,
                       "%s: derivative in %s is %.12g, by differences %.12g", title(t), input_names[i], d, narrow);
    if (!smooth || !is_double)
        return;
    double rest[2];
    for (int j = 0; j < 2; j++)
        rest[j] = fabs(up[j] - here - h / (1 << j) * d) + fabs(down[j] - here + h / (1 << j) * d);
    if (rest[1] > 100 * noise)
        cr_assert_float_eq(log2(rest[0] / rest[1]), 2, 0.1, "%s: remainder in %s falls from %g to %g", title(t),
                           input_names[i], rest[0], rest[1]);
}

static void check_product(tangent *t)
{
    fixture *f = &t->f;
    if (!is_smooth(t->kind, t->unit) && !is_double)
        return;
    const size_t n = f->p.n, ld = f->p.ld, in = f->shape->dim_in, n_params = f->shape->n_params;
    nf_real *g_theta = zeros(f, n_params), *g_ctx = zeros(f, t->n_ctx * ld);
    back(t, f->gy, f->gx, t->gdx, &(nf_grad){.theta = g_theta, .ctx = t->n_ctx ? g_ctx : NULL});
    for (size_t i = 0; i < in * ld; i++)
        cr_assert(i % ld < n || (double)f->gx[i] == 0, "%s: padding of gx", title(t));
    const nf_real *gradient[N_INPUTS] = {g_theta, f->gx, g_ctx, t->gdx};
    const size_t rows[N_INPUTS] = {n_params, in, t->n_ctx, in * t->k};
    for (int i = 0; i < N_INPUTS; i++) {
        moved v;
        if (!rows[i])
            continue;
        const double d = along(t, i, gradient[i], rows[i], i ? n : 1, i ? ld : 1, &v);
        check_along(t, i, d, v);
    }
}

Test(tangent, product_is_the_gradient)
{
    for_each_subject(1, 37, check_product);
    for_each_subject(3, 21, check_product);
}

/* Number by number: the product of <gdy, dy> alone is the derivative of the net's own product along dx. */
static void check_against_vjp(tangent *t)
{
    fixture *f = &t->f;
    if (!is_smooth(t->kind, t->unit) && !is_double)
        return;
    const size_t ld = f->p.ld, n = f->p.n, in = f->shape->dim_in, out = f->shape->dim_out;
    const size_t size[3] = {f->shape->n_params, in * ld, t->n_ctx * ld};
    const double h = !is_double ? 2e-3 : is_smooth(t->kind, t->unit) ? 1e-5 : 1e-6;
    nf_real *got[3] = {zeros(f, size[0]), zeros(f, size[1]), zeros(f, size[2])}, *gy = zeros(f, out * ld);
    back(t, NULL, got[1], NULL, &(nf_grad){.theta = got[0], .ctx = t->n_ctx ? got[2] : NULL});
    double *wanted[3];
    for (int i = 0; i < 3; i++)
        wanted[i] = nfi_zero_doubles(&f->numbers, size[i] + 1);
    for (size_t j = 0; j < t->k; j++)
        for (int sign = -1; sign <= 1; sign += 2) {
            nf_arena tape = {0};
            nf_pass p = f->p;
            p.tape = &tape;
            nf_real *x = zeros(f, in * ld), *y = zeros(f, out * ld);
            nf_real *g[3] = {zeros(f, size[0]), zeros(f, size[1]), zeros(f, size[2])};
            for (size_t i = 0; i < in * ld; i++)
                x[i] = (nf_real)((double)f->x[i] + sign * h * (double)t->dx[(i / ld * t->k + j) * ld + i % ld]);
            for (size_t r = 0; r < out; r++)
                memcpy(gy + r * ld, t->gdy + (r * t->k + j) * ld, ld * sizeof *gy);
            void *saved = NULL;
            cr_assert_eq(nf_net_apply(nf_net_object(f->net), &p, x, y, &saved), NF_OK);
            cr_assert_eq(nf_net_vjp(nf_net_object(f->net), &p, x, y, saved, gy, g[1],
                                    &(nf_grad){.theta = g[0], .ctx = t->n_ctx ? g[2] : NULL}),
                         NF_OK);
            for (int i = 0; i < 3; i++)
                for (size_t l = 0; l < size[i]; l++)
                    wanted[i][l] += sign * (double)g[i][l] / (2 * h);
            nfi_arena_clear(&tape);
        }
    for (int i = 0; i < 3; i++)
        for (size_t l = 0; l < size[i]; l++)
            if (i == 0 || l % ld < n)
                cr_assert_float_eq((double)got[i][l], wanted[i][l],
                                   (is_double ? 1e-6 : 3e-2) * (1 + fabs(wanted[i][l])),
                                   "%s: number %zu of the gradient in %s is %.10g, by differences %.10g", title(t), l,
                                   input_names[i], (double)got[i][l], wanted[i][l]);
}

Test(tangent, product_is_the_derivative_of_the_products)
{
    for_each_subject(1, 21, check_against_vjp);
    for_each_subject(3, 5, check_against_vjp);
}

/* ---- what may be asked of a point ---- */

static void same_row(const tangent *t, const nf_real *a, const nf_real *b, const char *what)
{
    char text[200];
    snprintf(text, sizeof text, "%s: %s", title(t), what);
    same_numbers(t->f.p.ld, a, b, text);
}

/* Directions one by one, and all again: bit for bit, and the point is as it was. */
static void check_repeats(tangent *t)
{
    fixture *f = &t->f;
    const size_t ld = f->p.ld, k = t->k, in = f->shape->dim_in, out = f->shape->dim_out;
    const nf_grad none = {0};
    nf_real *gx = zeros(f, in * ld), *after = zeros(f, in * ld), *all = zeros(f, in * ld);
    cr_assert_eq(nf_net_vjp(nf_net_object(f->net), &f->p, f->x, f->y, f->saved, f->gy, gx, &none), NF_OK);
    back(t, f->gy, all, t->gdx, &none);
    for (size_t j = 0; j < k; j++) {
        tangent one = *t;
        one.k = 1;
        one.dx = zeros(f, in * ld), one.dy = zeros(f, out * ld), one.gdy = zeros(f, out * ld);
        one.gdx = zeros(f, in * ld);
        for (size_t r = 0; r < in; r++)
            memcpy(one.dx + r * ld, t->dx + (r * k + j) * ld, ld * sizeof *gx);
        for (size_t r = 0; r < out; r++)
            memcpy(one.gdy + r * ld, t->gdy + (r * k + j) * ld, ld * sizeof *gx);
        cr_assert_eq(nf_net_tangent(nf_net_object(f->net), &f->p, f->x, f->y, f->saved, 1, one.dx, one.dy, &one.saved),
                     NF_OK);
        back(&one, f->gy, f->gx, one.gdx, &none);
        for (size_t r = 0; r < out; r++)
            same_row(t, one.dy + r * ld, t->dy + (r * k + j) * ld, "dy");
        for (size_t r = 0; r < in; r++)
            same_row(t, one.gdx + r * ld, t->gdx + (r * k + j) * ld, "gdx");
    }
    nf_real *gdx = zeros(f, in * k * ld);
    back(t, f->gy, f->gx, gdx, &none);
    cr_assert_arr_eq(f->gx, all, in * ld * sizeof *gx);
    cr_assert_arr_eq(gdx, t->gdx, in * k * ld * sizeof *gx);
    cr_assert_eq(nf_net_vjp(nf_net_object(f->net), &f->p, f->x, f->y, f->saved, f->gy, after, &none), NF_OK);
    cr_assert_arr_eq(after, gx, in * ld * sizeof *gx, "%s: the point has changed", title(t));
    /* Without a tape the same, and nothing is kept. */
    nf_pass p = f->p;
    p.tape = NULL;
    nf_real *dy = zeros(f, out * k * ld);
    const nf_mark tape = nf_arena_mark(&f->tape), scratch = nf_arena_mark(&f->scratch);
    cr_assert_eq(nf_net_tangent(nf_net_object(f->net), &p, f->x, f->y, f->saved, k, t->dx, dy, NULL), NF_OK);
    cr_assert_arr_eq(dy, t->dy, out * k * ld * sizeof *dy, "%s: without a tape", title(t));
    cr_assert_eq(nf_arena_mark(&f->tape).used, tape.used);
    cr_assert_eq(nf_arena_mark(&f->scratch).used, scratch.used);
    /* With one arena for both. */
    p.tape = p.scratch;
    void *saved = NULL, *saved_tangent = NULL;
    cr_assert_eq(nf_net_apply(nf_net_object(f->net), &p, f->x, f->y, &saved), NF_OK);
    cr_assert_eq(nf_net_tangent(nf_net_object(f->net), &p, f->x, f->y, saved, k, t->dx, dy, &saved_tangent), NF_OK);
    cr_assert_arr_eq(dy, t->dy, out * k * ld * sizeof *dy, "%s: one arena", title(t));
    cr_assert_eq(nf_net_tangent_vjp(nf_net_object(f->net), &p, f->x, f->y, saved, k, t->dx, dy, saved_tangent, f->gy,
                                    t->gdy, f->gx, gdx, &none),
                 NF_OK);
    cr_assert_arr_eq(f->gx, all, in * ld * sizeof *gx, "%s: one arena", title(t));
    cr_assert_arr_eq(gdx, t->gdx, in * k * ld * sizeof *gx, "%s: one arena", title(t));
    nf_arena_rewind(p.scratch, scratch);
}

Test(tangent, points_may_be_asked_again)
{
    for_each_subject(3, 37, check_repeats);
    for_each_subject(2, 16, check_repeats);
}

/* Parts that are not wanted leave the others as they are; no gy is zeros; gradients are added to, or fresh. */
static void check_parts(tangent *t)
{
    fixture *f = &t->f;
    const size_t ld = f->p.ld, in = f->shape->dim_in, n_params = f->shape->n_params, n_ctx = t->n_ctx * ld;
    nf_real *theta = zeros(f, n_params), *ctx = zeros(f, n_ctx), *again = zeros(f, n_params), *gx = zeros(f, in * ld);
    nf_real *gdx = zeros(f, in * t->k * ld), *none = zeros(f, f->shape->dim_out * ld);
    back(t, f->gy, f->gx, t->gdx, &(nf_grad){.theta = theta, .ctx = t->n_ctx ? ctx : NULL});
    back(t, f->gy, NULL, NULL, &(nf_grad){.theta = again});
    cr_assert_arr_eq(again, theta, n_params * sizeof *theta, "%s: parameters alone", title(t));
    back(t, f->gy, gx, NULL, &(nf_grad){0});
    cr_assert_arr_eq(gx, f->gx, in * ld * sizeof *gx, "%s: gx alone", title(t));
    back(t, f->gy, NULL, gdx, &(nf_grad){0});
    cr_assert_arr_eq(gdx, t->gdx, in * t->k * ld * sizeof *gx, "%s: gdx alone", title(t));
    if (t->n_ctx) {
        nf_real *added = fixture_draw(f, t->n_ctx, f->p.n, ld, 71), *before = fixture_draw(f, t->n_ctx, f->p.n, ld, 71);
        back(t, f->gy, NULL, NULL, &(nf_grad){.ctx = added});
        for (size_t i = 0; i < n_ctx; i++)
            cr_assert_float_eq((double)added[i], (double)before[i] + (double)ctx[i],
                               30 * rounding * (1 + fabs((double)ctx[i])), "%s: context", title(t));
    }
    for (size_t i = 0; i < n_params; i++)
        again[i] = NF_R(NAN);
    back(t, f->gy, NULL, NULL, &(nf_grad){.theta = again, .internal = NFI_FRESH});
    for (size_t i = 0; i < n_params; i++)
        cr_assert_eq((double)again[i], (double)theta[i], "%s: number %zu of a fresh gradient", title(t), i);
    back(t, f->gy, NULL, NULL, &(nf_grad){.theta = again});
    for (size_t i = 0; i < n_params; i++)
        cr_assert_float_eq((double)again[i], 2 * (double)theta[i], 100 * rounding * (1 + fabs((double)theta[i])),
                           "%s: number %zu is not added to", title(t), i);
    back(t, NULL, f->gx, NULL, &(nf_grad){0});
    back(t, none, gx, NULL, &(nf_grad){0});
    cr_assert_arr_eq(gx, f->gx, in * ld * sizeof *gx, "%s: no gy", title(t));
}

Test(tangent, unwanted_parts_are_left_out)
{
    for_each_subject(3, 21, check_parts);
}

#if !NFLOW_THIN
/* Instruction sets that fuse products and sums give equal bits (sanitizers keep some from being fused). */
static void check_sets(tangent *t)
{
    static const char *const sets[] = {"avx2", "avx512"};
    fixture *f = &t->f;
    const size_t ld = f->p.ld, in = f->shape->dim_in, out = f->shape->dim_out;
    const size_t size[6] = {out * ld, out * t->k * ld, in * ld, in * t->k * ld, f->shape->n_params, t->n_ctx * ld};
    nf_real *got[2][6];
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(nf_choose_instruction_set(sets[i]), NF_OK);
        for (int j = 0; j < 6; j++)
            got[i][j] = zeros(f, size[j]);
        f->y = got[i][0], t->dy = got[i][1];
        run(f);
        cr_assert_eq(nf_net_tangent(nf_net_object(f->net), &f->p, f->x, f->y, f->saved, t->k, t->dx, t->dy, &t->saved),
                     NF_OK);
        back(t, f->gy, got[i][2], got[i][3], &(nf_grad){.theta = got[i][4], .ctx = t->n_ctx ? got[i][5] : NULL});
    }
    for (int j = 0; j < 6; j++)
        cr_assert_arr_eq(got[0][j], got[1][j], size[j] * sizeof(nf_real), "%s: array %d", title(t), j);
}

Test(tangent, bits_do_not_depend_on_the_instruction_set)
{
    if (nf_choose_instruction_set("avx2") == NF_OK && nf_choose_instruction_set("avx512") == NF_OK)
        for_each_subject(3, 37, check_sets);
    cr_assert_eq(nf_choose_instruction_set(NULL), NF_OK);
}
#endif

/* Apply, tangent and product: each allocation fails in turn, whether from the system or of a piece of an arena. */
static nf_status all_three(const nf_net *net, nf_arena *tape, nf_arena *scratch)
{
    enum { LD = 16, K = 2, MOST = 6 };
    static nf_real theta[600], x[MOST * LD], ctx[3 * LD], y[8 * LD], dx[MOST * K * LD], dy[8 * K * LD];
    static nf_real gy[8 * LD], gdy[8 * K * LD], gx[MOST * LD], gdx[MOST * K * LD], g[600], g_ctx[3 * LD];
    const nf_object *o = (const nf_object *)net;
    cr_assert_leq(nf_object_shape(o)->n_params, 600);
    const nf_pass p = {
        .n = 5, .ld = LD, .theta = theta, .ctx = ctx, .mode = NF_TRAIN, .tape = tape, .scratch = scratch};
    void *saved = NULL, *saved_tangent = NULL;
    nf_status status = nf_net_apply(o, &p, x, y, &saved);
    if (status == NF_OK)
        status = nf_net_tangent(o, &p, x, y, saved, K, dx, dy, &saved_tangent);
    if (status == NF_OK)
        status = nf_net_tangent_vjp(o, &p, x, y, saved, K, dx, dy, saved_tangent, gy, gdy, gx, gdx,
                                    &(nf_grad){.theta = g, .ctx = g_ctx});
    if (status == NF_OK)
        status = nf_net_tangent_vjp(o, &p, x, y, saved, K, dx, dy, saved_tangent, NULL, gdy, gx, gdx, &(nf_grad){0});
    return status;
}

Test(tangent, every_allocation_may_fail)
{
    for (subject_kind kind = PERCEPTRON; kind < N_SUBJECTS; kind++)
        for (int pieces = 0; pieces < 2; pieces++)
            for (size_t k = 0;; k++) {
                const size_t before = alloc_live();
                nf_net *net = subject_net(kind, NF_SWISH, 3, 0.5);
                nf_arena tape = {0}, scratch = {0};
                (pieces ? fail_arena_once : fail_alloc_after)(k);
                const nf_status status = all_three(net, &tape, &scratch);
                const bool failed = fail_alloc_off();
                nf_net_free(net);
                nfi_arena_clear(&tape);
                nfi_arena_clear(&scratch);
                cr_assert_eq(alloc_live(), before);
                cr_assert_eq(status, failed ? NF_ENOMEM : NF_OK, "%s, %d, %zu: %s", subject_names[kind], pieces, k,
                             nf_status_text(status));
                if (!failed)
                    break;
            }
}

/* ---- what is refused ---- */

static nf_status copy(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved)
{
    (void)saved;
    memcpy(y, x, nf_object_shape(o)->dim_in * p->ld * sizeof *y);
    return NF_OK;
}

static nf_status copy_back(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                           const nf_real *gy, nf_real *gx, const nf_grad *g)
{
    (void)x, (void)y, (void)saved, (void)g;
    memcpy(gx, gy, nf_object_shape(o)->dim_in * p->ld * sizeof *gx);
    return NF_OK;
}

Test(tangent, errors)
{
    static const nf_net_type type = {
        .part = {.name = "copy"}, .abi = sizeof type, .apply = copy, .vjp = copy_back}; /* without a tangent */
    nf_net *without = nf_net_new(&type, &(nf_shape){.dim_in = 2, .dim_out = 2}, NULL, NULL, 0);
    nf_net *with = nf_mlp(2, 2, 0, NULL);
    nf_real x[32] = {0}, y[32];
    nf_arena scratch = {0};
    const nf_pass p = {.n = 1, .ld = 16, .scratch = &scratch};
    cr_assert(without && with);
    cr_assert_eq(nf_net_tangent(nf_net_object(without), &p, x, x, NULL, 1, x, y, NULL), NF_EUNSUPPORTED);
    cr_assert_str_eq(nf_error_message(), "nf_net_tangent: nets of type `copy` have no tangent map");
    cr_assert_eq(nf_net_tangent_vjp(nf_net_object(without), &p, x, x, NULL, 1, x, y, NULL, x, x, y, y, &(nf_grad){0}),
                 NF_EUNSUPPORTED);
    cr_assert_eq(nf_net_tangent(nf_net_object(with), &p, x, x, NULL, 0, x, y, NULL), NF_EARG);
    cr_assert_not_null(strstr(nf_error_message(), "`k` is 0"));
    cr_assert_eq(nf_net_tangent_vjp(nf_net_object(with), &p, x, x, NULL, 0, x, y, NULL, x, x, y, y, &(nf_grad){0}),
                 NF_EARG);
    cr_assert_eq(nf_net_tangent(NULL, &p, x, x, NULL, 1, x, y, NULL), NF_EARG);
    cr_assert_eq(nf_net_tangent_vjp(NULL, &p, x, x, NULL, 1, x, y, NULL, x, x, y, y, &(nf_grad){0}), NF_EARG);
    nf_net_free(without);
    nf_net_free(with);
    nfi_arena_clear(&scratch);
}

/* ---- swish ---- */

/* LipSwish's slope comes near to 1 and does not exceed it, whatever b is; far out nothing overflows. */
Test(tangent, lipswish_does_not_stretch)
{
    enum { N = 4096 };
    static nf_real z[N], ones[N], slope[N], spare[N];
    static const double steepness[] = {0.02, 0.97, 31};
    for (size_t j = 0; j < N; j++)
        ones[j] = 1;
    for (size_t i = 0; i < 3; i++) {
        const nf_real c = NF_R(1 / 1.1), b = (nf_real)steepness[i];
        double most = 0;
        for (size_t j = 0; j < N; j++)
            z[j] = (nf_real)((8.0 * (double)j / N - 1) / steepness[i]);
        nfi_swish_tangent(c, b, 1, 1, N, z, NULL, spare, ones, slope);
        for (size_t j = 0; j < N; j++)
            most = fmax(most, (double)slope[j]);
        cr_assert(most < 1 && most > 0.9998, "b = %g: the largest slope is %.17g", steepness[i], most);
        for (size_t j = 0; j < N; j++)
            z[j] = (nf_real)(ldexp(1, is_double ? 501 : 61) * (j % 2 ? 1 : -1));
        nf_real g_b[16] = {0}, g[16], bias[1] = {0}, y[16], both[32], gz[16], gdz[16];
        nfi_swish(1, b, 1, 16, bias, z, z, y);
        nfi_swish_vjp(1, b, 1, 16, z, ones, false, g, g_b);
        nfi_swish_tangent_vjp(1, b, 1, 1, 16, z, NULL, both, ones, ones, ones, false, gz, gdz, g_b);
        for (size_t j = 0; j < 16; j++) {
            cr_assert_eq((double)y[j], j % 2 ? (double)z[j] : 0);
            cr_assert_eq((double)g[j], j % 2);
            cr_assert_eq((double)gz[j], j % 2); /* f' + f'' */
            cr_assert_eq((double)gdz[j], j % 2);
            cr_assert_eq((double)g_b[j], 0);
        }
    }
}
