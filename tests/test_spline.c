/* The rational-quadratic spline against the paper's formulas in long double; knots, tails, extreme numbers. */
#include "support/numbers.h"
#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <nflow/nflow.h>
#include <string.h>

#ifdef NF_SINGLE
static const double rounding = 1.2e-7, huge = 1e30;
#define NEXT nextafterf
#else
static const double rounding = 2.3e-16, huge = 1e300;
#define NEXT nextafter
#endif
enum { MOST_BINS = 12 };

static nf_model *model_of(const nf_spline_options *options, nf_real *theta)
{
    nf_model *m = nf_model_of_flow(nf_spline(1, options), &(nf_model_options){.theta = theta});
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

/* ---- the paper's algorithm, as its code has it ---- */

typedef struct knots {
    size_t bins;
    long double x[MOST_BINS + 1], y[MOST_BINS + 1], slope[MOST_BINS + 1];
} knots;

static double middle(const nf_spline_options *q)
{
    return (q->low + q->high) / 2;
}

static void cumulate(size_t bins, double least, const nf_spline_options *q, const nf_real *raw, long double *at)
{
    long double total = 0;
    for (size_t j = 0; j < bins; j++)
        total += expl(raw[j]);
    at[0] = (long double)middle(q) - q->box;
    for (size_t j = 0; j < bins; j++)
        at[j + 1] = at[j] + 2 * q->box * (least + (1 - (long double)least * bins) * expl(raw[j]) / total);
}

static knots knots_of(const nf_spline_options *q, const nf_real *theta)
{
    knots k = {.bins = q->bins};
    cumulate(q->bins, q->min_width, q, theta, k.x);
    cumulate(q->bins, q->min_height, q, theta + q->bins, k.y);
    const nf_real *d = theta + 2 * q->bins;
    for (size_t j = 0; j <= q->bins; j++) {
        const bool fixed = (j == 0 || j == q->bins) && !q->circular && !q->free_ends;
        const long double raw = q->circular ? d[j % q->bins] : q->free_ends ? d[j] : fixed ? 0 : d[j - 1];
        k.slope[j] = fixed ? 1 : q->min_slope + log1pl(expl(raw + logl(expm1l(1 - q->min_slope))));
    }
    return k;
}

/* Gregory & Delbourgo's interpolant (Durkan et al. 2019, eqs. 4 and 5). */
static long double reference(const knots *k, long double x, long double *log_slope)
{
    size_t b = 0;
    while (b + 1 < k->bins && x >= k->x[b + 1])
        b++;
    const long double w = k->x[b + 1] - k->x[b], h = k->y[b + 1] - k->y[b], s = h / w, t = (x - k->x[b]) / w;
    const long double d0 = k->slope[b], d1 = k->slope[b + 1], u = t * (1 - t), D = s + (d1 + d0 - 2 * s) * u;
    *log_slope = logl(s * s * (d1 * t * t + 2 * s * u + d0 * (1 - t) * (1 - t))) - 2 * logl(D);
    return k->y[b] + h * (s * t * t + d0 * u) / D;
}

static const nf_spline_options shapes[] = {
    {.bins = 8, .box = 3, .min_width = 1e-3, .min_height = 1e-3, .min_slope = 1e-3},
    {.bins = 5, .box = 1.37, .min_width = 0.031, .min_height = 0.017, .min_slope = 0.023},
    {.bins = 2, .box = 11.3, .min_width = 2e-3, .min_height = 5e-3, .min_slope = 1e-4},
    {.bins = 12, .box = 2.9, .min_width = 1e-3, .min_height = 1e-3, .min_slope = 1e-3, .circular = true},
    {.bins = 1, .box = 0.83, .min_width = 1e-3, .min_height = 1e-3, .min_slope = 1e-3, .circular = true},
    {.bins = 1, .box = 0.83, .min_width = 1e-3, .min_height = 1e-3, .min_slope = 1e-3},
    {.bins = 7,
     .box = 0.5,
     .low = 0,
     .high = 1,
     .min_width = 1e-3,
     .min_height = 1e-3,
     .min_slope = 1e-3,
     .free_ends = true},
    {.bins = 1, .box = 0.83, .min_width = 1e-3, .min_height = 1e-3, .min_slope = 0.03, .free_ends = true},
    {.bins = 12,
     .box = 1.25,
     .low = -3.25,
     .high = -0.75,
     .min_width = 1e-3,
     .min_height = 1e-3,
     .min_slope = 1e-3,
     .free_ends = true},
    {.bins = 3,
     .box = 2.5,
     .low = 1.5,
     .high = 6.5,
     .min_width = 1e-3,
     .min_height = 1e-3,
     .min_slope = 1e-3,
     .circular = true},
    {.bins = 4, .box = 0.875, .low = -0.25, .high = 1.5, .min_width = 1e-3, .min_height = 1e-3, .min_slope = 1e-3},
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static size_t count(const nf_spline_options *q)
{
    return 3 * q->bins + (q->free_ends ? 1 : q->circular ? 0 : (size_t)-1);
}

Test(spline, is_the_papers_formula)
{
    enum { N = 203 };
    for (size_t k = 0; k < N_SHAPES; k++)
        for (uint64_t seed = 1; seed <= 5; seed++) {
            const nf_spline_options *q = &shapes[k];
            nf_real theta[3 * MOST_BINS + 1], x[N], y[N];
            double l[N];
            draw(100 * seed + k, count(q), 0.3 * (double)seed, theta);
            const knots at = knots_of(q, theta);
            nf_model *m = model_of(q, theta);
            for (int i = 0; i < N; i++)
                x[i] = (nf_real)(middle(q) + q->box * 1.03 * ((i + 0.377) / N * 2 - 1));
            cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, N, x, NULL, y, l), NF_OK);
            for (int i = 0; i < N; i++) {
                const double turn = q->circular ? 2 * q->box * round(((double)x[i] - middle(q)) / (2 * q->box)) : 0;
                const bool inside = q->circular || fabs((double)x[i] - middle(q)) < q->box;
                long double log_slope = 0,
                            exact = inside ? reference(&at, (double)x[i] - turn, &log_slope) + turn : x[i];
                /* the log-slope moves by at most its greatest slope times the error of x: steep pieces are narrow */
                const double tolerance = 2000 * rounding * (1 + exp(fabs((double)log_slope)));
                cr_assert_float_eq(y[i], exact, tolerance * q->box, "shape %zu at %g: %.12g, not %.12Lg", k,
                                   (double)x[i], (double)y[i], exact);
                cr_assert_float_eq(l[i], log_slope, 10 * tolerance, "shape %zu at %g: log-det %.12g, not %.12Lg", k,
                                   (double)x[i], l[i], log_slope);
            }
            nf_model_free(m);
        }
}

