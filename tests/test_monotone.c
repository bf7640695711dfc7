/* Layers of a formula: the monotone solver on functions that are flat, steep, huge, bounded or not numbers; a formula
   of one's own; and what the conformance suite does not ask of sum-of-squares polynomials and monotone nets. */
#include "fail_step.h"
#include "math/gauss_legendre.h"
#include "object/tiles.h"
#include <criterion/criterion.h>
#include <gsl/gsl_integration.h>
#include <math.h>
#include <nflow/nflow.h>
#include <string.h>

#ifdef NF_SINGLE
#define NEXT nextafterf
static const double rounding = 1.2e-7, huge = 1e30, tiny = 1e-30, largest = 1e38;
enum { is_double = false };
#else
#define NEXT nextafter
static const double rounding = 2.3e-16, huge = 1e300, tiny = 1e-300, largest = 1e308;
enum { is_double = true };
#endif
enum { LD = 16 };

/* ---- the solver ---- */

typedef enum kind { LINE, CUBE, NINTH, SINH, STEEP, ROOT, JUMP, FLAT, LOG, TANH, SHIFTED, NAN_FAR } kind;
static const char *const kind_names[] = {"x",    "x^3", "x^9 in parts",   "sinh x", "a steep tanh", "cbrt x", "jump",
                                         "flat", "log", "tanh x bounded", "1 + x",  "NaN beyond 5"};

static double value(kind k, double x)
{
    switch (k) {
    case LINE:
        return x;
    case CUBE:
        return x * x * x;
    case NINTH: /* inf - inf is NaN where it overflows */
        return 2 * pow(x, 9) - (pow(x, 9) - x);
    case SINH:
        return sinh(x);
    case STEEP:
        return tanh(1e6 * (x - 0.731)) + 1e-3 * x;
    case ROOT:
        return cbrt(x);
    case JUMP:
        return x + (x > 0.3 ? 1 : 0);
    case FLAT: /* slope 1e-9 between -1 and 1 */
        return fabs(x) < 1 ? 1e-9 * x : copysign(1e-9 + (fabs(x) - 1), x);
    case LOG:
        return copysign(log1p(fabs(x)), x);
    case TANH:
        return tanh(x);
    case SHIFTED:
        return 1 + x;
    case NAN_FAR:
        return x < 5 ? x : NAN;
    }
    return 0;
}

typedef struct functions {
    const kind *k;       /* [LD] */
    double slope_factor; /* what the slopes are multiplied by */
    size_t evaluations;
} functions;

static nf_status evaluate(void *user, const nf_real *x, nf_real *y, nf_real *slope)
{
    functions *f = user;
    f->evaluations++;
    for (size_t s = 0; s < LD; s++) {
        const double at = (double)x[s], h = 1e-7 * fmax(fabs(at), 1e-3);
        y[s] = (nf_real)value(f->k[s], at);
        const double by_difference = (value(f->k[s], at + h) - value(f->k[s], at - h)) / (2 * h);
        slope[s] = (nf_real)(f->slope_factor * (f->k[s] == JUMP ? 1 : by_difference));
    }
    return NF_OK;
}

static size_t solve(const kind *k, double slope_factor, const nf_real *y, nf_real *x)
{
    functions f = {.k = k, .slope_factor = slope_factor};
    nf_arena scratch = {.n_chunks = 0};
    cr_assert_eq(nf_monotone_solve(LD, evaluate, &f, y, x, &scratch), NF_OK);
    cr_assert_eq(nfi_arena_used(&scratch), 0);
    nfi_arena_clear(&scratch);
    return f.evaluations;
}

static nf_real ulps(nf_real x, int n, double to)
{
    for (int i = 0; i < n; i++)
        x = NEXT(x, (nf_real)to);
    return x;
}

/* The function crosses y within some roundings of x and of y. */
static void check_root(kind k, double y, nf_real x)
{
    const double slack = 4 * rounding * fabs(y);
    cr_assert(isfinite(x), "%s = %g: %g", kind_names[k], y, (double)x);
    const double below = value(k, (double)ulps(x, 8, -INFINITY)), above = value(k, (double)ulps(x, 8, INFINITY));
    cr_assert(below <= y + slack && above >= y - slack, "%s = %.17g: %.17g gives %.17g to %.17g", kind_names[k], y,
              (double)x, below, above);
}

