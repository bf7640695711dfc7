/* Continuous flows: equations with closed forms, the order of the solvers, samples that depend on nothing else and fail
   alone, the two gradients, Hutchinson's estimates, and refusals. */
#include "base/memory.h"
#include "fields.h"
#include "numbers.h"
#include "expect.h"
#include <inttypes.h>
#include <string.h>

#ifdef NF_SINGLE
enum { is_double = false };
#else
enum { is_double = true };
#endif
static const double tight = is_double ? 1e-10 : 1e-6;

static nf_model *model_of(nf_net *net, const nf_continuous_options *options)
{
    nf_model *m = nf_model_of_flow(nf_continuous(net, options), NULL);
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

/* dz/dt = A z + b, with [A, the column of time, b] as a net's numbers. */
static nf_model *linear_model(size_t dim, const double *A, double b, nf_continuous_options options)
{
    nf_model *m = model_of(nf_mlp(dim + 1, dim, 0, NULL), &options);
    nf_real *theta = nf_model_theta(m);
    memset(theta, 0, nf_model_shape(m)->n_params * sizeof *theta);
    for (size_t i = 0; i < dim * dim; i++)
        theta[i / dim * (dim + 1) + i % dim] = (nf_real)A[i];
    for (size_t i = 0; i < dim; i++)
        theta[dim * (dim + 1) + i] = (nf_real)b;
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    return m;
}

static void transform(const nf_model *m, nf_direction d, uint64_t seed, size_t n, const nf_real *x, const nf_real *ctx,
                      nf_real *y, double *log_det)
{
    cr_assert_eq(nf_transform(m, NULL, &(nf_noise){.seed = seed}, d, n, x, ctx, y, log_det), NF_OK, "%s",
                 nf_error_message());
}

/* Every solver at a tolerance that it can reach. */
static nf_continuous_options options_of(int solver, int gradient)
{
    return (nf_continuous_options){.solver = (nf_solver)solver,
                                   .rtol = solver == NF_BOSH3 ? 1e-8 : 1e-11,
                                   .atol = solver == NF_BOSH3 ? 1e-8 : 1e-11,
                                   .steps = 400,
                                   .max_steps = 4000,
                                   .gradient = (nf_ode_gradient)gradient};
}
static double error_of(int solver)
{
    return !is_double ? 2e-5 : solver == NF_BOSH3 ? 1e-6 : 1e-9;
}

/* ---- closed forms ---- */

/* x goes to E x + b, with log-det l, and back. */
static void check_linear(size_t dim, const double *A, double b, const double *E, double l,
                         nf_continuous_options options)
{
    enum { N = 5 };
    nf_model *m = linear_model(dim, A, b, options);
    nf_real *x = normals(3, N * dim, 1.3), *y = reals(N * dim), *back = reals(N * dim);
    double log_det[N];
    const double within = error_of((int)options.solver);
    transform(m, NF_FORWARD, 1, N, x, NULL, y, log_det);
    for (size_t i = 0; i < N * dim; i++) {
        double sum = b;
        for (size_t j = 0; j < dim; j++)
            sum += E[i % dim * dim + j] * (double)x[i / dim * dim + j];
        near((double)y[i], sum, within, "y", i);
    }
    for (size_t i = 0; i < N; i++)
        near(log_det[i], l, within * (double)dim, "log-det", i);
    transform(m, NF_INVERSE, 1, N, y, NULL, back, log_det);
    for (size_t i = 0; i < N * dim; i++)
        near((double)back[i], (double)x[i], 10 * within, "x", i);
    for (size_t i = 0; i < N; i++)
        near(log_det[i], -l, within * (double)dim, "log-det of the inverse", i);
    free(x), free(y), free(back);
    nf_model_free(m);
}

Test(ode, linear_fields)
{
    enum { D = 10 };
    static const double rates[D] = {0.3, -0.7, 0.11, 0.52, -0.4, 0.9, -1.1, 0.05, 0.23, -0.31};
    double diagonal[D * D] = {0}, grown[D * D] = {0}, sum = 0;
    for (size_t i = 0; i < D; i++) {
        diagonal[i * D + i] = rates[i];
        grown[i * D + i] = exp(rates[i]);
        sum += rates[i];
    }
    const double w = 1.37, turn[] = {0, -w, w, 0}, turned[] = {cos(w), -sin(w), sin(w), cos(w)};
    for (int solver = NF_DOPRI5; solver <= NF_RK4; solver++) {
        nf_continuous_options o = options_of(solver, NF_THROUGH_STEPS);
        check_linear(1, (double[]){0}, 1, (double[]){1}, 0, o);
        check_linear(1, (double[]){log(2)}, 0, (double[]){2}, log(2), o);
        check_linear(2, turn, 0, turned, 0, o);
        check_linear(D, diagonal, 0, grown, sum, o);
        o.score_by_probes = true;
        o.trace = NF_TRACE_RADEMACHER; /* exact on a diagonal matrix */
        check_linear(D, diagonal, 0, grown, sum, o);
        o.probes = 3;
        check_linear(D, diagonal, 0, grown, sum, o);
    }
}

/* x' = -a x: y = x exp(-a), log-det -a; the gradients in x and in -a, a weight. */
Test(ode, decay_with_gradients)
{
    const double a = 0.783, x0 = 1.31, gy = 0.7, gl = -1.9;
    for (int solver = NF_DOPRI5; solver <= NF_RK4; solver++)
        for (int gradient = NF_THROUGH_STEPS; gradient <= NF_ADJOINT; gradient++) {
            nf_model *m = linear_model(1, (double[]){-a}, 0, options_of(solver, gradient));
            const nf_real x = (nf_real)x0, g = (nf_real)gy, g_log = (nf_real)gl;
            nf_real gx, g_theta[3] = {0};
            cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_FORWARD, 1, &x, NULL, &g, &g_log, &gx, NULL, g_theta),
                         NF_OK);
            near((double)gx, gy * exp(-a), 10 * error_of(solver), "gradient in x", 0);
            near((double)g_theta[0], gy * x0 * exp(-a) + gl, 10 * error_of(solver), "gradient in -a", 0);
            nf_model_free(m);
        }
}

