/* Nets of convolutions against their formula, pixel by pixel: every size of image, kernel, unit, normalisation and
   colour; gradients against differences of the formula; padding, instruction sets, allocations. */
#include "conv_fixture.h"
#include "fail_alloc.h"
#include "nn/conv.h"
#include <float.h>
#include <stdlib.h>

#ifdef NF_SINGLE
#define VALUE_TOLERANCE 2e-5
#define GRADIENT_TOLERANCE 3e-4
#define EPSILON FLT_EPSILON
#else
#define VALUE_TOLERANCE 1e-12
#define GRADIENT_TOLERANCE 1e-7
#define EPSILON DBL_EPSILON
#endif

static const nf_image images[] = {{1, 1, 1}, {3, 1, 5}, {4, 5, 1}, {1, 2, 2},
                                  {4, 4, 4}, {3, 6, 4}, {1, 8, 8}, {2, 3, 3}};
static const size_t widths[] = {37, 1, 16, 21, 5, 33, 3, 19}; /* samples for each */
enum { N_IMAGES = sizeof images / sizeof *images };

static void for_each_case(void (*f)(const conv_case *c, size_t n))
{
    for (size_t i = 0; i < N_IMAGES; i++)
        for (int which = 0; which < N_CONV_CASES; which++) {
            const conv_case c = conv_case_of(which, images[i]);
            if (conv_case_exists(&c))
                f(&c, widths[i]);
        }
}

/* The formula at (theta, x, ctx) + h v, sample s. */
static void displaced_formula(const fixture *f, const conv_case *c, size_t s, double h, direction v, double *y)
{
    static double theta[MOST_NUMBERS], x[MOST_NUMBERS], ctx[MOST_NUMBERS];
    const size_t ld = f->p.ld;
    cr_assert(f->shape->n_params <= MOST_NUMBERS && f->shape->dim_in <= MOST_NUMBERS);
    for (size_t i = 0; i < f->shape->n_params; i++)
        theta[i] = (double)f->theta[i] + (v.theta ? h * (double)v.theta[i] : 0);
    for (size_t i = 0; i < f->shape->dim_in; i++)
        x[i] = (double)f->x[i * ld + s] + (v.x ? h * (double)v.x[i * ld + s] : 0);
    for (size_t i = 0; i < c->n_ctx; i++)
        ctx[i] = (double)f->ctx[i * ld + s] + (v.ctx ? h * (double)v.ctx[i * ld + s] : 0);
    cr_assert_eq(conv_formula(c, theta, x, ctx, y), f->shape->n_params, "%s: the order of the parameters", c->name);
}

static void check_value(const conv_case *c, size_t n)
{
    fixture f;
    static double y[MOST_NUMBERS];
    conv_set_up(&f, c, n);
    run(&f);
    const size_t ld = f.p.ld, out = f.shape->dim_out;
    for (size_t s = 0; s < n; s++) {
        displaced_formula(&f, c, s, 0, (direction){0}, y);
        for (size_t o = 0; o < out; o++)
            cr_assert_float_eq((double)f.y[o * ld + s], y[o], VALUE_TOLERANCE * (10 + fabs(y[o])),
                               "%s, %zu x %zu x %zu, feature %zu, sample %zu: %.10g, not %.10g", c->name,
                               c->in.channels, c->in.height, c->in.width, o, s, (double)f.y[o * ld + s], y[o]);
    }
    for (size_t i = 0; i < out * ld; i++)
        cr_assert(isfinite((double)f.y[i]), "%s: padding", c->name);
    /* The same without a tape, bit for bit, and nothing is kept. */
    nf_real *again = fixture_draw(&f, out, n, ld, 5);
    const nf_mark tape = nf_arena_mark(&f.tape), scratch = nf_arena_mark(&f.scratch);
    f.p.tape = NULL;
    cr_assert_eq(nf_net_apply(nf_net_object(f.net), &f.p, f.x, again, NULL), NF_OK);
    cr_assert_arr_eq(again, f.y, out * ld * sizeof *again, "%s: without a tape", c->name);
    cr_assert_eq(nf_arena_mark(&f.tape).used, tape.used);
    cr_assert_eq(nf_arena_mark(&f.scratch).used, scratch.used);
    tear_down(&f);
}

Test(conv, value)
{
    for_each_case(check_value);
}