static const struct {
    kind k;
    double y;
} equations[] = {{LINE, 0},       {LINE, 2.385},  {LINE, -1e-3},   {LINE, 7.1e14},  {CUBE, 0},      {CUBE, 5.17},
                 {CUBE, -1e-18},  {CUBE, 8e29},   {NINTH, 0.271},  {NINTH, 3e20},   {NINTH, -1e-9}, {SINH, 0.0173},
                 {SINH, 1e25},    {SINH, -3.1},   {STEEP, 0},      {STEEP, 0.9994}, {STEEP, -7.3},  {ROOT, 0},
                 {ROOT, 1.31},    {ROOT, -0.004}, {JUMP, 0.3},     {JUMP, 0.7},     {JUMP, 2.1},    {FLAT, 0},
                 {FLAT, 3.7e-10}, {FLAT, -4.2},   {LOG, 0.3},      {LOG, 60},       {LOG, -1e-6},   {TANH, 0.5},
                 {TANH, -0.999},  {SHIFTED, 1},   {SHIFTED, 1.25}, {SHIFTED, -9e9}, {NAN_FAR, 4.9}, {NAN_FAR, -12}};
enum { N_EQUATIONS = sizeof equations / sizeof *equations };

/* Sixteen different equations at a time; slopes that are wrong only make it slower. */
static void solve_all(double slope_factor)
{
    for (size_t first = 0; first < N_EQUATIONS; first++) {
        kind k[LD];
        nf_real y[LD], x[LD];
        for (size_t s = 0; s < LD; s++) {
            k[s] = equations[(first + s) % N_EQUATIONS].k;
            y[s] = (nf_real)equations[(first + s) % N_EQUATIONS].y;
        }
        cr_assert_leq(solve(k, slope_factor, y, x), 140);
        for (size_t s = 0; s < LD; s++)
            check_root(k[s], (double)y[s], x[s]);
    }
}

Test(monotone, roots_of_every_sort)
{
    solve_all(1);
}

Test(monotone, slopes_need_not_be_right)
{
    solve_all(0.6);
    solve_all(17);
    solve_all(0);
    solve_all(-1);
    solve_all(NAN);
    solve_all(INFINITY);
}

Test(monotone, roots_at_the_ends_of_the_numbers)
{
    const double at[] = {0,        tiny,  -tiny, huge,    -huge,    1,   -1, 3 * tiny,
                         huge / 7, 1e-20, 1e20,  largest, -largest, 0.5, 2,  -3e5};
    kind k[LD];
    nf_real y[LD], x[LD];
    for (size_t s = 0; s < LD; s++) {
        k[s] = LINE;
        y[s] = (nf_real)at[s];
    }
    cr_assert_leq(solve(k, 1, y, x), 8);
    for (size_t s = 0; s < LD; s++)
        cr_assert_float_eq(x[s], y[s], 2 * rounding * fabs((double)y[s]), "%g came back as %g", (double)y[s],
                           (double)x[s]);
    for (size_t s = 0; s < LD; s++)
        k[s] = CUBE;
    cr_assert_leq(solve(k, 1, y, x), 140);
    for (size_t s = 0; s < LD; s++)
        check_root(CUBE, (double)y[s], x[s]);
}

Test(monotone, smooth_functions_need_few_evaluations)
{
    kind k[LD];
    nf_real y[LD], x[LD];
    for (size_t s = 0; s < LD; s++) {
        k[s] = s % 2 ? SINH : SHIFTED;
        y[s] = (nf_real)(0.3 * (double)s - 1.7);
    }
    const size_t evaluations = solve(k, 1, y, x);
    cr_assert_leq(evaluations, 10, "%zu evaluations", evaluations);
}

