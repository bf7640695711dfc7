/* The penalties of continuous flows: closed forms, gradients, means over probes, and what they leave as it was. */
#include "base/memory.h"
#include "expect.h"
#include "fields.h"
#include "numbers.h"
#include "temp_files.h"
#include <string.h>

#ifdef NF_SINGLE
enum { is_double = false };
#else
enum { is_double = true };
#endif

enum { DIM = 3, CTX = 2, N = 37, LD = 48 };

/* ---- a flow on one tile ---- */

/* x [rows x LD], padded as passes want it, and what comes of it. Cotangents are 0 in the padding. */
typedef struct tile {
    nf_model *m;
    nf_direction d;
    nf_pass p;
    nf_arena tape, scratch;
    size_t dim, n_ctx;
    nf_real x[DIM * LD], ctx[CTX * LD], y[DIM * LD], gx[DIM * LD], g_ctx[CTX * LD], gy[DIM * LD], gl[LD], gp[LD];
    double log_det[LD], penalty[LD];
    void *saved;
} tile;

static void pad(size_t rows, bool zero, nf_real *x)
{
    for (size_t i = 0; i < rows * LD; i++)
        if (i % LD >= N)
            x[i] = zero ? 0 : x[i / LD * LD + N - 1];
}

static tile *tile_of(nf_flow *flow, nf_direction d, nf_mode mode)
{
    tile *t = calloc(1, sizeof *t);
    cr_assert_not_null(t);
    t->m = nf_model_of_flow(flow, &(nf_model_options){.seed = 4});
    cr_assert_not_null(t->m, "%s", nf_error_message());
    t->d = d;
    t->dim = nf_model_shape(t->m)->dim_in;
    t->n_ctx = nf_model_shape(t->m)->n_ctx;
    draw(1, DIM * LD, 1, t->x), draw(2, CTX * LD, 1, t->ctx);
    draw(3, DIM * LD, 1, t->gy), draw(4, LD, 1, t->gl), draw(5, LD, 1, t->gp);
    pad(DIM, false, t->x), pad(CTX, false, t->ctx);
    pad(DIM, true, t->gy), pad(1, true, t->gl), pad(1, true, t->gp);
    t->p = (nf_pass){.n = N,
                     .ld = LD,
                     .theta = nf_model_theta(t->m),
                     .ctx = t->n_ctx ? t->ctx : NULL,
                     .noise = {.seed = 8},
                     .mode = mode,
                     .tape = &t->tape,
                     .scratch = &t->scratch,
                     .penalty = t->penalty,
                     .g_penalty = t->gp};
    return t;
}

static void tile_free(tile *t)
{
    nfi_arena_clear(&t->tape);
    nfi_arena_clear(&t->scratch);
    nf_model_free(t->m);
    free(t);
}

static void apply(tile *t)
{
    memset(t->log_det, 0, sizeof t->log_det);
    memset(t->penalty, 0, sizeof t->penalty);
    nf_arena_rewind(&t->tape, (nf_mark){0});
    cr_assert_eq(nf_flow_apply(nf_model_object(t->m), t->d, &t->p, t->x, t->y, t->log_det, &t->saved), NF_OK, "%s",
                 nf_error_message());
}

/* <gy, y> + <gl, log-det> + <gp, penalty> over the samples. */
static double together(tile *t)
{
    double sum = dot(t->dim * LD, t->gy, t->y);
    for (size_t s = 0; s < N; s++)
        sum += (double)t->gl[s] * t->log_det[s] + (double)t->gp[s] * t->penalty[s];
    return sum;
}

/* Gradients at the point of the last `apply`; g_theta [n_params]. */
static void pull_back(tile *t, nf_real *g_theta)
{
    memset(t->g_ctx, 0, sizeof t->g_ctx);
    memset(g_theta, 0, nf_model_shape(t->m)->n_params * sizeof *g_theta);
    const nf_grad g = {.theta = g_theta, .ctx = t->n_ctx ? t->g_ctx : NULL};
    cr_assert_eq(nf_flow_vjp(nf_model_object(t->m), t->d, &t->p, t->x, t->y, t->saved, t->gy, t->gl, t->gx, &g), NF_OK,
                 "%s", nf_error_message());
}