/* Riccati's equation, whose solution is 1 / (1 / x - a T) + T, with the gradients in x, a and T. */
Test(ode, riccati_with_gradients)
{
    enum { N = 3 };
    const nf_real x[N] = {NF_R(0.57), NF_R(-1.4), NF_R(0.9)}, T[N] = {NF_R(0.8), NF_R(1.1), NF_R(0.3)};
    const nf_real gy[N] = {NF_R(0.7), NF_R(-1.2), NF_R(0.4)}, gl[N] = {NF_R(1.3), NF_R(0.6), NF_R(-0.8)};
    const double a = 0.66;
    for (int solver = NF_DOPRI5; solver <= NF_RK4; solver++)
        for (int gradient = NF_THROUGH_STEPS; gradient <= NF_ADJOINT; gradient++) {
            const nf_continuous_options o = options_of(solver, gradient);
            nf_model *m = model_of(riccati(), &o);
            nf_model_theta(m)[0] = (nf_real)a;
            cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
            const double within = 10 * error_of(solver);
            nf_real y[N], gx[N], gT[N], ga = 0;
            double log_det[N], in_a = 0;
            transform(m, NF_FORWARD, 0, N, x, T, y, log_det);
            cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_FORWARD, N, x, T, gy, gl, gx, gT, &ga), NF_OK);
            for (size_t i = 0; i < N; i++) {
                const double x0 = (double)x[i], t = (double)T[i], q = 1 - a * t * x0, g = (double)gy[i];
                near((double)y[i], x0 / q + t, within, "y", i);
                near(log_det[i], -2 * log(q), within, "log-det", i);
                near((double)gx[i], g / (q * q) + (double)gl[i] * 2 * a * t / q, within, "gradient in x", i);
                near((double)gT[i], g * (a * x0 * x0 / (q * q) + 1) + (double)gl[i] * 2 * a * x0 / q, within,
                     "gradient in T", i);
                in_a += g * t * x0 * x0 / (q * q) + (double)gl[i] * 2 * t * x0 / q;
            }
            near((double)ga, in_a, 3 * within, "gradient in a", 0);
            nf_model_free(m);
        }
}

/* ---- orders ---- */

/* The error at x = 0.9, a = 0.7, T = 1 and the number of steps. */
static double riccati_error(nf_continuous_options o, double *steps)
{
    nf_model *m = model_of(riccati(), &o);
    nf_model_theta(m)[0] = NF_R(0.7);
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    const nf_real x = NF_R(0.9), T = 1;
    nf_real y;
    double log_det;
    transform(m, NF_FORWARD, 0, 1, &x, &T, &y, &log_det);
    const nf_ode_counts counts = nf_ode_count(nf_model_object(m));
    *steps = (double)(counts.steps + counts.rejected);
    const size_t stages = o.solver == NF_DOPRI5 ? 6 : o.solver == NF_BOSH3 ? 3 : 4;
    const double most = (o.solver == NF_RK4 ? 0 : 2) + *steps * (double)stages;
    cr_assert_eq((double)counts.evaluations, most, "%g evaluations in %g steps", (double)counts.evaluations, *steps);
    cr_assert_eq(counts.solves, 1);
    const double q = 1 - 0.7 * 0.9;
    nf_model_free(m);
    return fabs((double)y - (0.9 / q + 1)) + fabs(log_det + 2 * log(q));
}