/* What has no root becomes NaN; its neighbours have the bits that they have without it. */
Test(monotone, failures_concern_one_sample)
{
    const kind odd[LD] = {TANH,    SINH, TANH, SINH, LINE, SINH, LINE, LINE,
                          NAN_FAR, SINH, SINH, SINH, SINH, SINH, SINH, SINH};
    kind even[LD];
    nf_real y[LD], z[LD], x[LD], alone[LD];
    for (size_t s = 0; s < LD; s++) {
        even[s] = SINH;
        y[s] = z[s] = (nf_real)(0.41 * (double)s - 2);
    }
    y[0] = 1.5;
    y[2] = NF_R(-1.0001);
    y[4] = (nf_real)NAN;
    y[6] = (nf_real)INFINITY;
    y[7] = -(nf_real)INFINITY;
    y[8] = 17;
    solve(odd, 1, y, x);
    solve(even, 1, z, alone);
    cr_assert(isnan(x[0]) && isnan(x[2]) && isnan(x[4]) && isnan(x[8]));
    cr_assert(isinf(x[6]) && x[6] > 0 && isinf(x[7]) && x[7] < 0);
    for (size_t s = 0; s < LD; s++)
        if (odd[s] == SINH)
            cr_assert(memcmp(&x[s], &alone[s], sizeof *x) == 0, "sample %zu is %.17g, alone %.17g", s, (double)x[s],
                      (double)alone[s]);
}

static nf_status refuse(void *user, const nf_real *x, nf_real *y, nf_real *slope)
{
    (void)user, (void)x, (void)y, (void)slope;
    return nf_error(NF_ENOTFINITE, "refused");
}

Test(monotone, errors_of_the_function_end_the_call)
{
    nf_arena scratch = {.n_chunks = 0};
    nf_real y[LD] = {0}, x[LD];
    cr_assert_eq(nf_monotone_solve(LD, refuse, NULL, y, x, &scratch), NF_ENOTFINITE);
    nfi_arena_clear(&scratch);
}

/* ---- quadrature ---- */

Test(monotone, gauss_legendre_is_exact_for_polynomials)
{
    static const size_t sizes[] = {1, 2, 3, 5, 8, 13, 32, 64, 256};
    nf_real t[256], w[256];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        nfi_gauss_legendre(sizes[i], t, w);
        for (size_t degree = 0; degree < 2 * sizes[i]; degree++) {
            double sum = 0;
            for (size_t k = 0; k < sizes[i]; k++) {
                cr_assert(t[k] > 0 && t[k] < 1 && w[k] > 0 && (k == 0 || t[k] > t[k - 1]));
                sum += (double)w[k] * pow((double)t[k], (double)degree);
            }
            cr_assert_float_eq(sum, 1 / ((double)degree + 1), 20 * rounding, "%zu nodes, degree %zu", sizes[i], degree);
        }
    }
}

/* ---- a formula of one's own: y = a tanh x, with and without an inverse in closed form ---- */

static nf_status tanh_forward(const nf_feature *f, const nf_real *x, nf_real *y, nf_real *log_slope)
{
    for (size_t s = 0; s < f->ld; s++) {
        const double a = exp((double)nf_feature_param(f, 0, s)), t = tanh((double)x[s]);
        y[s] = (nf_real)(a * t);
        log_slope[s] = (nf_real)(log(a) + log1p(-t * t));
    }
    return NF_OK;
}

static nf_status tanh_inverse(const nf_feature *f, const nf_real *y, nf_real *x, nf_real *log_slope)
{
    for (size_t s = 0; s < f->ld; s++) {
        const double a = exp((double)nf_feature_param(f, 0, s)), t = (double)y[s] / a;
        x[s] = (nf_real)atanh(t);
        log_slope[s] = (nf_real)(-log(a) - log1p(-t * t));
    }
    return NF_OK;
}

static nf_status tanh_vjp(const nf_feature *f, const nf_real *x, const nf_real *gy, const nf_real *g_l, nf_real *gx,
                          nf_real *g_theta)
{
    for (size_t s = 0; s < f->ld; s++) {
        const double a = exp((double)nf_feature_param(f, 0, s)), t = tanh((double)x[s]);
        gx[s] = (nf_real)((double)gy[s] * a * (1 - t * t) - 2 * t * (double)g_l[s]);
        if (g_theta)
            g_theta[s] = (nf_real)((double)gy[s] * a * t + (double)g_l[s]);
    }
    return NF_OK;
}

static const nf_formula closed = {
    .abi = sizeof(nf_formula), .forward = tanh_forward, .vjp = tanh_vjp, .inverse = tanh_inverse};
static const nf_formula iterated = {.abi = sizeof(nf_formula), .forward = tanh_forward, .vjp = tanh_vjp};
static const nf_flow_type tanh_type = {NF_FORMULA_HOOKS, .part.name = "test_tanh"};

