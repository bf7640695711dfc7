/* The continuous flow that a user may write on nets' tangents (support/sketch_ffjord.h): its inverse, its log-det
   against the dense Jacobian, its gradients by Taylor's theorem, and Hutchinson's estimate against the exact trace. */
#include "sketch_ffjord.h"
#include "base/memory.h"
#include <criterion/criterion.h>
#include <math.h>

enum { DIM = 3, CTX = 2, MOST = 4096, PARAMS = 150, NUMBERS = PARAMS + (DIM + CTX) * MOST };
static const bool is_double = sizeof(nf_real) == sizeof(double);

/* A flow at a point: its parameters, x and the context stand one after the other. */
typedef struct subject {
    nf_flow *flow;
    nf_arena tape, scratch;
    nf_real numbers[NUMBERS], y[DIM * MOST];
    double log_det[MOST];
    void *saved;
    size_t n, ld;
} subject;

static nf_real *x_of(nf_real *numbers)
{
    return numbers + PARAMS;
}
static nf_real *ctx_of(const subject *s, nf_real *numbers)
{
    return numbers + PARAMS + DIM * s->ld;
}
static void draw(const subject *s, uint64_t seed, nf_real *numbers)
{
    nf_noise_normal(&(nf_noise){.seed = seed}, PARAMS, 1, 1, numbers);
    nf_noise_normal(&(nf_noise){.seed = seed, .site = 1}, DIM + CTX, s->n, s->ld, x_of(numbers));
}

static void begin(subject *s, size_t steps, size_t probes, size_t n)
{
    const nf_mlp_options o = {.hidden = (size_t[]){9, 6}, .n_hidden = 2, .activation = NF_SWISH};
    memset(s, 0, sizeof *s);
    s->n = n, s->ld = (n + 15) / 16 * 16;
    s->flow = new_ffjord(DIM, CTX, steps, probes, nf_mlp(DIM + 1, DIM, CTX, &o));
    cr_assert(s->flow && nf_flow_shape(s->flow)->n_params <= PARAMS, "%s", nf_error_message());
    draw(s, 1, s->numbers);
    for (size_t i = 0; i < PARAMS; i++)
        s->numbers[i] *= NF_R(0.5);
}

static void end(subject *s)
{
    nfi_arena_clear(&s->tape);
    nfi_arena_clear(&s->scratch);
    nf_flow_free(s->flow);
}

static nf_pass pass_of(subject *s, bool tape)
{
    return (nf_pass){.n = s->n,
                     .ld = s->ld,
                     .theta = s->numbers,
                     .ctx = ctx_of(s, s->numbers),
                     .noise = {.seed = 5, .step = 2, .site = 3},
                     .tape = tape ? &s->tape : NULL,
                     .scratch = &s->scratch};
}

static void run(subject *s, nf_direction d, bool tape, nf_real *y)
{
    const nf_pass p = pass_of(s, tape);
    memset(s->log_det, 0, sizeof s->log_det);
    cr_assert_eq(nf_flow_apply(nf_flow_object(s->flow), d, &p, x_of(s->numbers), y, s->log_det, &s->saved), NF_OK);
}

/* gy: of y, then of the log-det. */
static void run_back(subject *s, nf_direction d, const nf_real *gy, nf_real *gx, const nf_grad *g)
{
    const nf_pass p = pass_of(s, true);
    cr_assert_eq(
        nf_flow_vjp(nf_flow_object(s->flow), d, &p, x_of(s->numbers), s->y, s->saved, gy, gy + DIM * s->ld, gx, g),
        NF_OK);
}

static double round_trip(size_t steps)
{
    static subject s;
    double worst = 0;
    begin(&s, steps, 0, 37);
    const size_t size = DIM * s.ld;
    nf_real x[DIM * 48];
    memcpy(x, x_of(s.numbers), size * sizeof *x);
    run(&s, NF_FORWARD, false, s.y);
    memcpy(x_of(s.numbers), s.y, size * sizeof *x);
    run(&s, NF_INVERSE, false, s.y);
    for (size_t i = 0; i < size; i++)
        worst = fmax(worst, fabs((double)s.y[i] - (double)x[i]));
    end(&s);
    return worst;
}

/* To the solver's error, which is of fourth order or better. */
Test(sketch_ffjord, inverse)
{
    const double coarse = round_trip(8), fine = round_trip(16);
    cr_assert(coarse < 1e-3 && (coarse > 12 * fine || fine < 2e-6), "%g, then %g", coarse, fine);
}