static double formula_sum(const fixture *f, const conv_case *c, double h, direction v)
{
    static double y[MOST_NUMBERS];
    double sum = 0;
    for (size_t s = 0; s < f->p.n; s++) {
        displaced_formula(f, c, s, h, v, y);
        for (size_t o = 0; o < f->shape->dim_out; o++)
            sum += (double)f->gy[o * f->p.ld + s] * y[o];
    }
    return sum;
}

static void check_gradient(const conv_case *c, size_t n)
{
    fixture f;
    conv_set_up(&f, c, n);
    run(&f);
    conv_run_back(&f);
    const size_t ld = f.p.ld, n_params = f.shape->n_params, in = f.shape->dim_in;
    nf_real *const vt = fixture_draw(&f, n_params, 1, 1, 21), *const vx = fixture_draw(&f, in, n, ld, 22),
                   *const vc = fixture_draw(&f, c->n_ctx, n, ld, 23);
    const direction v[3] = {{.theta = vt}, {.x = vx}, {.ctx = vc}};
    const double d[3] = {inner(n_params, 1, 1, f.g.theta, NULL, vt), inner(in, n, ld, f.gx, NULL, vx),
                         inner(c->n_ctx, n, ld, f.g.ctx, NULL, vc)};
    for (int i = 0; i < 3; i++) {
        const double step = 1e-6,
                     wanted = (formula_sum(&f, c, step, v[i]) - formula_sum(&f, c, -step, v[i])) / (2 * step);
        cr_assert_float_eq(d[i], wanted, GRADIENT_TOLERANCE * (100 + fabs(wanted)),
                           "%s, %zu x %zu x %zu, input %d: %.10g, not %.10g", c->name, c->in.channels, c->in.height,
                           c->in.width, i, d[i], wanted);
    }
    for (size_t r = 0; r < in; r++)
        for (size_t s = n; s < ld; s++)
            cr_assert_eq((double)f.gx[r * ld + s], 0.0, "%s: padding of gx", c->name);
    tear_down(&f);
}

Test(conv, gradient_is_the_directional_derivative)
{
    for_each_case(check_gradient);
}

/* Other numbers in the padding of x and of the context change no bit of what belongs to the samples. */
static void check_padding(const conv_case *c, size_t n)
{
    fixture f[2];
    for (int k = 0; k < 2; k++) {
        conv_set_up(&f[k], c, n);
        const size_t ld = f[k].p.ld;
        for (size_t r = 0; r < f[k].shape->dim_in && k; r++)
            for (size_t s = n; s < ld; s++)
                f[k].x[r * ld + s] = NF_R(-3.7) + (nf_real)(r + s);
        for (size_t r = 0; r < c->n_ctx && k; r++)
            for (size_t s = n; s < ld; s++)
                f[k].ctx[r * ld + s] = NF_R(2.9);
        run(&f[k]);
        conv_run_back(&f[k]);
    }
    const size_t ld = f[0].p.ld;
    for (size_t r = 0; r < f[0].shape->dim_out; r++)
        cr_assert_arr_eq(f[0].y + r * ld, f[1].y + r * ld, n * sizeof(nf_real), "%s: y", c->name);
    for (size_t r = 0; r < f[0].shape->dim_in; r++)
        cr_assert_arr_eq(f[0].gx + r * ld, f[1].gx + r * ld, n * sizeof(nf_real), "%s: gx", c->name);
    for (size_t i = 0; i < f[0].shape->n_params; i++)
        cr_assert_eq((double)f[0].g.theta[i], (double)f[1].g.theta[i], "%s: number %zu of the gradient", c->name, i);
    tear_down(&f[0]);
    tear_down(&f[1]);
}

Test(conv, padding_does_not_matter)
{
    for_each_case(check_padding);
}

/* ---- one convolution, of more channels than a vector has numbers ---- */

/* Grids of channels of an image, for naive sums in double. */
typedef struct one {
    nfi_conv c;
    size_t ld;
    nf_real *w, *x, *g, *z, *gx, *gw;
} one;

static nf_real *draw(uint32_t site, size_t n)
{
    nf_real *x = malloc((n + 1) * sizeof *x);
    cr_assert_not_null(x);
    nf_noise_normal(&(nf_noise){.seed = 29, .site = site}, 1, n + 1, n + 1, x);
    return x;
}