static nf_model *tanh_model(size_t dim, const nf_formula *formula, nf_real *theta)
{
    const nf_shape own = {.dim_in = dim, .n_params = dim, .flags = NF_PER_SAMPLE};
    nf_model *m = nf_model_of_flow(nf_formula_flow(&tanh_type, formula, &own, NULL, 0, NULL, 0),
                                   &(nf_model_options){.theta = theta});
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

Test(monotone, an_iterated_inverse_is_that_in_closed_form)
{
    enum { N = 37 };
    nf_real theta[2] = {NF_R(0.21), NF_R(-0.4)}, y[N * 2], gx[N * 2], x[2][N * 2], g[2][N * 2], g_theta[2][2] = {{0}};
    double l[2][N];
    nf_real g_l[N];
    for (size_t i = 0; i < N * 2; i++) {
        y[i] = (nf_real)(0.6 * sin(1.3 * (double)i));
        gx[i] = (nf_real)cos(2.9 * (double)i);
        g_l[i % N] = (nf_real)sin(0.7 * (double)i);
    }
    for (int k = 0; k < 2; k++) {
        nf_model *m = tanh_model(2, k ? &iterated : &closed, theta);
        cr_assert_eq(nf_transform(m, NULL, NULL, NF_INVERSE, N, y, NULL, x[k], l[k]), NF_OK);
        cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_INVERSE, N, y, NULL, gx, g_l, g[k], NULL, g_theta[k]), NF_OK);
        nf_model_free(m);
    }
    for (size_t i = 0; i < N * 2; i++) {
        cr_assert_float_eq(x[0][i], x[1][i], 100 * rounding);
        cr_assert_float_eq(g[0][i], g[1][i], 1000 * rounding);
        cr_assert_float_eq(l[0][i / 2], l[1][i / 2], 100 * rounding);
    }
    for (int i = 0; i < 2; i++)
        cr_assert_float_eq(g_theta[0][i], g_theta[1][i], 1e4 * rounding);
}

/* A number beyond the image has no preimage: its row is NaN throughout and is counted, the others have their bits. */
Test(monotone, a_sample_without_an_inverse_is_nan)
{
    enum { N = 21 };
    nf_real theta[2] = {0, 0}, y[N * 2], x[N * 2], good[N * 2];
    double l[N], l_good[N];
    nf_model *m = tanh_model(2, &iterated, theta);
    nf_workspace *ws = nf_workspace_new(1);
    for (size_t i = 0; i < N * 2; i++)
        y[i] = (nf_real)(0.9 * sin(1.7 * (double)i));
    cr_assert_eq(nf_transform(m, ws, NULL, NF_INVERSE, N, y, NULL, good, l_good), NF_OK);
    cr_assert_eq(nf_workspace_failed(ws), 0);
    y[2 * 5 + 1] = NF_R(1.25);
    y[2 * 20] = NF_R(-1.3);
    cr_assert_eq(nf_transform(m, ws, NULL, NF_INVERSE, N, y, NULL, x, l), NF_OK);
    cr_assert_eq(nf_workspace_failed(ws), 2);
    for (size_t i = 0; i < N; i++) {
        const bool bad = i == 5 || i == 20;
        cr_assert(bad ? isnan(x[2 * i]) && isnan(x[2 * i + 1]) && isnan(l[i])
                      : x[2 * i] == good[2 * i] && x[2 * i + 1] == good[2 * i + 1] && l[i] == l_good[i],
                  "sample %zu", i);
    }
    nf_workspace_free(ws);
    nf_model_free(m);
}

static nf_status slope_is_nan(const nf_feature *f, const nf_real *x, nf_real *y, nf_real *log_slope)
{
    for (size_t s = 0; s < f->ld; s++) {
        y[s] = x[s];
        log_slope[s] = x[s] > 1 ? (nf_real)NAN : 0;
    }
    return NF_OK;
}