/* ---- closed forms ---- */

static nf_continuous_options options_of(int solver, int trace)
{
    return (nf_continuous_options){.solver = (nf_solver)solver,
                                   .rtol = solver == NF_BOSH3 ? 1e-8 : 1e-11,
                                   .atol = solver == NF_BOSH3 ? 1e-8 : 1e-11,
                                   .steps = 400,
                                   .max_steps = 4000,
                                   .end = 1.5,
                                   .trace = (nf_trace)trace,
                                   .score_by_probes = true,
                                   .probes = trace == NF_TRACE_EXACT ? 0 : 3};
}

/* dz/dt = A z + b, [A, the column of time, b]. */
static tile *linear(size_t dim, const double *A, double b, nf_direction d, nf_continuous_options o)
{
    tile *t = tile_of(nf_continuous(nf_mlp(dim + 1, dim, 0, NULL), &o), d, NF_TRAIN);
    nf_real *theta = nf_model_theta(t->m);
    memset(theta, 0, nf_model_shape(t->m)->n_params * sizeof *theta);
    for (size_t i = 0; i < dim * dim; i++)
        theta[i / dim * (dim + 1) + i % dim] = (nf_real)A[i];
    for (size_t i = 0; i < dim; i++)
        theta[dim * (dim + 1) + i] = (nf_real)b;
    apply(t);
    return t;
}

/* The state at time 0. */
static double begin_of(const tile *t, size_t r, size_t s)
{
    return (double)(t->d == NF_FORWARD ? t->x : t->y)[r * LD + s];
}

/* Kinetic: sum_r a_r z_r^2 (e^(2 a_r T) - 1) / 2, w^2 |z|^2 T of a rotation, dim b^2 T of a constant. Jacobian: T sum
   a^2, 2 w^2 T, 0. Random signs are exact here. */
Test(ode_penalty, linear_fields)
{
    const double T = 1.5, a[] = {0.3, -0.7, 0.45}, w = 1.37, kinetic = 0.8, jacobian = 0.35;
    const double stretch[] = {a[0], 0, 0, 0, a[1], 0, 0, 0, a[2]}, turn[] = {0, -w, w, 0}, nothing[9] = {0};
    for (int solver = NF_DOPRI5; solver <= NF_RK4; solver++)
        for (int trace = NF_TRACE_EXACT; trace <= NF_TRACE_RADEMACHER; trace++)
            for (int d = 0; d < 2; d++)
                for (int which = 1; which < 4; which++) {
                    const double within = !is_double ? 1e-4 : solver == NF_BOSH3 ? 1e-6 : 1e-9;
                    const double k = which & 1 ? kinetic : 0, j = which & 2 ? jacobian : 0;
                    nf_continuous_options o = options_of(solver, trace);
                    o.kinetic = k;
                    o.jacobian = j;
                    tile *stretched = linear(3, stretch, 0, (nf_direction)d, o);
                    tile *turned = linear(2, turn, 0, (nf_direction)d, o);
                    tile *moved = linear(3, nothing, 0.6, (nf_direction)d, o);
                    for (size_t s = 0; s < N; s++) {
                        double energy = 0, size = 0;
                        for (size_t r = 0; r < 3; r++)
                            energy += 0.5 * a[r] * pow(begin_of(stretched, r, s), 2) * (exp(2 * a[r] * T) - 1);
                        for (size_t r = 0; r < 2; r++)
                            size += pow(begin_of(turned, r, s), 2);
                        const double square = a[0] * a[0] + a[1] * a[1] + a[2] * a[2];
                        near(stretched->penalty[s], k * energy + j * T * square, within, "a z", s);
                        near(turned->penalty[s], T * w * w * (k * size + 2 * j), within, "a rotation", s);
                        near(moved->penalty[s], k * T * 3 * 0.36, within, "a constant", s);
                    }
                    tile_free(stretched), tile_free(turned), tile_free(moved);
                }
}

/* ---- gradients ---- */