/* Two pieces of width 1, heights sqrt(1/2) and 2 - sqrt(1/2), slopes 1 at all knots. */
Test(spline, two_pieces_with_known_knots)
{
    enum { N = 10 };
    const nf_spline_options q = {.bins = 2, .box = 1};
    const double share = (sqrt(0.5) / 2 - 1e-3) / (1 - 2e-3);
    nf_real theta[5] = {0, 0, (nf_real)log(share), (nf_real)log(1 - share), 0}, x[N], y[N], back[N];
    double l[N];
    nf_model *m = model_of(&q, theta);
    for (int i = 0; i < N; i++)
        x[i] = (nf_real)(-1.05 + 2.1 * i / (N - 1));
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, N, x, NULL, y, l), NF_OK);
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_INVERSE, N, y, NULL, back, NULL), NF_OK);
    for (int i = 0; i < N; i++) {
        const double h = (double)x[i] < 0 ? sqrt(0.5) : 2 - sqrt(0.5), base = (double)x[i] < 0 ? -1 : sqrt(0.5) - 1;
        const double t = (double)x[i] - ((double)x[i] < 0 ? -1 : 0), u = t * (1 - t), D = h + (2 - 2 * h) * u;
        const bool inside = fabs((double)x[i]) < 1;
        cr_expect_float_eq(back[i], x[i], 20 * rounding);
        cr_expect_float_eq(y[i], inside ? base + h * (h * t * t + u) / D : (double)x[i], 20 * rounding);
        const double slope = h * h * (t * t + 2 * h * u + (1 - t) * (1 - t)) / (D * D);
        cr_expect_float_eq(l[i], inside ? log(slope) : 0, 40 * rounding);
        cr_expect(i == 0 || y[i] > y[i - 1]);
    }
    nf_model_free(m);
}