/* On the tile itself, before a batch call makes the whole row NaN. */
Test(monotone, a_slope_that_is_nan_makes_nan_of_the_number)
{
    const nf_formula formula = {.abi = sizeof(nf_formula), .forward = slope_is_nan, .vjp = tanh_vjp};
    nf_real theta = 0, x[LD] = {0}, y[LD];
    double l[LD] = {0};
    nf_arena scratch = {.n_chunks = 0};
    nf_model *m = tanh_model(1, &formula, &theta);
    const nf_pass p = {.n = LD, .ld = LD, .theta = &theta, .scratch = &scratch};
    x[3] = NF_R(1.5);
    cr_assert_eq(nf_flow_apply(nf_model_object(m), NF_FORWARD, &p, x, y, l, NULL), NF_OK);
    for (size_t s = 0; s < LD; s++)
        cr_assert(s == 3 ? isnan(y[s]) && isnan(l[s]) : y[s] == 0 && l[s] == 0);
    nfi_arena_clear(&scratch);
    nf_model_free(m);
}

static nf_flow *with(const nf_flow_type *type, const nf_formula *formula, size_t dim, size_t n_params, size_t n_ctx)
{
    return nf_formula_flow(type, formula, &(nf_shape){.dim_in = dim, .n_params = n_params, .n_ctx = n_ctx}, NULL, 0,
                           NULL, 0);
}

Test(monotone, constructors_refuse)
{
    nf_formula lacking = closed, large = closed;
    lacking.vjp = NULL;
    large.abi += sizeof(void *);
    cr_assert(!with(NULL, &closed, 1, 1, 0) && nf_error_status() == NF_EARG);
    cr_assert(!with(&tanh_type, NULL, 1, 1, 0) && nf_error_status() == NF_EARG);
    cr_assert(!with(&tanh_type, &lacking, 1, 1, 0) && nf_error_status() == NF_EARG);
    cr_assert(!with(&tanh_type, &large, 1, 1, 0) && nf_error_status() == NF_EARG);
    cr_assert(!with(&tanh_type, &closed, 0, 0, 0) && nf_error_status() == NF_EARG);
    cr_assert(!with(&tanh_type, &closed, 2, 3, 0) && nf_error_status() == NF_EARG);
    cr_assert(!with(&tanh_type, &closed, 2, 2, 3) && nf_error_status() == NF_EARG);
    cr_assert(!nf_sos_polynomial(0, NULL) && nf_error_status() == NF_EARG);
    cr_assert(!nf_sos_polynomial(2, &(nf_sos_polynomial_options){.degree = 32}) && nf_error_status() == NF_EARG);
    cr_assert(!nf_sos_polynomial(2, &(nf_sos_polynomial_options){.box = -1}) && nf_error_status() == NF_EARG);
    cr_assert(!nf_sos_polynomial(2, &(nf_sos_polynomial_options){.box = NAN}) && nf_error_status() == NF_EARG);
    cr_assert(!nf_sos_polynomial(2, &(nf_sos_polynomial_options){.min_slope = 1e-9}) && nf_error_status() == NF_EARG);
    cr_assert(!nf_sos_polynomial(2, &(nf_sos_polynomial_options){.polynomials = SIZE_MAX}));
    cr_assert(!nf_sos_polynomial(SIZE_MAX, NULL) && nf_error_status() == NF_EARG);
    cr_assert(!nf_monotone_net(0, nf_mlp(1, 1, 0, NULL), NULL) && nf_error_status() == NF_EARG);
    cr_assert(!nf_monotone_net(2, nf_mlp(2, 1, 0, NULL), NULL) && nf_error_status() == NF_EDIM);
    cr_assert(!nf_monotone_net(2, nf_mlp(1, 2, 0, NULL), NULL) && nf_error_status() == NF_EDIM);
    cr_assert(!nf_monotone_net(2, nf_mlp(1, 1, 0, NULL), &(nf_monotone_net_options){.nodes = 257}));
    cr_assert(!nf_monotone_net(2, nf_mlp(1, 1, 0, NULL), &(nf_monotone_net_options){.min_slope = 0.7}));
    cr_assert(!nf_monotone_net(2, nf_mlp(1, 0, 0, NULL), NULL) && nf_error_status() == NF_EARG,
              "the net's own message");
}

/* ---- sum-of-squares polynomials ---- */

enum { K = 2, N_A = 4 };

