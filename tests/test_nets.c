/* Nets against their formulas in double, one sample at a time; their gradients against central differences of the
   formulas and Taylor's theorem. */
#include "fail_alloc.h"
#include "net_fixture.h"

#ifdef NF_SINGLE
#define VALUE_TOLERANCE 3e-5
#define GRADIENT_TOLERANCE 2e-4
#else
#define VALUE_TOLERANCE 1e-12
#define GRADIENT_TOLERANCE 1e-7
#endif

/* Hidden activations and last units that a kind of net has. */
static int n_hidden_units(net_kind kind)
{
    return kind == MLP || kind == RESIDUAL ? N_ACTIVATIONS : 1;
}
static int n_output_units(net_kind kind)
{
    return kind == RESIDUAL ? 1 : N_OUTPUTS;
}

static void check_value(net_kind kind, size_t in, size_t out, size_t n_ctx, nf_activation hidden, nf_activation output,
                        size_t n)
{
    fixture f;
    set_up(&f, kind, in, out, n_ctx, hidden, output, n);
    run(&f);
    for (size_t s = 0; s < f.p.ld; s++) {
        double y[32];
        if (s < n)
            formula(&f, s, 0, (direction){0}, y);
        for (size_t o = 0; o < out; o++) {
            double got = (double)f.y[o * f.p.ld + s];
            if (s >= n)
                cr_assert(isfinite(got), "%s: padding of feature %zu", kind_names[kind], o);
            else
                cr_assert_float_eq(got, y[o], VALUE_TOLERANCE * (1 + fabs(y[o])),
                                   "%s, units %d %d, feature %zu, sample %zu: %.10g, not %.10g", kind_names[kind],
                                   (int)hidden, (int)output, o, s, got, y[o]);
        }
    }
    /* The same without a tape, bit for bit, and nothing is kept. */
    nf_real *y = fixture_draw(&f, out, n, f.p.ld, 5);
    nf_mark tape = nf_arena_mark(&f.tape), scratch = nf_arena_mark(&f.scratch);
    f.p.tape = NULL;
    cr_assert_eq(nf_net_apply(nf_net_object(f.net), &f.p, f.x, y, NULL), NF_OK);
    cr_assert_arr_eq(y, f.y, out * f.p.ld * sizeof *y);
    cr_assert_eq(nf_arena_mark(&f.tape).used, tape.used);
    cr_assert_eq(nf_arena_mark(&f.scratch).used, scratch.used);
    tear_down(&f);
}

Test(nets, value)
{
    for (net_kind k = MLP; k < N_KINDS; k++)
        for (int h = 0; h < n_hidden_units(k); h++) {
            check_value(k, 6, 3, 0, (nf_activation)h, NF_IDENTITY, 37);
            check_value(k, 4, 9, 3, (nf_activation)h, (nf_activation)(h % N_OUTPUTS), 16);
            check_value(k, 0, 2, 5, (nf_activation)h, NF_SIGMOID, 1);
            check_value(k, 0, 3, 0, (nf_activation)h, NF_TANH, 19); /* biases only */
        }
}

Test(nets, nan_passes_through_every_unit)
{
    for (net_kind k = MLP; k < N_KINDS; k++)
        for (int h = 0; h < n_hidden_units(k); h++) {
            fixture f;
            set_up(&f, k, 3, 2, 0, (nf_activation)h, NF_IDENTITY, 5);
            f.x[1 * f.p.ld + 2] = NF_R(NAN);
            run(&f);
            for (size_t s = 0; s < 5; s++)
                cr_assert_eq(isnan((double)f.y[s]) != 0, s == 2, "%s, unit %d, sample %zu", kind_names[k], h, s);
            tear_down(&f);
        }
}

/* <gy, y> of the formula at the displaced point. */
static double formula_sum(const fixture *f, double h, direction v)
{
    double sum = 0, y[32];
    for (size_t s = 0; s < f->p.n; s++) {
        formula(f, s, h, v, y);
        for (size_t o = 0; o < f->shape->dim_out; o++)
            sum += (double)f->gy[o * f->p.ld + s] * y[o];
    }
    return sum;
}

static void check_gradient(net_kind kind, size_t in, size_t n_ctx, nf_activation hidden, nf_activation output)
{
    fixture f;
    direction v[3];
    double d[3], step = 1e-6;
    set_up(&f, kind, in, 4, n_ctx, hidden, output, 37);
    derivatives(&f, v, d);
    for (int i = 0; i < 3; i++) {
        double wanted = (formula_sum(&f, step, v[i]) - formula_sum(&f, -step, v[i])) / (2 * step);
        cr_assert_float_eq(d[i], wanted, GRADIENT_TOLERANCE * (10 + fabs(wanted)),
                           "%s of %zu + %zu features, units %d %d, input %d: %.10g, not %.10g", kind_names[kind], in,
                           n_ctx, (int)hidden, (int)output, i, d[i], wanted);
    }
    for (size_t r = 0; r < in; r++)
        for (size_t s = f.p.n; s < f.p.ld; s++)
            cr_assert_eq((double)f.gx[r * f.p.ld + s], 0.0, "padding of gx");
    tear_down(&f);
}

/* A central difference of the formula in double: both precisions, kinks included. */
Test(nets, gradient_is_the_directional_derivative)
{
    for (net_kind k = MLP; k < N_KINDS; k++)
        for (int h = 0; h < n_hidden_units(k); h++)
            for (int o = 0; o < n_output_units(k); o++) {
                check_gradient(k, 6, 3, (nf_activation)h, (nf_activation)o);
                if (o > 0 && n_output_units(k) > 1)
                    continue;
                check_gradient(k, 6, 0, (nf_activation)h, (nf_activation)o);
                check_gradient(k, 0, 5, (nf_activation)h, (nf_activation)o);
                check_gradient(k, 0, 0, (nf_activation)h, (nf_activation)o);
            }
}