Test(spline, zero_parameters_are_the_identity)
{
    enum { N = 101 };
    for (size_t k = 0; k < N_SHAPES; k++) {
        nf_real theta[3 * MOST_BINS + 1] = {0}, x[N], y[N];
        double l[N];
        nf_model *m = model_of(&shapes[k], theta);
        draw(7, N, shapes[k].box, x);
        for (int i = 0; i < N; i++)
            x[i] += (nf_real)middle(&shapes[k]);
        for (nf_direction d = NF_FORWARD; d <= NF_INVERSE; d++) {
            cr_assert_eq(nf_transform(m, NULL, NULL, d, N, x, NULL, y, l), NF_OK);
            for (int i = 0; i < N; i++) {
                cr_assert_float_eq(y[i], x[i], 50 * rounding * shapes[k].box);
                cr_assert_float_eq(l[i], 0, 100 * rounding);
            }
        }
        nf_model_free(m);
    }
}

/* ---- tails, knots, extremes: everything is finite, and the identity is exact ---- */

/* Runs both directions with all gradients; false if anything is not finite. */
static bool finite_everywhere(nf_model *m, nf_direction d, size_t n, const nf_real *x, nf_real *y, double *l,
                              nf_real *gx, nf_real *g_theta)
{
    nf_real gy[512], g_l[512];
    const size_t n_params = nf_model_shape(m)->n_params;
    cr_assert(n <= 512);
    draw(3, n, 1, gy);
    draw(4, n, 1, g_l);
    memset(g_theta, 0, n_params * sizeof *g_theta);
    cr_assert_eq(nf_transform(m, NULL, NULL, d, n, x, NULL, y, l), NF_OK);
    cr_assert_eq(nf_transform_vjp(m, NULL, NULL, d, n, x, NULL, gy, g_l, gx, NULL, g_theta), NF_OK);
    bool finite = true;
    for (size_t i = 0; i < n; i++)
        finite = finite && isfinite(y[i]) && isfinite(l[i]) && isfinite(gx[i]);
    for (size_t i = 0; i < n_params; i++)
        finite = finite && isfinite(g_theta[i]);
    return finite;
}

Test(spline, is_exactly_the_identity_in_the_tails)
{
    enum { N = 37 };
    nf_real theta[23], x[N], y[N], gx[N], g_theta[23], gy[N];
    double l[N];
    draw(11, 23, 1.3, theta);
    draw(3, N, 1, gy);
    nf_model *m = model_of(&shapes[0], theta);
    for (int i = 0; i < N; i++)
        x[i] = (nf_real)((i % 2 ? -3 : 3) * pow(sizeof(nf_real) == 8 ? 1e8 : 10, i));
    for (nf_direction d = NF_FORWARD; d <= NF_INVERSE; d++) {
        cr_assert(finite_everywhere(m, d, N, x, y, l, gx, g_theta));
        cr_assert_eq(memcmp(x, y, sizeof x), 0);
        cr_assert_eq(memcmp(gx, gy, sizeof gx), 0);
        for (int i = 0; i < N; i++)
            cr_assert_float_eq(l[i], 0, 0);
        for (int i = 0; i < 23; i++)
            cr_assert_float_eq(g_theta[i], 0, 0);
    }
    nf_model_free(m);
}