/* The three products are sums over all pairs of an output and what it reads. */
static void expect_sums(const one *t, bool add, const nf_real *before_z, const nf_real *before_w)
{
    const nfi_conv *c = &t->c;
    const size_t height = c->grid.height, width = c->grid.width, plane = c->grid.pixels * t->ld;
    const size_t n_w = nfi_conv_fan_in(c) * c->out, half = c->side / 2;
    double *z = calloc(c->out * plane, sizeof *z), *gx = calloc(c->in * plane, sizeof *gx),
           *gw = calloc(n_w, sizeof *gw);
    for (size_t o = 0; o < c->out; o++)
        for (size_t i = 0; i < height; i++)
            for (size_t j = 0; j < width; j++)
                for (size_t a = 0; a < c->side; a++)
                    for (size_t b = 0; b < c->side; b++) {
                        if (i + a < half || i + a - half >= height || j + b < half || j + b - half >= width)
                            continue;
                        const size_t to = o * plane + (i * width + j) * t->ld;
                        for (size_t k = 0; k < c->in; k++) {
                            const size_t at = ((o * c->side + a) * c->side + b) * c->in + k;
                            const size_t from = k * plane + ((i + a - half) * width + j + b - half) * t->ld;
                            for (size_t s = 0; s < t->ld; s++) {
                                z[to + s] += (double)t->w[at] * (double)t->x[from + s];
                                gx[from + s] += (double)t->w[at] * (double)t->g[to + s];
                                gw[at] += (double)t->g[to + s] * (double)t->x[from + s];
                            }
                        }
                    }
    const size_t image = height * width * t->ld;
    const double many = 40 * EPSILON * sqrt((double)(nfi_conv_fan_in(c) * c->out + image));
    for (size_t i = 0; i < c->out * plane; i++)
        cr_assert_float_eq((double)t->z[i], i % plane >= image ? 0 : z[i] + (add ? (double)before_z[i] : 0),
                           i % plane >= image && !add ? 0
                           : i % plane >= image       ? 1e9
                                                      : many * (1 + fabs(z[i])),
                           "z [%zu]", i);
    for (size_t i = 0; i < c->in * plane; i++)
        cr_assert_float_eq((double)t->gx[i], gx[i], i % plane >= image ? 0 : many * (1 + fabs(gx[i])), "gx [%zu]", i);
    for (size_t i = 0; i < n_w; i++)
        cr_assert_float_eq((double)t->gw[i], gw[i] + (add ? (double)before_w[i] : 0), many * (10 + fabs(gw[i])),
                           "gW [%zu]", i);
    free(z), free(gx), free(gw);
}

static void check_one(nf_image image, size_t out, size_t side, size_t ld, bool add)
{
    one t = {.c = {image.channels, out, side, nfi_grid_of(&image)}, .ld = ld};
    const size_t plane = t.c.grid.pixels * ld, n_w = nfi_conv_fan_in(&t.c) * out;
    t.w = draw(1, n_w), t.x = draw(2, image.channels * plane), t.g = draw(3, out * plane);
    t.z = draw(4, out * plane), t.gx = draw(5, image.channels * plane), t.gw = draw(6, n_w);
    nf_real *before_z = draw(4, out * plane), *before_w = draw(6, n_w);
    nf_arena scratch = {0};
    cr_assert_eq(t.c.grid.pixels % 2, 1);
    nfi_conv_apply(&t.c, ld, t.w, t.x, add, t.z);
    nfi_conv_transposed(&t.c, ld, t.w, t.g, t.gx);
    cr_assert_eq(nfi_conv_outer(&t.c, ld, &scratch, t.x, t.g, add, t.gw), NF_OK);
    expect_sums(&t, add, before_z, before_w);
    nfi_arena_clear(&scratch);
    free(t.w), free(t.x), free(t.g), free(t.z), free(t.gx), free(t.gw), free(before_z), free(before_w);
}

Test(conv, products)
{
    for (int add = 0; add < 2; add++) {
        check_one((nf_image){17, 3, 4}, 19, 3, 16, add);
        check_one((nf_image){67, 2, 5}, 8, 3, 32, add);
        check_one((nf_image){16, 1, 3}, 70, 3, 16, add);
        check_one((nf_image){33, 4, 3}, 5, 1, 48, add);
        check_one((nf_image){18, 3, 2}, 13, 7, 16, add);
        check_one((nf_image){15, 5, 4}, 21, 5, 16, add);
        check_one((nf_image){3, 7, 7}, 2, 3, 16, add);
        /* few channels of the result, in parts that end within a pixel */
        check_one((nf_image){20, 4, 9}, 4, 3, 48, add);
        check_one((nf_image){2, 4, 9}, 21, 3, 48, add);
        check_one((nf_image){4, 3, 7}, 18, 5, 80, add);
        check_one((nf_image){9, 3, 2}, 1, 7, 16, add);
    }
}