#ifndef NF_SINGLE
Test(nets, taylor_remainder_is_of_second_order)
{
    static const nf_activation smooth[] = {NF_TANH, NF_SOFTPLUS, NF_SIGMOID, NF_SWISH, NF_LIPSWISH};
    for (net_kind kind = MLP; kind < N_KINDS; kind++)
        for (int a = 0; a < 5; a++)
            for (size_t n_ctx = 0; n_ctx < 4; n_ctx += 3) {
                fixture f;
                direction v[3];
                double d[3];
                if (kind == MAXOUT)
                    continue; /* has kinks */
                set_up(&f, kind, 6, 4, n_ctx, smooth[a], smooth[a % 3], 37);
                derivatives(&f, v, d);
                for (int k = 0; k < (n_ctx ? 3 : 2); k++) {
                    double slope = taylor_slope(&f, v[k], d[k]);
                    cr_assert_float_eq(slope, 2, 0.05, "%s, unit %d, %zu features of context, input %d: slope %g",
                                       kind_names[kind], (int)smooth[a], n_ctx, k, slope);
                }
                tear_down(&f);
            }
}
#endif

Test(nets, unwanted_gradients_are_left_out)
{
    for (net_kind k = MLP; k < N_KINDS; k++) {
        fixture f;
        direction v[3];
        double d[3];
        set_up(&f, k, 6, 4, 3, NF_TANH, NF_IDENTITY, 20);
        derivatives(&f, v, d);
        nf_real *theta = fixture_draw(&f, f.shape->n_params, 1, 1, 17), *ctx = fixture_draw(&f, 3, 20, f.p.ld, 18);
        nf_real *gx = fixture_draw(&f, 6, 20, f.p.ld, 3);
        run_back(&f, NULL, &(nf_grad){.theta = theta});
        run_back(&f, NULL, &(nf_grad){.ctx = ctx});
        run_back(&f, gx, &(nf_grad){0});
        cr_assert_arr_eq(theta, f.g.theta, f.shape->n_params * sizeof *theta);
        cr_assert_arr_eq(ctx, f.g.ctx, 3 * f.p.ld * sizeof *ctx);
        cr_assert_arr_eq(gx, f.gx, 6 * f.p.ld * sizeof *gx);
        tear_down(&f);
    }
}

/* Of equal pieces the first has the gradient, whole. */
Test(nets, maxout_ties)
{
    nf_net *net = nf_maxout_mlp(1, 1, 0, &(nf_maxout_options){.hidden = (size_t[]){1}, .n_hidden = 1});
    nf_real theta[10] = {-1, 2, 2, 1, 0, NF_R(0.25), NF_R(0.25), 0, 3, 0}; /* 4 weights, 4 biases; 3 and 0 on top */
    nf_real x[16], y[16], gy[16] = {5}, gx[16], g[10] = {0}, wanted[10] = {0, 15, 0, 0, 0, 15, 0, 0, 11.25, 5};
    nf_arena tape = {0}, scratch = {0};
    for (size_t s = 0; s < 16; s++)
        x[s] = 1;
    nf_pass p = {.n = 1, .ld = 16, .theta = theta, .tape = &tape, .scratch = &scratch};
    void *saved = NULL;
    cr_assert_eq(nf_object_shape(nf_net_object(net))->n_params, 10);
    cr_assert_eq(nf_net_apply(nf_net_object(net), &p, x, y, &saved), NF_OK);
    cr_assert_eq((double)y[0], 6.75);
    cr_assert_eq(nf_net_vjp(nf_net_object(net), &p, x, y, saved, gy, gx, &(nf_grad){.theta = g}), NF_OK);
    cr_assert_eq((double)gx[0], 30.0);
    cr_assert_arr_eq(g, wanted, sizeof g);
    nfi_arena_clear(&tape);
    nfi_arena_clear(&scratch);
    nf_net_free(net);
}

/* Construction, both passes: each allocation fails in turn. */
static void fail_each_allocation(net_kind kind, nf_activation unit)
{
    for (size_t k = 0;; k++) {
        size_t before = alloc_live();
        nf_real x[48] = {0}, y[32], gy[32] = {0}, gx[48], theta[400] = {0};
        nf_arena tape = {0}, scratch = {0};
        nf_pass p = {.n = 5, .ld = 16, .theta = theta, .mode = NF_TRAIN, .tape = &tape, .scratch = &scratch};
        void *saved = NULL;
        fail_alloc_after(k);
        nf_net *net = fixture_net(kind, 3, 2, 0, unit, NF_IDENTITY, 0.5);
        cr_assert_leq(nf_object_shape(nf_net_object(net))->n_params, 400);
        nf_status status = net ? nf_net_apply(nf_net_object(net), &p, x, y, &saved) : NF_ENOMEM;
        if (status == NF_OK)
            status = nf_net_vjp(nf_net_object(net), &p, x, y, saved, gy, gx, &(nf_grad){0});
        bool failed = fail_alloc_off();
        nf_net_free(net);
        nfi_arena_clear(&tape);
        nfi_arena_clear(&scratch);
        cr_assert_eq(alloc_live(), before);
        cr_assert_eq(status, failed ? NF_ENOMEM : NF_OK);
        if (!failed)
            break;
    }
}

Test(nets, every_allocation_may_fail)
{
    for (net_kind kind = MLP; kind < N_KINDS; kind++) {
        fail_each_allocation(kind, NF_RELU);
        if (n_hidden_units(kind) > 1)
            fail_each_allocation(kind, NF_SWISH);
    }
}