/* On a knot and one ulp beside it: the knot's image, its slope from both sides; and so for the inverse. */
Test(spline, is_smooth_at_the_knots)
{
    for (size_t k = 0; k < N_SHAPES; k++)
        for (uint64_t seed = 1; seed <= 4; seed++) {
            const nf_spline_options *q = &shapes[k];
            nf_real theta[3 * MOST_BINS + 1], x[3 * (MOST_BINS + 1)], y[3 * (MOST_BINS + 1)], gx[3 * (MOST_BINS + 1)];
            nf_real g_theta[3 * MOST_BINS + 1];
            double l[3 * (MOST_BINS + 1)];
            draw(31 * seed + k, count(q), 0.7, theta);
            const knots at = knots_of(q, theta);
            const size_t n = 3 * (q->bins + 1);
            nf_model *m = model_of(q, theta);
            for (nf_direction d = NF_FORWARD; d <= NF_INVERSE; d++) {
                const long double *from = d == NF_FORWARD ? at.x : at.y, *to = d == NF_FORWARD ? at.y : at.x;
                for (size_t j = 0; j <= q->bins; j++) {
                    x[3 * j + 1] = (nf_real)from[j];
                    x[3 * j] = NEXT(x[3 * j + 1], (nf_real)-huge);
                    x[3 * j + 2] = NEXT(x[3 * j + 1], (nf_real)huge);
                }
                cr_assert(finite_everywhere(m, d, n, x, y, l, gx, g_theta));
                for (size_t i = 0; i < n; i++) {
                    if (q->free_ends &&
                        (i == 0 || i == n - 1)) { /* one ulp outside the box, where it is the identity */
                        cr_assert(y[i] == x[i] && l[i] == 0, "shape %zu: %.12g", k, (double)y[i]);
                        continue;
                    }
                    const double slope = (double)at.slope[i / 3], steep = slope > 1 / slope ? slope : 1 / slope;
                    cr_assert_float_eq(y[i], to[i / 3], 100 * rounding * q->box * (1 + steep),
                                       "shape %zu, knot %zu: %.12g, not %.12Lg", k, i / 3, (double)y[i], to[i / 3]);
                    cr_assert_float_eq(d == NF_FORWARD ? l[i] : -l[i], log(slope), 1e5 * rounding,
                                       "shape %zu, knot %zu: log-slope %.12g, not %.12g", k, i / 3, l[i], log(slope));
                }
            }
            nf_model_free(m);
        }
}

/* Saturated softmaxes, slopes from the least to beyond the greatest number, at and between knots and far away. */
Test(spline, is_finite_at_extreme_parameters)
{
    enum { N = 311 };
    const double values[] = {0, 1e4, -1e4, huge, -huge, 37.3, -37.3, 1e9, 1e-30};
    for (size_t k = 0; k < N_SHAPES; k++)
        for (uint64_t trial = 0; trial < 60; trial++) {
            const nf_spline_options *q = &shapes[k];
            nf_real theta[3 * MOST_BINS + 1], x[N], y[N], gx[N], g_theta[3 * MOST_BINS + 1];
            double l[N];
            for (size_t i = 0; i < count(q); i++) /* all alike, then mixed */
                theta[i] =
                    (nf_real)values[trial < 9 ? trial : (trial * 7919 + i * i * 104729 + i * 31 * trial) / 13 % 9];
            nf_model *m = model_of(q, theta);
            for (int i = 0; i < N; i++)
                x[i] = (nf_real)(middle(q) + q->box * 1.001 * ((double)i / (N - 12) * 2 - 1));
            const double special[] = {1e15, -1e15, 1e-30, -1e-30, middle(q) + q->box, middle(q) - q->box, 0};
            for (int i = 0; i < 7; i++)
                x[N - 7 + i] = (nf_real)special[i];
            for (nf_direction d = NF_FORWARD; d <= NF_INVERSE; d++) {
                cr_assert(finite_everywhere(m, d, N, x, y, l, gx, g_theta), "shape %zu, trial %u, direction %d", k,
                          (unsigned)trial, (int)d);
                for (int i = 1; i < N - 11; i++)
                    cr_assert_geq(y[i], y[i - 1] - (nf_real)(20 * rounding * q->box), "shape %zu, trial %u at %g", k,
                                  (unsigned)trial, (double)x[i]);
            }
            nf_model_free(m);
        }
}

/* Whatever the slopes, f(f^-1(y)) = y to rounding, and what rounding of x makes of it. */
Test(spline, inverse_is_exact_to_rounding)
{
    enum { N = 251 };
    for (size_t k = 0; k < N_SHAPES; k++)
        for (uint64_t seed = 1; seed <= 6; seed++) {
            const nf_spline_options *q = &shapes[k];
            nf_real theta[3 * MOST_BINS + 1], x[N], y[N], again[N];
            double l[N];
            draw(7 * seed + k, count(q), 0.5 * (double)seed, theta);
            nf_model *m = model_of(q, theta);
            for (int i = 0; i < N; i++)
                y[i] = (nf_real)(middle(q) + q->box * 1.05 * ((i + 0.41) / N * 2 - 1));
            cr_assert_eq(nf_transform(m, NULL, NULL, NF_INVERSE, N, y, NULL, x, NULL), NF_OK);
            cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, N, x, NULL, again, l), NF_OK);
            for (int i = 0; i < N; i++)
                cr_assert_float_eq(again[i], y[i], 8 * rounding * q->box * (2 + exp(l[i])), "shape %zu at %g: %.12g", k,
                                   (double)y[i], (double)again[i]);
            nf_model_free(m);
        }
}