static nf_flow *swish_flow(nf_continuous_options o)
{
    static const size_t hidden[] = {9, 6};
    return nf_continuous(
        nf_mlp(DIM + 1, DIM, CTX, &(nf_mlp_options){.hidden = hidden, .n_hidden = 2, .activation = NF_SWISH}), &o);
}

/* The gradient along a random displacement of theta, x and context is that of central differences. */
static void check_taylor(nf_direction d, nf_continuous_options o, nf_mode mode, double within)
{
    tile *t = tile_of(swish_flow(o), d, mode);
    const size_t n = nf_model_shape(t->m)->n_params;
    const double h = is_double ? 1e-5 : 1e-2;
    nf_real *theta = reals(n), *x = reals(DIM * LD), *ctx = reals(CTX * LD), *g = reals(n);
    memcpy(theta, t->p.theta, n * sizeof *theta);
    memcpy(x, t->x, sizeof t->x), memcpy(ctx, t->ctx, sizeof t->ctx);
    nf_real *of_theta = normals(11, n, 1), *of_x = normals(12, DIM * LD, 1), *of_ctx = normals(13, CTX * LD, 1);
    apply(t);
    pull_back(t, g);
    for (size_t part = 0; part < 3; part++) {
        double value[2];
        for (int k = 0; k < 2; k++) {
            const double step = k ? h : -h;
            for (size_t i = 0; i < n; i++)
                nf_model_theta(t->m)[i] = theta[i] + (nf_real)(part == 0 ? step * (double)of_theta[i] : 0);
            for (size_t i = 0; i < DIM * LD; i++)
                t->x[i] = x[i] + (nf_real)(part == 1 ? step * (double)of_x[i] : 0);
            for (size_t i = 0; i < CTX * LD; i++)
                t->ctx[i] = ctx[i] + (nf_real)(part == 2 ? step * (double)of_ctx[i] : 0);
            pad(DIM, false, t->x), pad(CTX, false, t->ctx);
            apply(t);
            value[k] = together(t);
        }
        const double slope = part == 0   ? dot(n, g, of_theta)
                             : part == 1 ? dot(DIM * LD, t->gx, of_x)
                                         : dot(CTX * LD, t->g_ctx, of_ctx);
        near(slope, (value[1] - value[0]) / (2 * h), within, "slope in theta, x, context:", part);
    }
    tile_free(t);
    free(theta), free(x), free(ctx), free(g), free(of_theta), free(of_x), free(of_ctx);
}

/* The steps of RK4 do not depend on anything, so that their gradient is exact, also with few of them. */
Test(ode_penalty, gradients)
{
    for (int trace = NF_TRACE_EXACT; trace <= NF_TRACE_GAUSSIAN; trace++)
        for (int d = 0; d < 2; d++)
            for (int which = 1; which < 4; which++) {
                nf_continuous_options o = {.solver = NF_RK4,
                                           .steps = 4,
                                           .trace = (nf_trace)trace,
                                           .score_by_probes = true,
                                           .probes = 2,
                                           .kinetic = which & 1 ? 0.4 : 0,
                                           .jacobian = which & 2 ? 0.3 : 0};
                check_taylor((nf_direction)d, o, NF_TRAIN, is_double ? 1e-8 : 2e-2);
                if (!is_double)
                    continue;
                o.solver = NF_DOPRI5;
                o.rtol = o.atol = 1e-11;
                check_taylor((nf_direction)d, o, NF_TRAIN, 1e-7);
                o.gradient = NF_ADJOINT;
                check_taylor((nf_direction)d, o, NF_EVAL, 1e-7);
            }
}