/* The integral of g(t / B) from 0 to x, by the powers of the squares; g(x / B). */
static double by_powers(const double *a, double box, double min_slope, double x, double *g)
{
    double sum = min_slope * x;
    *g = min_slope;
    for (int k = 0; k < K; k++)
        for (int i = 0; i < N_A; i++)
            for (int j = 0; j < N_A; j++) {
                const double ai = a[k * N_A + i] + (i == 0), aj = a[k * N_A + j] + (j == 0);
                sum += ai * aj / K * pow(x / box, i + j) * x / (i + j + 1);
                *g += ai * aj / K * pow(x / box, i + j);
            }
    return sum;
}

Test(monotone, sos_is_the_integral_of_squares)
{
    const nf_sos_polynomial_options options = {.polynomials = K, .degree = N_A - 1, .box = 2.5, .min_slope = 0.0173};
    const double a[K * N_A] = {-0.31, 0.75, -1.25, 0.5, 0.625, -0.875, 0.25, 1.125}, c = -0.375;
    const double at[] = {0, 1.73, -0.417, 2.375, -2.5, 2.5, 3.125, -47.5};
    nf_real theta[K * N_A + 1];
    for (int i = 0; i < K * N_A; i++)
        theta[i] = (nf_real)a[i];
    theta[K * N_A] = (nf_real)c;
    nf_model *m = nf_model_of_flow(nf_sos_polynomial(1, &options), &(nf_model_options){.theta = theta});
    cr_assert_not_null(m);
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        const double inside = fmin(fmax(at[i], -2.5), 2.5);
        nf_real x = (nf_real)at[i], y;
        double g, l, expected = c + by_powers(a, 2.5, 0.0173, inside, &g);
        expected += (at[i] - inside) * g; /* the tails are straight */
        cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 1, &x, NULL, &y, &l), NF_OK);
        cr_assert_float_eq(y, expected, 30 * rounding * (1 + fabs(expected)), "at %g", at[i]);
        cr_assert_float_eq(l, log(g), 100 * rounding * (1 + fabs(log(g))), "at %g", at[i]);
    }
    nf_model_free(m);
}

Test(monotone, sos_starts_near_the_identity)
{
    nf_model *m = nf_model_of_flow(nf_sos_polynomial(3, NULL), &(nf_model_options){.seed = 5});
    nf_real x[3] = {NF_R(-1.7), NF_R(0.3), NF_R(2.4)}, y[3];
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 1, x, NULL, y, NULL), NF_OK);
    const size_t each = nf_model_shape(m)->n_params / 3;
    for (size_t i = 0; i < 3; i++) {
        cr_assert_float_eq(y[i], x[i], 0.15 * fabs((double)x[i]));
        cr_assert_neq(nf_model_theta(m)[i * each], nf_model_theta(m)[i * each + 5]); /* two polynomials differ */
    }
    nf_model_free(m);
}

/* ---- infinite and NaN numbers ---- */

static void check_not_numbers(nf_flow *flow)
{
    enum { N = 5 };
    nf_model *m = nf_model_of_flow(flow, &(nf_model_options){.seed = 3});
    cr_assert_not_null(m, "%s", nf_error_message());
    nf_real x[N] = {NF_R(0.7), (nf_real)INFINITY, (nf_real)NAN, -(nf_real)INFINITY, NF_R(-0.4)}, y[N];
    double l[N];
    for (nf_direction d = NF_FORWARD; d <= NF_INVERSE; d++) {
        cr_assert_eq(nf_transform(m, NULL, NULL, d, N, x, NULL, y, l), NF_OK);
        cr_assert(isfinite(y[0]) && isfinite(y[4]) && isfinite(l[0]) && isfinite(l[4]));
        cr_assert(isinf(y[1]) && y[1] > 0 && isinf(y[3]) && y[3] < 0 && isfinite(l[1]) && isfinite(l[3]));
        cr_assert(isnan(y[2]) && isnan(l[2]));
    }
    nf_model_free(m);
}

static nf_net *small_net(void)
{
    return nf_mlp(1, 1, 0, &(nf_mlp_options){.hidden = (size_t[]){6}, .n_hidden = 1, .activation = NF_TANH});
}

Test(monotone, infinite_numbers_stay_infinite_and_nan_is_nan)
{
    check_not_numbers(nf_sos_polynomial(1, NULL));
    check_not_numbers(nf_monotone_net(1, small_net(), NULL));
}

/* ---- monotone nets ---- */