Test(ode, errors_fall_at_the_order_of_the_solver)
{
    static const double order[] = {[NF_DOPRI5] = 5, [NF_BOSH3] = 3, [NF_RK4] = 4};
    for (int solver = NF_DOPRI5; solver <= NF_RK4; solver++) {
        double before = 0, steps_before = 0;
        for (int k = 0; k < (is_double ? 4 : 2); k++) {
            const double tolerance = (!is_double ? 1e-3 : solver == NF_BOSH3 ? 1e-4 : 1e-6) * pow(10, -1.5 * k);
            double steps, error = riccati_error((nf_continuous_options){.solver = (nf_solver)solver,
                                                                        .rtol = tolerance,
                                                                        .atol = tolerance,
                                                                        .max_steps = 100000,
                                                                        .steps = (size_t)10 << k},
                                                &steps);
            if (solver != NF_RK4)
                cr_assert(error < 100 * tolerance, "solver %d: error %g at %g", solver, error, tolerance);
            if (k == 3) {
                const double slope = log(before / error) / log(steps / steps_before);
                cr_assert(slope > order[solver] - 0.7 && slope < order[solver] + 1.3,
                          "solver %d: order %g (error %g in %g steps)", solver, slope, error, steps);
            }
            if (k == (solver == NF_RK4 ? 1 : 0))
                before = error, steps_before = steps;
        }
    }
}

/* dz/dt = tanh(200 (t - c)), with 200 c in the context: steps that grew where nothing happens are rejected at t = c,
   by each sample at its own c, and the derivative at their start is kept. z moves by 1 - 2 c to rounding. */
Test(ode, rejected_steps)
{
    enum { N = 3 };
    const nf_mlp_options net = {.hidden = (const size_t[]){1}, .n_hidden = 1, .activation = NF_TANH};
    const nf_real numbers[] = {0, 200, -1, 0, 1, 0}, x[N] = {NF_R(0.7), NF_R(-1.2), 0}, ctx[N] = {120, 70, 93};
    const double tolerance = is_double ? 1e-7 : 1e-6;
    for (int solver = NF_DOPRI5; solver <= NF_BOSH3; solver++) {
        nf_model *m =
            model_of(nf_mlp(2, 1, 1, &net),
                     &(nf_continuous_options){
                         .solver = (nf_solver)solver, .rtol = tolerance, .atol = tolerance, .max_steps = 10000});
        memcpy(nf_model_theta(m), numbers, sizeof numbers);
        cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
        nf_real y[N];
        double log_det[N];
        transform(m, NF_FORWARD, 0, 1, x, ctx, y, log_det);
        const nf_ode_counts alone = nf_ode_count(nf_model_object(m));
        cr_assert(alone.rejected > 1 && alone.steps > alone.rejected);
        transform(m, NF_FORWARD, 0, N, x, ctx, y, log_det);
        for (size_t i = 0; i < N; i++) {
            near((double)y[i], (double)x[i] + 1 - (double)ctx[i] / 100, 100 * tolerance, "y", i);
            cr_assert_float_eq(log_det[i], 0, tolerance);
        }
        nf_model_free(m);
    }
}

/* ---- a flow with everything: swish units, context ---- */

enum { DIM = 3, CTX = 2 };