/* Number by number. */
Test(ode_penalty, gradients_of_both_kinds_agree)
{
    const double tight = is_double ? 1e-10 : 1e-6, within = is_double ? 1e-7 : 3e-3;
    for (int trace = NF_TRACE_EXACT; trace <= NF_TRACE_GAUSSIAN; trace++)
        for (int d = 0; d < 2; d++) {
            tile *t[2];
            nf_real *g[2];
            for (int kind = NF_THROUGH_STEPS; kind <= NF_ADJOINT; kind++) {
                t[kind] = tile_of(swish_flow((nf_continuous_options){.rtol = tight,
                                                                     .atol = tight,
                                                                     .trace = (nf_trace)trace,
                                                                     .score_by_probes = true,
                                                                     .probes = 2,
                                                                     .kinetic = 0.4,
                                                                     .jacobian = 0.3,
                                                                     .gradient = (nf_ode_gradient)kind}),
                                  (nf_direction)d, NF_TRAIN);
                g[kind] = reals(nf_model_shape(t[kind]->m)->n_params);
                apply(t[kind]);
                pull_back(t[kind], g[kind]);
            }
            for (size_t i = 0; i < nf_model_shape(t[0]->m)->n_params; i++)
                near((double)g[1][i], (double)g[0][i], within, "gradient in theta", i);
            for (size_t i = 0; i < DIM * LD; i++)
                near((double)t[1]->gx[i], (double)t[0]->gx[i], i % LD < N ? within : 0, "gradient in x", i);
            for (size_t i = 0; i < CTX * LD; i++)
                near((double)t[1]->g_ctx[i], (double)t[0]->g_ctx[i], within, "gradient in the context", i);
            tile_free(t[0]), tile_free(t[1]);
            free(g[0]), free(g[1]);
        }
}

/* ---- estimates ---- */

/* The mean of n numbers is what it should be, within four standard errors. */
static void check_mean(size_t n, const double *draws, double exact, const char *what, size_t number)
{
    double mean = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        mean += (draws[i] - exact) / (double)n;
        square += pow(draws[i] - exact, 2) / (double)n;
    }
    cr_assert(square > 1e-8 && fabs(mean) < 4 * sqrt(square / (double)n), "%s %zu: off by %g, deviation %g", what,
              number, mean, sqrt(square));
}

/* Every sample is the same row with another probe. */
Test(ode_penalty, means_of_the_estimates)
{
    enum { BATCHES = 112, DRAWS = BATCHES * N };
    const double tolerance = is_double ? 1e-7 : 1e-5;
    const nf_continuous_options o = {.rtol = tolerance, .atol = tolerance, .kinetic = 0.4, .jacobian = 0.7};
    static double penalty[DRAWS], gx[DIM][DRAWS];
    for (int d = 0; d < 2; d++) {
        tile *t[3];
        for (int trace = NF_TRACE_EXACT; trace <= NF_TRACE_GAUSSIAN; trace++) {
            nf_continuous_options q = o;
            q.trace = (nf_trace)trace;
            q.probes = (size_t)(trace ? trace : 1);
            t[trace] = tile_of(swish_flow(q), (nf_direction)d, NF_TRAIN);
            nf_real *g = reals(nf_model_shape(t[trace]->m)->n_params);
            for (size_t i = 0; i < DIM * LD; i++)
                t[trace]->x[i] = t[trace]->x[i / LD * LD], t[trace]->gy[i] = 0;
            for (size_t i = 0; i < CTX * LD; i++)
                t[trace]->ctx[i] = t[trace]->ctx[i / LD * LD];
            for (size_t s = 0; s < LD; s++)
                t[trace]->gl[s] = 0, t[trace]->gp[s] = s < N ? 1 : 0;
            for (size_t b = 0; b < (trace ? BATCHES : 1); b++) {
                t[trace]->p.noise.first_sample = b * N;
                apply(t[trace]);
                pull_back(t[trace], g);
                for (size_t s = 0; s < N; s++) {
                    penalty[b * N + s] = t[trace]->penalty[s];
                    for (size_t r = 0; r < DIM; r++)
                        gx[r][b * N + s] = (double)t[trace]->gx[r * LD + s];
                }
            }
            if (trace) {
                check_mean(DRAWS, penalty, t[0]->penalty[0], "penalty", (size_t)trace);
                for (size_t r = 0; r < DIM; r++)
                    check_mean(DRAWS, gx[r], (double)t[0]->gx[r * LD], "gradient in x", r);
            }
            free(g);
        }
        tile_free(t[0]), tile_free(t[1]), tile_free(t[2]);
    }
}

/* ---- what stays as it was ---- */