/* A huge end slope makes the quadratic's b negative and b^2 >> 4 a c: the other root's formula loses all digits. */
Test(spline, inverse_is_stable_beside_a_steep_end)
{
    const nf_spline_options q = {.bins = 2, .box = 1, .min_width = 1e-3, .min_height = 1e-3, .min_slope = 1e-3};
    nf_real theta[5] = {0, 0, 0, 0, sizeof(nf_real) == 8 ? NF_R(1e9) : NF_R(3e4)};
    nf_model *m = model_of(&q, theta);
    for (int i = 1; i < 40; i++) {
        const double p = 1, r = (double)theta[4], f = i / 40.; /* first piece: slopes 1 and huge */
        nf_real y = (nf_real)(f - 1), x;
        cr_assert_eq(nf_transform(m, NULL, NULL, NF_INVERSE, 1, &y, NULL, &x, NULL), NF_OK);
        const long double exact = (double)y + 1, b = p - exact * (p + r - 2), a = 1 - b;
        const long double t = (sqrtl(b * b + 4 * a * exact) - b) / (2 * a);
        cr_expect_float_eq(x, t - 1, 50 * rounding, "%.12g, not %.12Lg", (double)x, t - 1);
    }
    nf_model_free(m);
}

/* ---- gradients ---- */

/* Softmaxes do not see a constant added to their arguments: gradients of a group sum to 0. */
Test(spline, gradients_in_widths_and_heights_sum_to_zero)
{
    enum { N = 61 };
    for (size_t k = 0; k < N_SHAPES; k++) {
        const nf_spline_options *q = &shapes[k];
        nf_real theta[3 * MOST_BINS + 1], x[N], y[N], gx[N], g_theta[3 * MOST_BINS + 1];
        double l[N];
        draw(17 + k, count(q), 0.8, theta);
        draw(19, N, 0.6 * q->box, x);
        for (int i = 0; i < N; i++)
            x[i] += (nf_real)middle(q);
        nf_model *m = model_of(q, theta);
        for (nf_direction d = NF_FORWARD; d <= NF_INVERSE; d++) {
            cr_assert(finite_everywhere(m, d, N, x, y, l, gx, g_theta));
            for (size_t group = 0; group < 2; group++) {
                double sum = 0, most = 0;
                for (size_t j = 0; j < q->bins; j++) {
                    sum += (double)g_theta[group * q->bins + j];
                    most += fabs((double)g_theta[group * q->bins + j]);
                }
                cr_assert_float_eq(sum, 0, 200 * rounding * (10 * q->box + most), "shape %zu: %g of %g", k, sum, most);
                cr_assert(q->bins == 1 || most > 0.1);
            }
        }
        nf_model_free(m);
    }
}

/* dy/dx and d log-det/dx against differences of the reference, which is not this code. */
Test(spline, derivatives_are_those_of_the_formula)
{
    enum { N = 67 };
    for (size_t k = 0; k < N_SHAPES; k++) {
        const nf_spline_options *q = &shapes[k];
        nf_real theta[3 * MOST_BINS + 1];
        draw(41 + k, count(q), 0.6, theta);
        const knots at = knots_of(q, theta);
        nf_model *m = model_of(q, theta);
        for (int i = 0; i < N; i++) {
            const nf_real x = (nf_real)(middle(q) + q->box * ((i + 0.29) / N * 2 - 1)), one = 1, none = 0;
            nf_real slope, curvature;
            const long double h = 1e-6L;
            long double up, down, middle;
            const long double by_y = (reference(&at, x + h, &up) - reference(&at, x - h, &down)) / (2 * h);
            reference(&at, x, &middle);
            cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_FORWARD, 1, &x, NULL, &one, &none, &slope, NULL, NULL),
                         NF_OK);
            cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_FORWARD, 1, &x, NULL, &none, &one, &curvature, NULL, NULL),
                         NF_OK);
            cr_assert_float_eq(slope, by_y, (1e-8 + 1000 * rounding) * (1 + fabsl(by_y)), "shape %zu at %g", k,
                               (double)x);
            if (fabsl((up - middle) - (middle - down)) < 1e-10) /* no knot between */
                cr_assert_float_eq(curvature, (up - down) / (2 * h), (1e-6 + 1e4 * rounding) * (1 + fabsl(by_y)) * 10,
                                   "shape %zu at %g: %.12g, not %.12Lg", k, (double)x, (double)curvature,
                                   (up - down) / (2 * h));
        }
        nf_model_free(m);
    }
}