typedef struct integrand {
    nf_model *net;
    double min_slope;
} integrand;

static double integrand_at(double t, void *user)
{
    const integrand *f = user;
    nf_real x = (nf_real)t, z;
    cr_assert_eq(nf_evaluate(f->net, NULL, NULL, 1, &x, NULL, &z), NF_OK);
    return log1p(exp((double)z)) + f->min_slope;
}

/* With many nodes it is the integral, and its slope is the integrand. */
Test(monotone, a_monotone_net_is_the_integral_of_its_net)
{
    nf_model *net = nf_model_of_net(small_net(), &(nf_model_options){.seed = 11});
    nf_model *m = nf_model_of_flow(nf_monotone_net(1, small_net(), &(nf_monotone_net_options){.min_slope = 0.0137}),
                                   &(nf_model_options){.theta = nf_model_theta(net)});
    cr_assert(net && m);
    integrand f = {net, 0.0137};
    gsl_integration_workspace *w = gsl_integration_workspace_alloc(200);
    for (double at = -3.3; at < 4; at += 1.1) {
        nf_real x = (nf_real)at, y;
        double l, expected, error;
        cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 1, &x, NULL, &y, &l), NF_OK);
        gsl_integration_qags(&(gsl_function){integrand_at, &f}, 0, (double)x, is_double ? 1e-12 : 1e-5, 1e-6, 200, w,
                             &expected, &error);
        cr_assert_float_eq(y, expected, is_double ? 1e-10 : 1e-4, "at %g", at);
        cr_assert_float_eq(l, log(integrand_at((double)x, &f)), is_double ? 1e-9 : 1e-4, "at %g", at);
    }
    gsl_integration_workspace_free(w);
    nf_model_free(m);
    nf_model_free(net);
}

/* With few nodes the log-det is not log f(x), but that of the sum: differences agree with it. */
Test(monotone, the_log_det_is_that_of_the_quadrature)
{
    nf_model *net = nf_model_of_net(small_net(), &(nf_model_options){.seed = 11});
    for (size_t i = 0; i < nf_model_shape(net)->n_params; i++)
        nf_model_theta(net)[i] *= NF_R(2.3);
    nf_model *m = nf_model_of_flow(nf_monotone_net(1, small_net(), &(nf_monotone_net_options){.nodes = 3}),
                                   &(nf_model_options){.theta = nf_model_theta(net)});
    integrand f = {net, 1e-3};
    double most = 0;
    for (double at = -2.1; at < 2; at += 0.6) {
        const double h = is_double ? 1e-5 : 2e-2;
        nf_real x[3] = {(nf_real)(at - h), (nf_real)at, (nf_real)(at + h)}, y[3];
        double l[3];
        cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 3, x, NULL, y, l), NF_OK);
        cr_assert_float_eq(exp(l[1]), ((double)y[2] - (double)y[0]) / ((double)x[2] - (double)x[0]),
                           is_double ? 1e-8 : 1e-2, "at %g: %.12g, by differences %.12g", at, exp(l[1]),
                           ((double)y[2] - (double)y[0]) / ((double)x[2] - (double)x[0]));
        most = fmax(most, fabs(exp(l[1]) - integrand_at(at, &f)));
    }
    cr_assert_gt(most, 1e-3, "three nodes should not be enough here: the slope differs from f by %g", most);
    nf_model_free(m);
    nf_model_free(net);
}

/* One node for softplus(-10 t): x softplus(-5 x) decreases behind 0.2. There is no log-det, and the sample says so. */
Test(monotone, a_quadrature_that_decreases_is_nan)
{
    nf_real theta[2] = {-10, 0}, x[2] = {NF_R(-0.5), NF_R(1.5)}, y[2];
    double l[2];
    nf_model *m = nf_model_of_flow(nf_monotone_net(1, nf_mlp(1, 1, 0, NULL), &(nf_monotone_net_options){.nodes = 1}),
                                   &(nf_model_options){.theta = theta});
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 2, x, NULL, y, l), NF_OK);
    cr_assert(isfinite(y[0]) && isfinite(l[0]) && isnan(y[1]) && isnan(l[1]), "%g %g", (double)y[1], l[1]);
    nf_model_free(m);
}