static nf_model *swish_model(const nf_continuous_options *o)
{
    static const size_t hidden[] = {9, 6};
    const nf_mlp_options net = {.hidden = hidden, .n_hidden = 2, .activation = NF_SWISH};
    nf_model *m = nf_model_of_flow(nf_continuous(nf_mlp(DIM + 1, DIM, CTX, &net), o), &(nf_model_options){.seed = 4});
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

Test(ode, gradients_of_both_kinds_agree)
{
    enum { N = 37 };
    nf_real *x = normals(1, N * DIM, 1), *ctx = normals(2, N * CTX, 1), *gy = normals(3, N * DIM, 1);
    nf_real *gl = normals(4, N, 1);
    for (int trace = NF_TRACE_EXACT; trace <= NF_TRACE_GAUSSIAN; trace++)
        for (int d = 0; d < 2; d++) {
            nf_real *g[2];
            size_t size = 0;
            for (int kind = NF_THROUGH_STEPS; kind <= NF_ADJOINT; kind++) {
                nf_model *m = swish_model(&(nf_continuous_options){.rtol = tight,
                                                                   .atol = tight,
                                                                   .trace = (nf_trace)trace,
                                                                   .score_by_probes = true,
                                                                   .probes = 2,
                                                                   .gradient = (nf_ode_gradient)kind});
                size = N * (DIM + CTX) + nf_model_shape(m)->n_params;
                g[kind] = reals(size);
                cr_assert_eq(nf_transform_vjp(m, NULL, &(nf_noise){.seed = 9}, (nf_direction)d, N, x, ctx, gy, gl,
                                              g[kind], g[kind] + N * DIM, g[kind] + N * (DIM + CTX)),
                             NF_OK, "%s", nf_error_message());
                nf_model_free(m);
            }
            for (size_t i = 0; i < size; i++)
                near((double)g[1][i], (double)g[0][i], is_double ? 1e-7 : 2e-3, "gradient", i);
            free(g[0]), free(g[1]);
        }
    free(x), free(ctx), free(gy), free(gl);
}

/* A model that is trained by probes scores exactly unless it is told otherwise, and then needs no noise. */
Test(ode, scores_are_exact)
{
    enum { N = 11 };
    nf_real *x = normals(1, N * DIM, 1), *ctx = normals(2, N * CTX, 1), *y = reals(N * DIM);
    double exact[N], l[N];
    nf_model *m = swish_model(&(nf_continuous_options){.rtol = tight, .atol = tight});
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, N, x, ctx, y, exact), NF_OK);
    nf_model_free(m);
    m = swish_model(&(nf_continuous_options){.rtol = tight, .atol = tight, .trace = NF_TRACE_GAUSSIAN, .probes = 2});
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, N, x, ctx, y, l), NF_OK, "%s", nf_error_message());
    for (size_t i = 0; i < N; i++)
        near(l[i], exact[i], is_double ? 1e-9 : 1e-4, "log-det", i);
    nf_model_free(m);
    m = swish_model(&(nf_continuous_options){.trace = NF_TRACE_GAUSSIAN, .score_by_probes = true});
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, N, x, ctx, y, l), NF_EARG, "an estimate without noise");
    nf_model_free(m);
    free(x), free(ctx), free(y);
}

/* Estimates with the same noise: the inverse undoes them, and their gradient is that of differences. */
Test(ode, probes_are_fixed)
{
    enum { N = 37 };
    nf_real *x = normals(1, N * DIM, 1), *ctx = normals(2, N * CTX, 1), *e = normals(3, N * DIM, 1),
            *y = reals(N * DIM);
    nf_real *gx = reals(N * DIM), *moved = reals(N * DIM), *gl = normals(5, N, 1);
    double l[N], back[N];
    for (int trace = NF_TRACE_RADEMACHER; trace <= NF_TRACE_GAUSSIAN; trace++) {
        nf_model *m = swish_model(&(nf_continuous_options){
            .rtol = tight, .atol = tight, .trace = (nf_trace)trace, .score_by_probes = true, .probes = 2});
        transform(m, NF_FORWARD, 6, N, x, ctx, y, l);
        transform(m, NF_INVERSE, 6, N, y, ctx, moved, back);
        for (size_t i = 0; i < N; i++)
            near(back[i], -l[i], is_double ? 1e-8 : 1e-4, "log-det", i);
        cr_assert_eq(nf_transform_vjp(m, NULL, &(nf_noise){.seed = 6}, NF_FORWARD, N, x, ctx, NULL, gl, gx, NULL, NULL),
                     NF_OK);
        double sum[2] = {0}, h = is_double ? 1e-5 : 1e-2;
        for (int k = 0; k < 2; k++) {
            for (size_t i = 0; i < N * DIM; i++)
                moved[i] = (nf_real)((double)x[i] + (k ? h : -h) * (double)e[i]);
            transform(m, NF_FORWARD, 6, N, moved, ctx, y, l);
            for (size_t i = 0; i < N; i++)
                sum[k] += (double)gl[i] * l[i];
        }
        near((sum[1] - sum[0]) / (2 * h), dot(N * DIM, gx, e), is_double ? 1e-5 : 1e-2, "slope", 0);
        nf_model_free(m);
    }
    free(x), free(ctx), free(e), free(y), free(gx), free(moved), free(gl);
}

/* Hutchinson's log-dets and their gradients: means over N draws, each row with a probe of its own, within four standard
   errors of the exact ones. */
static void check_mean(size_t n, const nf_real *draw, size_t stride, double exact, const char *what, size_t number)
{
    double mean = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        const double error = (double)draw[i * stride] - exact;
        mean += error / (double)n;
        square += error * error / (double)n;
    }
    cr_assert(square > 1e-8 && fabs(mean) < 4 * sqrt(square / (double)n), "%s %zu: off by %g, deviation %g", what,
              number, mean, sqrt(square));
}