/* ---- circular ---- */

Test(spline, a_circular_one_repeats)
{
    enum { N = 41 };
    const nf_spline_options *q = &shapes[3];
    nf_real theta[3 * MOST_BINS + 1], x[N], far[N], y[N], y_far[N];
    double l[N], l_far[N];
    draw(61, count(q), 0.7, theta);
    nf_model *m = model_of(q, theta);
    for (int i = 0; i < N; i++) {
        x[i] = (nf_real)(q->box * ((i + 0.31) / N * 2 - 1));
        far[i] = x[i] + (nf_real)(2 * q->box * (i % 7 - 3));
    }
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, N, x, NULL, y, l), NF_OK);
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, N, far, NULL, y_far, l_far), NF_OK);
    for (int i = 0; i < N; i++) {
        cr_expect_float_eq((double)y_far[i] - 2 * q->box * (i % 7 - 3), y[i], 300 * rounding * q->box);
        cr_expect_float_eq(l_far[i], l[i], 3000 * rounding);
        cr_expect_leq(fabs((double)y[i]), q->box);
    }
    nf_model_free(m);
}

/* ---- arguments ---- */

static void refused(size_t dim, nf_spline_options options, const char *named)
{
    cr_expect_null(nf_spline(dim, &options), "%s", named);
    cr_expect_eq(nf_error_status(), NF_EARG, "%s", named);
    cr_expect(strstr(nf_error_message(), named) != NULL, "'%s' does not name %s", nf_error_message(), named);
}

Test(spline, bad_arguments_are_named)
{
    refused(0, (nf_spline_options){.bins = 0}, "`dim`");
    refused(2, (nf_spline_options){.bins = SIZE_MAX / 2}, "`bins`");
    refused(2, (nf_spline_options){.box = -1}, "`box`");
    refused(2, (nf_spline_options){.box = NAN}, "`box`");
    refused(2, (nf_spline_options){.box = INFINITY}, "`box`");
    refused(2, (nf_spline_options){.bins = 10, .min_width = 0.1}, "`min_width`");
    refused(2, (nf_spline_options){.bins = 1000}, "`min_width`");
    refused(2, (nf_spline_options){.min_height = -1e-3}, "`min_height`");
    refused(2, (nf_spline_options){.bins = 3, .min_height = 0.34}, "`min_height`");
    refused(2, (nf_spline_options){.min_width = NAN}, "`min_width`");
    refused(2, (nf_spline_options){.min_slope = 1}, "`min_slope`");
    refused(2, (nf_spline_options){.min_slope = NAN}, "`min_slope`");
    refused(2, (nf_spline_options){.low = 1}, "`low`");
    refused(2, (nf_spline_options){.low = 2, .high = 1}, "`high`");
    refused(2, (nf_spline_options){.low = 1, .high = NAN}, "`high`");
    refused(2, (nf_spline_options){.low = -2e15, .high = 1}, "`low`");
    refused(2, (nf_spline_options){.low = 1, .high = nextafter(1, 2)}, "`high`");
    refused(2, (nf_spline_options){.high = 1, .box = 3}, "`box` is 3, but [0, 1] has half the size 0.5");
    refused(2, (nf_spline_options){.free_ends = true, .circular = true}, "`free_ends`");
    nf_flow *f = nf_spline(3, NULL); /* the defaults: 8 bins */
    cr_assert_not_null(f);
    cr_expect_eq(nf_flow_shape(f)->n_params, 3 * 23);
    nf_flow_free(f);
    f = nf_spline(3, &(nf_spline_options){.high = 1, .box = 0.5, .free_ends = true});
    cr_assert_not_null(f, "%s", nf_error_message());
    cr_expect_eq(nf_flow_shape(f)->n_params, 3 * 25); /* two more than the usual one */
    nf_flow_free(f);
}