/* ---- instruction sets, allocations ---- */

#if !NFLOW_THIN
static void check_sets(const conv_case *c, size_t n)
{
    static const char *const sets[] = {"avx2", "avx512"};
    fixture f[2];
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(nf_choose_instruction_set(sets[i]), NF_OK);
        conv_set_up(&f[i], c, n);
        run(&f[i]);
        conv_run_back(&f[i]);
    }
    const size_t ld = f[0].p.ld, size = sizeof(nf_real);
    cr_assert_arr_eq(f[0].y, f[1].y, f[0].shape->dim_out * ld * size, "%s: y", c->name);
    cr_assert_arr_eq(f[0].gx, f[1].gx, f[0].shape->dim_in * ld * size, "%s: gx", c->name);
    cr_assert_arr_eq(f[0].g.theta, f[1].g.theta, f[0].shape->n_params * size, "%s: gradient", c->name);
    cr_assert_arr_eq(f[0].g.ctx, f[1].g.ctx, c->n_ctx * ld * size, "%s: gradient in the context", c->name);
    tear_down(&f[0]);
    tear_down(&f[1]);
}

Test(conv, bits_do_not_depend_on_the_instruction_set)
{
    if (nf_choose_instruction_set("avx2") == NF_OK && nf_choose_instruction_set("avx512") == NF_OK)
        for_each_case(check_sets);
    cr_assert_eq(nf_choose_instruction_set(NULL), NF_OK);
}
#endif

/* Construction, the beginning from data, both passes: each allocation and each piece of an arena fails in turn. */
static nf_status all_steps(const conv_case *c, nf_arena *tape, nf_arena *scratch, nf_net **net)
{
    enum { LD = 16 };
    static nf_real theta[MOST_NUMBERS], prep[MOST_NUMBERS], x[16 * LD], y[64 * LD], gx[16 * LD], g[MOST_NUMBERS];
    static nf_real ctx[16 * LD], g_ctx[16 * LD], gy[64 * LD];
    nf_noise_normal(&(nf_noise){.seed = 3}, 16, LD, LD, x);
    *net = nf_conv_net(c->in, c->out, c->n_ctx, &c->q);
    if (!*net)
        return NF_ENOMEM;
    const nf_object *o = nf_net_object(*net);
    const nf_batch batch = {.n = 9, .ld = LD, .x = x, .ctx = ctx};
    const nf_pass p = {.n = 9, .ld = LD, .theta = theta, .prep = prep, .ctx = ctx, .tape = tape, .scratch = scratch};
    void *saved = NULL;
    nf_status status = nfi_tree_init(o, &(nf_noise){.seed = 1}, &batch, theta, NULL);
    if (status == NF_OK)
        status = nfi_tree_prepare(o, NF_EVAL, theta, NULL, prep);
    if (status == NF_OK)
        status = nf_net_apply(o, &p, x, y, &saved);
    if (status == NF_OK)
        status = nf_net_vjp(o, &p, x, y, saved, gy, gx, &(nf_grad){.theta = g, .prep = prep, .ctx = g_ctx});
    return status;
}

Test(conv, every_allocation_may_fail)
{
    for (int which = 0; which < N_CONV_CASES; which++)
        for (int pieces = 0; pieces < 2; pieces++)
            for (size_t k = 0;; k++) {
                const conv_case c = conv_case_of(which, (nf_image){1, 3, 2});
                const size_t before = alloc_live();
                nf_arena tape = {0}, scratch = {0};
                nf_net *net = NULL;
                (pieces ? fail_arena_once : fail_alloc_after)(k);
                const nf_status status = all_steps(&c, &tape, &scratch, &net);
                const bool failed = fail_alloc_off();
                nf_net_free(net);
                nfi_arena_clear(&tape);
                nfi_arena_clear(&scratch);
                cr_assert_eq(alloc_live(), before, "%s: memory is kept", c.name);
                cr_assert_eq(status, failed ? NF_ENOMEM : NF_OK, "%s, %d, %zu: %s", c.name, pieces, k,
                             nf_status_text(status));
                if (!failed)
                    break;
            }
}