Test(ode, means_of_the_estimates)
{
    enum { N = 4096, BATCHES = 64 };
    const double within = is_double ? 1e-7 : 1e-5;
    nf_model *m = swish_model(&(nf_continuous_options){.rtol = within, .atol = within});
    const size_t n_params = nf_model_shape(m)->n_params;
    nf_real *x = reals(N * DIM), *ctx = reals(N * CTX), *y = reals(N * DIM), *gx = reals(N * DIM), *gl = reals(N);
    nf_real *g = reals(n_params), *g_batch = reals(BATCHES * n_params), exact_gx[DIM], *l_of = reals(N);
    double *l = calloc(N, sizeof *l), exact;
    for (size_t i = 0; i < N; i++) {
        gl[i] = 1;
        for (size_t k = 0; k < DIM; k++)
            x[i * DIM + k] = (nf_real)(0.83 - 0.67 * (double)k);
        for (size_t k = 0; k < CTX; k++)
            ctx[i * CTX + k] = (nf_real)(0.4 + 0.9 * (double)k);
    }
    transform(m, NF_FORWARD, 1, 1, x, ctx, y, &exact);
    cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_FORWARD, 1, x, ctx, NULL, gl, exact_gx, NULL, g), NF_OK);
    nf_model_free(m);
    for (int trace = NF_TRACE_RADEMACHER; trace <= NF_TRACE_GAUSSIAN; trace++) {
        m = swish_model(&(nf_continuous_options){.rtol = within,
                                                 .atol = within,
                                                 .trace = (nf_trace)trace,
                                                 .score_by_probes = true,
                                                 .probes = (size_t)trace});
        transform(m, NF_FORWARD, 11, N, x, ctx, y, l);
        for (size_t i = 0; i < N; i++)
            l_of[i] = (nf_real)l[i];
        check_mean(N, l_of, 1, exact, "log-det", 0);
        memset(g_batch, 0, BATCHES * n_params * sizeof *g_batch);
        for (size_t b = 0; b < BATCHES; b++) {
            const size_t first = b * (N / BATCHES);
            cr_assert_eq(nf_transform_vjp(m, NULL, &(nf_noise){.seed = 11, .first_sample = first}, NF_FORWARD,
                                          N / BATCHES, x, ctx, NULL, gl, gx + first * DIM, NULL,
                                          g_batch + b * n_params),
                         NF_OK);
        }
        for (size_t k = 0; k < DIM; k++)
            check_mean(N, gx + k, DIM, (double)exact_gx[k], "gradient in x", k);
        double worst = 0; /* of many parameters the worst: within five */
        for (size_t k = 0; k < n_params; k++) {
            double mean = 0, square = 0;
            for (size_t b = 0; b < BATCHES; b++)
                mean += (double)g_batch[b * n_params + k] / N;
            for (size_t b = 0; b < BATCHES; b++)
                square += pow((double)g_batch[b * n_params + k] / (N / BATCHES) - mean, 2) / (BATCHES - 1);
            worst = fmax(worst, fabs(mean - (double)g[k]) / (sqrt(square / BATCHES) + 1e-4 * within));
        }
        cr_assert_lt(worst, 5, "a gradient in parameters is %g standard errors off", worst);
        nf_model_free(m);
    }
    free(x), free(ctx), free(y), free(gx), free(gl), free(g), free(g_batch), free(l_of), free(l);
}

/* ---- samples ---- */

/* Bit for bit the same alone, among others and in another order; under sanitizers to the solver's tolerance (see
   same_numbers). */
Test(ode, a_sample_depends_on_no_other)
{
    enum { N = 150 };
    nf_real *x = normals(1, N * DIM, 3), *ctx = normals(2, N * CTX, 1), *y = reals(N * DIM), *one = reals(DIM);
    double l[N], l_one;
    for (int solver = NF_DOPRI5; solver <= NF_RK4; solver++) {
        nf_model *m = swish_model(&(nf_continuous_options){.solver = (nf_solver)solver});
        for (int d = 0; d < 2; d++) {
            transform(m, (nf_direction)d, 0, N, x, ctx, y, l);
            for (size_t i = 0; i < N; i += 7) {
                transform(m, (nf_direction)d, 0, 1, x + i * DIM, ctx + i * CTX, one, &l_one);
                const double allowed = NFLOW_THIN == 1 ? 1e-3 : 0;
                for (size_t j = 0; j < DIM; j++)
                    cr_assert_float_eq((double)one[j], (double)y[i * DIM + j], allowed * (1 + fabs((double)one[j])),
                                       "row %zu", i);
                cr_assert_float_eq(l_one, l[i], allowed * (1 + fabs(l[i])), "row %zu", i);
            }
        }
        nf_model_free(m);
    }
    free(x), free(ctx), free(y), free(one);
}