/* Where the context begins at 0 and the net's last weights are small, the layer is near the identity. */
Test(monotone, a_monotone_net_starts_with_a_slope_of_1)
{
    nf_net *net = nf_mlp(1, 1, 2, &(nf_mlp_options){.hidden = (size_t[]){6}, .n_hidden = 1, .last_scale = -1});
    nf_model *m = nf_model_of_flow(nf_monotone_net(2, net, NULL), &(nf_model_options){.seed = 2});
    nf_real x[2] = {NF_R(-1.7), NF_R(2.4)}, ctx[6] = {NF_R(0.25), 0, 0, NF_R(-0.5), 1, 2}, y[2];
    double l;
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 1, x, ctx, y, &l), NF_OK);
    cr_assert_float_eq(y[0], (double)x[0] + 0.25, 20 * rounding);
    cr_assert_float_eq(y[1], (double)x[1] - 0.5, 20 * rounding);
    cr_assert_float_eq(l, 0, 20 * rounding);
    nf_model_free(m);
}

/* Units that training drops are not dropped here: both modes have one function. */
Test(monotone, dropout_is_not_used)
{
    nf_net *net = nf_mlp(1, 1, 0, &(nf_mlp_options){.hidden = (size_t[]){8}, .n_hidden = 1, .dropout = 0.5});
    nf_model *m =
        nf_model_of_dist(nf_pushforward(nf_normal(1), nf_monotone_net(1, net, &(nf_monotone_net_options){.nodes = 6})),
                         &(nf_model_options){.seed = 4});
    nf_real x[6] = {NF_R(-1.7), NF_R(0.3), NF_R(2.4), NF_R(-0.6), 0, NF_R(1.1)}, g[64];
    nf_objective *o = nf_maximum_likelihood(m, &(nf_data){.n = 6, .dim = 1, .x = x}, NULL);
    nf_step_report evaluated, trained;
    cr_assert_not_null(o, "%s", nf_error_message());
    cr_assert_leq(nf_model_shape(m)->n_params, 64);
    cr_assert_eq(nf_objective_value(o, NULL, 9, 0, &evaluated), NF_OK);
    cr_assert_eq(nf_objective_gradient(o, NULL, 9, 0, &trained, g), NF_OK);
    cr_assert_float_eq(evaluated.loss, trained.loss, 20 * rounding);
    nf_objective_free(o);
    nf_model_free(m);
}

/* Each piece of memory of a step in both directions fails in turn: NF_ENOMEM, and nothing is left on the arenas. */
Test(monotone, memory_that_is_not_to_be_had)
{
    nf_real x[20], g[200];
    for (size_t i = 0; i < 20; i++)
        x[i] = (nf_real)sin(1.7 * (double)i);
    nf_net *net = nf_mlp(1, 1, 2, &(nf_mlp_options){.hidden = (size_t[]){4}, .n_hidden = 1, .activation = NF_TANH});
    nf_flow *f = nf_chain((nf_flow *[]){nf_sos_polynomial(2, NULL), nf_invert(nf_sos_polynomial(2, NULL)),
                                        nf_context_net(nf_monotone_net(2, net, &(nf_monotone_net_options){.nodes = 5}),
                                                       nf_mlp(1, 6, 0, NULL))},
                          3);
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(2), f), &(nf_model_options){.seed = 8});
    cr_assert_not_null(m, "%s", nf_error_message());
    cr_assert_leq(nf_model_shape(m)->n_params, 200);
    const nf_data data = {.n = 10, .dim = 2, .x = x, .n_ctx = 1, .ctx = x};
    cr_assert_gt(fail_each_of_a_step(fail_arena_once, likelihood_of, m, &data, g), 20);
    cr_assert_gt(fail_each_of_a_step(fail_alloc_once, likelihood_of, m, &data, g), 2);
    nf_model_free(m);
}

Test(monotone, constructors_without_memory)
{
    for (size_t k = 0;; k++) {
        const size_t before = alloc_live();
        fail_alloc_once(k);
        nf_flow *f = nf_chain((nf_flow *[]){nf_sos_polynomial(2, NULL), nf_monotone_net(2, small_net(), NULL)}, 2);
        const bool failed = fail_alloc_off();
        cr_assert_eq(f == NULL, failed);
        nf_flow_free(f);
        cr_assert_eq(alloc_live(), before);
        if (!failed)
            break;
    }
}