/* The exact trace against the dense Jacobian of the map, by the rule of Sarrus. */
Test(sketch_ffjord, log_det_is_that_of_the_jacobian)
{
    static subject s;
    static nf_real gy[(DIM + 1) * 48], J[DIM][DIM * 48]; /* row by row */
    for (int d = 0; d < 2; d++) {
        begin(&s, 40, 0, 37);
        run(&s, (nf_direction)d, true, s.y);
        for (size_t i = 0; i < DIM; i++) {
            for (size_t j = 0; j < (DIM + 1) * s.ld; j++)
                gy[j] = j / s.ld == i && j % s.ld < s.n;
            run_back(&s, (nf_direction)d, gy, J[i], &(nf_grad){0});
        }
        for (size_t j = 0; j < s.n; j++) {
            double det = 0;
            for (size_t i = 0; i < DIM; i++) {
                const size_t next = (i + 1) % 3 * s.ld + j, after = (i + 2) % 3 * s.ld + j;
                det += (double)J[0][i * s.ld + j] *
                       ((double)J[1][next] * (double)J[2][after] - (double)J[1][after] * (double)J[2][next]);
            }
            cr_assert_float_eq(s.log_det[j], log(det), is_double ? 1e-6 : 1e-4, "%g, not %g", s.log_det[j], log(det));
        }
        end(&s);
    }
}

/* <gy, (y, log-det)> with everything moved by h e, the noise being the same. */
static double loss(subject *s, nf_direction d, double h, const nf_real *e, const nf_real *gy)
{
    double sum = 0;
    for (size_t i = 0; i < NUMBERS; i++)
        s->numbers[i] = (nf_real)((double)s->numbers[i] + h * (double)e[i]);
    run(s, d, false, s->y);
    for (size_t i = 0; i < (DIM + 1) * s->ld; i++)
        sum += (double)gy[i] * (i < DIM * s->ld ? (double)s->y[i] : s->log_det[i % s->ld]);
    return sum;
}

Test(sketch_ffjord, taylor)
{
    static subject s;
    static nf_real gy[(DIM + 1) * 48], g[NUMBERS], e[NUMBERS];
    for (int k = 0; k < 6; k++) {
        const nf_direction d = (nf_direction)(k % 2);
        begin(&s, 5, (size_t)(k / 2), 37); /* the exact trace, one and two probes */
        nf_noise_normal(&(nf_noise){.seed = 9}, DIM + 1, s.n, s.ld, gy);
        for (size_t i = 0; i < (DIM + 1) * s.ld; i++)
            gy[i] = i % s.ld < s.n ? gy[i] : 0;
        memset(g, 0, sizeof g);
        draw(&s, 7, e);
        run(&s, d, true, s.y);
        run_back(&s, d, gy, x_of(g), &(nf_grad){.theta = g, .ctx = ctx_of(&s, g)});
        double slope = 0, at[4];
        const double h = is_double ? 1e-4 : 2e-3, move[4] = {0, h / 2, h / 2, -2 * h};
        for (size_t i = 0; i < NUMBERS; i++)
            slope += (double)g[i] * (double)e[i];
        for (int j = 0; j < 4; j++)
            at[j] = loss(&s, d, move[j], e, gy);
        const double central = (at[2] - at[3]) / (2 * h);
        cr_assert_float_eq(central, slope, (is_double ? 1e-5 : 2e-2) * (10 + fabs(slope)), "%g, not %g", slope,
                           central);
        const double half = at[1] - at[0] - h / 2 * slope, whole = at[2] - at[0] - h * slope;
        if (is_double)
            cr_assert_float_eq(log2(whole / half), 2, 0.05, "%g and %g", whole, half);
        end(&s);
    }
}

/* Hutchinson's estimates at one point MOST times over, each with a probe of its own. */
Test(sketch_ffjord, mean_of_the_estimates_is_the_trace)
{
    static subject s, exact;
    double mean = 0, square = 0;
    begin(&exact, 6, 0, 1);
    begin(&s, 6, 1, MOST);
    for (size_t i = 0; i < (DIM + CTX) * MOST; i++)
        x_of(s.numbers)[i] = x_of(exact.numbers)[i / MOST * exact.ld];
    run(&exact, NF_FORWARD, false, exact.y);
    run(&s, NF_FORWARD, false, s.y);
    for (size_t i = 0; i < MOST; i++) {
        const double error = s.log_det[i] - exact.log_det[0];
        mean += error / MOST;
        square += error * error / MOST;
    }
    cr_assert(square > 1e-6 && fabs(mean) < 4 * sqrt(square / MOST), "off by %g, deviation %g", mean, sqrt(square));
    end(&s);
    end(&exact);
}