/* dz/dt = v^2 from v = x blows up before t = 1 where x > 1: those rows fail, with bounded work, and the others are as
   without them. */
Test(ode, a_field_that_blows_up)
{
    enum { N = 6, MOST = 200 };
    const nf_real x[N] = {NF_R(0.5), 2, -3, NF_R(0.9), 1000, NF_R(1.25)}, T[N] = {1, 1, 1, 1, 1, 1};
    const bool bad[N] = {false, true, false, false, true, true};
    for (int solver = NF_DOPRI5; solver <= NF_BOSH3; solver++) {
        nf_model *m = model_of(riccati(), &(nf_continuous_options){.solver = (nf_solver)solver, .max_steps = MOST});
        nf_workspace *ws = nf_workspace_new(1);
        nf_model_theta(m)[0] = 1;
        cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
        nf_real y[N], alone;
        double l[N], l_alone;
        cr_assert_eq(nf_transform(m, ws, NULL, NF_FORWARD, N, x, T, y, l), NF_OK);
        cr_assert_eq(nf_workspace_failed(ws), 3);
        const nf_ode_counts counts = nf_ode_count(nf_model_object(m));
        cr_assert_eq(counts.failed, 3);
        cr_assert(counts.evaluations <= 2 + (solver == NF_DOPRI5 ? 6 : 3) * MOST);
        for (size_t i = 0; i < N; i++) {
            cr_assert_eq(isnan(y[i]) && isnan(l[i]), bad[i], "row %zu is %g", i, (double)y[i]);
            transform(m, NF_FORWARD, 0, 1, x + i, T, &alone, &l_alone);
            cr_assert(bad[i] || (alone == y[i] && l_alone == l[i]), "row %zu", i);
        }
        nf_workspace_free(ws);
        nf_model_free(m);
    }
}

/* The row needs far more steps than it may take. */
Test(ode, a_stiff_field)
{
    nf_model *m = model_of(net_of_two(&van_der_pol_type), &(nf_continuous_options){.max_steps = 100, .end = 1000});
    nf_workspace *ws = nf_workspace_new(1);
    const nf_real x[2] = {2, 0};
    nf_real y[2];
    double l[1];
    cr_assert_eq(nf_transform(m, ws, NULL, NF_FORWARD, 1, x, NULL, y, l), NF_OK);
    cr_assert(nf_workspace_failed(ws) == 1 && isnan(y[0]) && isnan(l[0]));
    const nf_ode_counts counts = nf_ode_count(nf_model_object(m));
    cr_assert(counts.evaluations == 2 + 6 * 100 && counts.failed == 1);
    nf_workspace_free(ws);
    nf_model_free(m);
}

/* In training the samples of a tile share their steps, and each has its own again where one fails. */
Test(ode, training)
{
    enum { N = 6, LD = 16 };
    nf_flow *flow = nf_continuous(riccati(), &(nf_continuous_options){.rtol = 1e-6, .atol = 1e-6});
    cr_assert_not_null(flow, "%s", nf_error_message());
    nf_arena tape = {.n_chunks = 0}, scratch = {.n_chunks = 0};
    nf_real x[LD], T[LD], y[2][LD], gx[2][LD], gy[LD] = {1, 1, 1, 1, 1, 1}, gl[LD] = {0}, theta = NF_R(0.4);
    for (int failing = 0; failing < 2; failing++) {
        for (size_t s = 0; s < LD; s++) {
            x[s] = (nf_real)(0.2 + 0.15 * (double)(s < N ? s : N - 1));
            T[s] = 1;
        }
        if (failing)
            x[2] = 40;
        for (int mode = 0; mode < 2; mode++) {
            nf_pass p = {.n = N, .ld = LD, .theta = &theta, .ctx = T, .tape = &tape, .scratch = &scratch};
            p.mode = mode ? NF_TRAIN : NF_EVAL;
            double l[LD] = {0};
            void *saved = NULL;
            cr_assert_eq(nf_flow_apply(nf_flow_object(flow), NF_FORWARD, &p, x, y[mode], l, &saved), NF_OK);
            if (!failing)
                cr_assert_eq(
                    nf_flow_vjp(nf_flow_object(flow), NF_FORWARD, &p, x, y[mode], saved, gy, gl, gx[mode], NULL),
                    NF_OK);
        }
        for (size_t s = 0; s < N; s++) {
            cr_assert_eq(isnan(y[1][s]), failing && s == 2, "sample %zu", s);
            cr_assert(isnan(y[1][s]) || !failing || y[1][s] == y[0][s], "sample %zu", s);
            if (!isnan(y[1][s]))
                near((double)y[1][s], (double)y[0][s], 1e-4, "y", s);
            if (!failing)
                near((double)gx[1][s], (double)gx[0][s], 1e-4, "gx", s);
        }
        cr_assert(failing || y[1][0] != y[0][0]); /* the steps do differ */
    }
    nfi_arena_clear(&tape);
    nfi_arena_clear(&scratch);
    nf_flow_free(flow);
}