/* Penalties do not choose steps: values, log-dets and evaluations are those without them. */
Test(ode_penalty, does_not_choose_steps)
{
    for (int solver = NF_DOPRI5; solver <= NF_RK4; solver++)
        for (int mode = NF_EVAL; mode <= NF_TRAIN; mode++)
            for (int d = 0; d < 2; d++) {
                tile *t[3];
                for (int k = 0; k < 3; k++) {
                    nf_continuous_options o = {.solver = (nf_solver)solver};
                    o.kinetic = k ? 300 : 0;
                    o.jacobian = k ? 200 : 0;
                    t[k] = tile_of(swish_flow(o), (nf_direction)d, (nf_mode)mode);
                    if (k == 2)
                        t[k]->p.penalty = NULL; /* nobody wants it */
                    apply(t[k]);
                }
                for (size_t s = 0; s < N; s++)
                    cr_assert(t[0]->penalty[s] == 0 && t[1]->penalty[s] > 1 && t[2]->penalty[s] == 0);
                for (int k = 1; k < 3; k++) {
                    cr_assert_eq(memcmp(t[0]->y, t[k]->y, sizeof t[0]->y), 0);
                    cr_assert_eq(memcmp(t[0]->log_det, t[k]->log_det, N * sizeof t[0]->log_det[0]), 0);
                    cr_assert_eq(nf_ode_count(nf_model_object(t[0]->m)).evaluations,
                                 nf_ode_count(nf_model_object(t[k]->m)).evaluations);
                }
                tile_free(t[0]), tile_free(t[1]), tile_free(t[2]);
            }
}

/* nf_check_flow sees the penalty's gradient, in x, context and parameters. */
Test(ode_penalty, is_checked_with_the_flow)
{
    for (int which = 0; which < 4; which++)
        for (int gradient = NF_THROUGH_STEPS; gradient <= (is_double ? NF_ADJOINT : NF_THROUGH_STEPS); gradient++) {
            nf_continuous_options o = {.solver = gradient == NF_ADJOINT ? NF_DOPRI5 : NF_RK4,
                                       .steps = 4,
                                       .gradient = (nf_ode_gradient)gradient,
                                       .kinetic = which & 1 ? 0.4 : 0,
                                       .jacobian = which & 2 ? 0.3 : 0};
            if (gradient == NF_ADJOINT)
                o.rtol = o.atol = 1e-10;
            nf_model *m = nf_model_of_flow(swish_flow(o), &(nf_model_options){.seed = 4});
            nf_check_report r;
            cr_assert_eq(nf_check_flow(m, &(nf_check_options){.n = 5, .seed = 1}, &r), NF_OK, "%s", nf_error_message());
            for (int d = 0; d < 2; d++)
                cr_assert(which ? r.penalty_error[d] > 0 && r.penalty_error[d] < (is_double ? 1e-7 : 1e-2)
                                : r.penalty_error[d] == 0,
                          "%d %d %d: %g", which, gradient, d, r.penalty_error[d]);
            nf_model_free(m);
        }
}

/* J^-T has none. */
Test(ode_penalty, is_no_part_of_the_jacobian)
{
    for (int d = 0; d < 2; d++) {
        nf_real gy[2][DIM * LD];
        for (int k = 0; k < 2; k++) {
            tile *t =
                tile_of(swish_flow((nf_continuous_options){.kinetic = 3, .jacobian = 2}), (nf_direction)d, NF_EVAL);
            apply(t);
            memset(t->penalty, 0, sizeof t->penalty);
            if (k)
                t->p.penalty = NULL, t->p.g_penalty = NULL;
            cr_assert_eq(nf_flow_solve_jt(nf_model_object(t->m), t->d, &t->p, t->x, t->y, t->saved, t->gy, gy[k]),
                         NF_OK);
            for (size_t s = 0; s < LD; s++)
                cr_assert_eq(t->penalty[s], 0);
            tile_free(t);
        }
        cr_assert_eq(memcmp(gy[0], gy[1], sizeof gy[0]), 0);
    }
}

/* ---- in objectives ---- */