/* Stages that are kept on the tape and stages that are computed again give the same gradient, bit for bit. A tile of
   one sample takes the same steps in training, where stages are kept, as in evaluation, where they are not. The wide
   net's stages fill the tape after some steps. */
Test(ode, kept_stages)
{
    enum { LD = 16 };
    for (int wide = 0; wide < 2; wide++)
        for (int trace = NF_TRACE_EXACT; trace <= NF_TRACE_RADEMACHER; trace++) {
            const nf_mlp_options net = {.hidden = (const size_t[]){wide ? 1024 * sizeof(double) / sizeof(nf_real) : 9},
                                        .n_hidden = 1,
                                        .activation = NF_TANH,
                                        .init = NF_INIT_TORCH};
            nf_model *m = model_of(
                nf_mlp(DIM + 1, DIM, 0, &net),
                &(nf_continuous_options){
                    .rtol = 1e-6, .atol = 1e-6, .trace = (nf_trace)trace, .score_by_probes = true, .probes = 2});
            const size_t n_params = nf_model_shape(m)->n_params;
            nf_real *theta = nf_model_theta(m), *g[2];
            for (size_t i = 0; i < n_params; i++)
                theta[i] *= wide ? 2 : 20; /* so that there are some steps, and rejected ones */
            nf_arena tape = {.n_chunks = 0}, scratch = {.n_chunks = 0};
            nf_real x[DIM * LD], y[2][DIM * LD], gx[2][DIM * LD], gy[DIM * LD] = {0}, gl[LD] = {NF_R(0.7)};
            double l[2][LD] = {{0}};
            uint64_t again[2], rejected = 0;
            for (size_t i = 0; i < DIM * LD; i++)
                x[i] = (nf_real)(0.4 - 0.5 * (double)(i / LD));
            for (size_t i = 0; i < DIM; i++)
                gy[i * LD] = (nf_real)(1.3 - (double)i);
            for (int mode = 0; mode < 2; mode++) {
                nf_pass p = {
                    .n = 1, .ld = LD, .theta = theta, .tape = &tape, .scratch = &scratch, .noise = {.seed = 3}};
                p.mode = mode ? NF_TRAIN : NF_EVAL;
                void *saved = NULL;
                g[mode] = reals(n_params);
                cr_assert_eq(nf_flow_apply(nf_model_object(m), NF_FORWARD, &p, x, y[mode], l[mode], &saved), NF_OK);
                const nf_ode_counts before = nf_ode_count(nf_model_object(m));
                cr_assert_eq(nf_flow_vjp(nf_model_object(m), NF_FORWARD, &p, x, y[mode], saved, gy, gl, gx[mode],
                                         &(nf_grad){.theta = g[mode]}),
                             NF_OK);
                again[mode] = nf_ode_count(nf_model_object(m)).evaluations - before.evaluations;
                rejected = before.rejected;
            }
            for (size_t i = 0; i < DIM; i++)
                cr_assert(y[0][i * LD] == y[1][i * LD] && gx[0][i * LD] == gx[1][i * LD], "feature %zu", i);
            cr_assert(l[0][0] == l[1][0]);
            for (size_t i = 0; i < n_params; i++)
                cr_assert(g[0][i] == g[1][i], "theta[%zu]: %g and %g", i, (double)g[0][i], (double)g[1][i]);
            cr_assert(wide ? again[1] > 0 && again[1] < again[0] : again[0] > 0 && again[1] == 0 && rejected > 0,
                      "%" PRIu64 " and %" PRIu64 " evaluations, %" PRIu64 " rejected steps", again[0], again[1],
                      rejected);
            free(g[0]), free(g[1]);
            nfi_arena_clear(&tape);
            nfi_arena_clear(&scratch);
            nf_model_free(m);
        }
}