/* A row that blows up is left out, and the others' penalties count once, although their tile is solved again. */
Test(ode_penalty, of_a_tile_that_is_solved_again)
{
    enum { ROWS = 6 };
    nf_real x[ROWS], T[ROWS];
    double with = 0;
    for (size_t i = 0; i < ROWS; i++)
        x[i] = (nf_real)(0.2 + 0.15 * (double)i), T[i] = 1;
    for (int failing = 0; failing < 2; failing++) {
        if (failing)
            x[2] = 40;
        nf_model *m = nf_model_of_dist(
            nf_pushforward(
                nf_normal(1),
                nf_continuous(riccati(), &(nf_continuous_options){.rtol = 1e-6, .atol = 1e-6, .kinetic = 1})),
            NULL);
        cr_assert_not_null(m, "%s", nf_error_message());
        nf_model_theta(m)[0] = NF_R(-0.4);
        cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
        nf_objective *o = nf_maximum_likelihood(m, &(nf_data){.n = ROWS, .dim = 1, .x = x, .n_ctx = 1, .ctx = T}, NULL);
        nf_step_report r;
        nf_real g;
        cr_assert_eq(nf_objective_gradient(o, NULL, 1, 0, &r, &g), NF_OK, "%s", nf_error_message());
        cr_assert_eq(r.failed, (size_t)failing);
        /* z(t) goes from x at T back: |dz/dt|^2 = T^2 (a v^2 + 1)^2, v = 1 / (1 / v(1) + a (1 - t)), v(1) = x - 1 */
        double sum = 0;
        for (size_t i = 0; i < ROWS; i++)
            for (size_t k = 0; k < 2000 && !(failing && i == 2); k++) {
                const double v1 = (double)x[i] - 1, v = v1 / (1 - v1 * 0.4 * (((double)k + 0.5) / 2000));
                sum += pow(1 - 0.4 * v * v, 2) / 2000 / (ROWS - failing);
            }
        near(r.penalty, sum, 1e-4, "penalty", (size_t)failing);
        cr_assert(failing == 0 || fabs(r.penalty - with) > 1e-3);
        with = r.penalty;
        nf_objective_free(o);
        nf_model_free(m);
    }
}

static nf_model *ffjord(double kinetic, double jacobian, nf_trace trace)
{
    static const size_t hidden[] = {24, 24};
    const nf_recipe_options o = {
        .n_layers = 1,
        .hidden = hidden,
        .n_hidden = 2,
        .ode = &(nf_continuous_options){
            .kinetic = kinetic, .jacobian = jacobian, .trace = trace, .score_by_probes = true}};
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(2), nf_ffjord(2, &o)), &(nf_model_options){.seed = 2});
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

/* Two crescents around each other. */
static nf_real *moons(uint64_t seed, size_t n)
{
    nf_real *e = normals(seed, 3 * n, 1), *x = reals(2 * n);
    for (size_t i = 0; i < n; i++) {
        const double side = i % 2 ? 1 : -1, angle = 1.9 * tanh((double)e[3 * i]);
        x[2 * i] = (nf_real)(side * (1.6 * cos(angle) - 0.8) + 0.12 * (double)e[3 * i + 1]);
        x[2 * i + 1] = (nf_real)(1.6 * sin(angle) + side * 0.5 + 0.12 * (double)e[3 * i + 2]);
    }
    free(e);
    return x;
}

Test(ode_penalty, equal_for_any_number_of_threads)
{
    enum { ROWS = 400 };
    nf_real *x = moons(5, ROWS);
    nf_model *m = ffjord(0.1, 0.1, NF_TRACE_RADEMACHER);
    nf_objective *o =
        nf_maximum_likelihood(m, &(nf_data){.n = ROWS, .dim = 2, .x = x}, &(nf_likelihood_options){.batch = ROWS});
    const size_t n = nf_model_shape(m)->n_params;
    nf_real *g[2] = {reals(n), reals(n)};
    draw(9, n, 0.3, nf_model_theta(m));
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    nf_step_report r[2];
    for (int k = 0; k < 2; k++) {
        nf_workspace *ws = nf_workspace_new(k ? 3 : 1);
        cr_assert_eq(nf_objective_gradient(o, ws, 1, 0, &r[k], g[k]), NF_OK);
        nf_workspace_free(ws);
    }
    cr_assert(r[0].penalty > 1e-3 && r[0].penalty == r[1].penalty && r[0].loss == r[1].loss);
    cr_assert_eq(memcmp(g[0], g[1], n * sizeof *g[0]), 0);
    nf_objective_free(o);
    nf_model_free(m);
    free(x), free(g[0]), free(g[1]);
}