/* The recipe is its parts, starts near the identity, and becomes what it is fitted to. */
Test(ode, ffjord)
{
    enum { N = 600 };
    const size_t hidden[] = {16, 16};
    const nf_recipe_options o = {.n_layers = 2, .hidden = hidden, .n_hidden = 2, .mixing = NF_MIX_LU};
    nf_flow *flow = nf_ffjord(2, &o);
    cr_assert_not_null(flow, "%s", nf_error_message());
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(2), flow), &(nf_model_options){.seed = 2});
    cr_assert_not_null(m, "%s", nf_error_message());
    nf_real *x = normals(5, 2 * N, 1), *y = reals(2 * N);
    double l[N], before, after;
    transform(m, NF_FORWARD, 0, N, x, NULL, y, l);
    for (size_t i = 0; i < 2 * N; i++)
        cr_assert_float_eq(x[i], y[i], 0.3);
    for (size_t i = 0; i < N; i++) /* a crescent */
        y[2 * i + 1] = (nf_real)(0.3 * (double)x[2 * i + 1] + pow((double)x[2 * i], 2) - 1);
    for (size_t i = 0; i < N; i++)
        y[2 * i] = x[2 * i];
    nf_objective *ml = nf_maximum_likelihood(m, &(nf_data){.n = N, .dim = 2, .x = y}, NULL);
    nf_step_report r;
    cr_assert_eq(nf_objective_value(ml, NULL, 1, 0, &r), NF_OK);
    before = r.loss;
    cr_assert_eq(nf_fit(ml, &(nf_fit_options){.steps = 60, .rate = 0.02}, NULL), NF_OK, "%s", nf_error_message());
    cr_assert_eq(nf_objective_value(ml, NULL, 1, 0, &r), NF_OK);
    after = r.loss;
    cr_assert(after < before - 0.7, "the loss was %g and is %g", before, after);
    nf_objective_free(ml);
    nf_model_free(m);
    free(x), free(y);
}

/* ---- refusals ---- */

Test(ode, refusals)
{
    static const struct {
        nf_continuous_options o;
        const char *words;
    } wrong[] = {
        {{.rtol = NF_ZERO}, "rtol"},
        {{.rtol = 1}, "rtol"},
        {{.rtol = -0.5}, "rtol"},
        {{.atol = NF_ZERO}, "atol"},
        {{.atol = 1}, "atol"},
        {{.max_steps = NF_NONE}, "max_steps"},
        {{.steps = NF_NONE}, "steps"},
        {{.end = -2}, "end"},
        {{.probes = NF_NONE}, "probes"},
        {{.solver = (nf_solver)7}, "solver"},
        {{.trace = (nf_trace)7}, "trace"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        expect_none(nf_continuous(nf_mlp(3, 2, 0, NULL), &wrong[i].o), NF_EARG, wrong[i].words);
    expect_none(nf_continuous(nf_mlp(2, 2, 0, NULL), NULL), NF_EDIM, "2 features and gives 2");
    expect_none(nf_continuous(net_of_two(&tangentless_type), NULL), NF_EUNSUPPORTED, "tangentless");
    cr_assert_null(nf_mlp(3, 0, 0, NULL));
    expect_none(nf_continuous(NULL, NULL), NF_EARG, "nf_mlp: `out` is 0");
    cr_assert_null(nf_squash_mlp(0, 2, 0, NULL));
    expect(nf_error_status(), NF_EARG, "nf_squash_mlp: `in` is 0");
    cr_assert_null(nf_squash_mlp(3, 2, 0, &(nf_mlp_options){.dropout = 0.5}));
    expect(nf_error_status(), NF_EARG, "dropout");
    const struct {
        nf_recipe_options o;
        const char *words;
    } of_recipe[] = {
        {{.parallel = NF_PARALLEL_FORWARD}, "nf_ffjord: `parallel`"},
        {{.mixing = NF_MIX_REVERSE}, "nf_ffjord: `mixing`"},
        {{.mixing = NF_MIX_PERMUTE}, "nf_ffjord: `mixing`"},
        {{.n_blocks = 2}, "nf_ffjord: `n_blocks`"},
        {{.dropout = 0.5}, "nf_ffjord: `dropout`"},
        {{.spline = &(nf_spline_options){.bins = 4}}, "its layers are continuous"},
        {{.ode = &(nf_continuous_options){.end = -1}}, "nf_continuous: `end`"},
    };
    for (size_t i = 0; i < sizeof of_recipe / sizeof *of_recipe; i++)
        expect_none(nf_ffjord(2, &of_recipe[i].o), NF_EARG, of_recipe[i].words);
    expect_none(nf_maf(2, &(nf_recipe_options){.ode = &(nf_continuous_options){.end = 2}}), NF_EARG, "nf_maf: `ode`");
    const nf_ode_counts none = nf_ode_count(NULL);
    cr_assert(none.solves == 0 && none.evaluations == 0);
}