/* The work of a solve falls, and the likelihood of other rows hardly. */
Test(ode_penalty, training_makes_fields_easier)
{
    enum { ROWS = 2000, TEST = 1000 };
    const bool brief = NFLOW_THIN || sizeof(nf_real) == 4; /* float trains alike */
    nf_real *x = moons(5, ROWS), *other = moons(6, TEST);
    double loss[2], work[2];
    for (int k = 0; k < 2; k++) {
        nf_model *m = ffjord(k ? 0.02 : 0, k ? 0.01 : 0, NF_TRACE_EXACT);
        nf_objective *o =
            nf_maximum_likelihood(m, &(nf_data){.n = ROWS, .dim = 2, .x = x}, &(nf_likelihood_options){.batch = 200});
        nf_objective *v = nf_maximum_likelihood(m, &(nf_data){.n = TEST, .dim = 2, .x = other},
                                                &(nf_likelihood_options){.batch = TEST});
        cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = brief ? 20 : 500, .rate = 0.01, .seed = 3}, NULL), NF_OK,
                     "%s", nf_error_message());
        const nf_ode_counts before = nf_ode_count(nf_model_object(m));
        nf_step_report r;
        cr_assert_eq(nf_objective_value(v, NULL, 1, 0, &r), NF_OK);
        const nf_ode_counts after = nf_ode_count(nf_model_object(m));
        loss[k] = r.loss;
        work[k] = (double)(after.evaluations - before.evaluations) / (double)(after.solves - before.solves);
        nf_objective_free(o);
        nf_objective_free(v);
        nf_model_free(m);
    }
    if (!brief) {
        cr_assert_lt(work[1], 0.75 * work[0], "%g evaluations per solve with penalties, %g without", work[1], work[0]);
        cr_assert_lt(loss[1], loss[0] + 0.05, "a loss of %g with penalties, %g without", loss[1], loss[0]);
    }
    free(x), free(other);
}

/* ---- options ---- */

Test(ode_penalty, options)
{
    static const nf_continuous_options wrong[] = {
        {.kinetic = -1}, {.kinetic = NAN}, {.kinetic = INFINITY}, {.jacobian = -1e-9}, {.jacobian = NAN}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        expect_none(nf_continuous(nf_mlp(3, 2, 0, NULL), &wrong[i]), NF_EARG, i < 3 ? "kinetic" : "jacobian");
    char path[64];
    snprintf(path, sizeof path, "%s/model.safetensors", temp_folder());
    for (int k = 0; k < 2; k++) { /* a file has them where they are not 0 */
        const nf_continuous_options o = {.kinetic = k ? 0.37 : 0, .jacobian = k ? 0.0625 : 0};
        nf_model *m = nf_model_of_flow(nf_continuous(nf_mlp(3, 2, 0, NULL), &o), NULL);
        cr_assert_not_null(m, "%s", nf_error_message());
        if (nf_save(m, path) == NF_OK) {
            size_t size;
            unsigned char *bytes = file_read(path, &size);
            cr_assert_eq(memmem(bytes, size, "kinetic", 7) != NULL, k);
            cr_assert_eq(memmem(bytes, size, "jacobian", 8) != NULL, k);
            nf_model *again = nf_load(path, NULL);
            cr_assert_not_null(again, "%s", nf_error_message());
            const nf_continuous_options *q = nf_self(nf_model_object(again));
            cr_assert(q->kinetic == o.kinetic && q->jacobian == o.jacobian);
            nf_model_free(again);
            free(bytes);
        } else {
            expect(nf_error_status(), NF_EUNSUPPORTED, "Jansson");
        }
        nf_model_free(m);
    }
    temp_teardown();
}
