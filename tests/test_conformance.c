/* The conformance suite: every layer of tests/conformance/rows.h, in every dimension and guise, both directions, both
   precisions, against what the mathematics says of any flow. */
#include "conformance/subject.h"
#include "core/model.h"
#include <criterion/parameterized.h>
#include <gsl/gsl_blas.h>
#include <gsl/gsl_integration.h>
#include <gsl/gsl_linalg.h>
#include <unistd.h>

#ifdef NF_SINGLE
static const double rounding = 1.2e-7, huge = 1e15, tiny = 1e-30;
enum { is_double = false };
#else
static const double rounding = 2.3e-16, huge = 1e15, tiny = 1e-250;
enum { is_double = true };
#endif

/* What is promised: errors of round trips and of log-dets, absolute for numbers below 1 and relative above. The tests
   ask for rounding times a number that suits the property, and never for less than the promise. */
static const double promised_round_trip = is_double ? 1e-10 : 1e-4, promised_log_det = is_double ? 1e-9 : 1e-4;

/* Every test is a process of its own, so the cases are counted in a file, a line "row cases" a test. */
#define COUNTS "/tmp/nflow-conformance-%ld"
static FILE *counts(pid_t suite, const char *mode, char path[64])
{
    snprintf(path, 64, COUNTS, (long)suite);
    return fopen(path, mode);
}

static size_t n_skipped; /* cases that this test has left out */

static void count_cases(size_t index, size_t cases)
{
    char path[64];
    FILE *f = counts(getppid(), "a", path);
    cr_assert_not_null(f);
    fprintf(f, "%zu %zu\n", index, cases);
    fclose(f);
}

ReportHook(PRE_ALL)(struct criterion_test_set *tests)
{
    (void)tests;
    char path[64];
    snprintf(path, sizeof path, COUNTS, (long)getpid());
    remove(path);
}

ReportHook(POST_ALL)(struct criterion_global_stats *stats)
{
    (void)stats;
    char path[64];
    size_t of_row[N_ROWS] = {0}, total = 0, index, cases;
    FILE *f = counts(getpid(), "r", path);
    while (f && fscanf(f, "%zu %zu", &index, &cases) == 2 && index < N_ROWS) {
        of_row[index] += cases;
        total += cases;
    }
    if (f) {
        fclose(f);
        remove(path);
    }
    for (size_t i = 0; i < N_ROWS; i++)
        printf("conformance: %s: %zu cases\n", rows[i].name, of_row[i]);
    printf("conformance: %zu cases in all, of %d rows, in %s\n", total, N_ROWS, is_double ? "double" : "float");
}

/* The rows, or those whose names contain $NFLOW_TEST_ROWS, are dealt out to tests, each a process of its own: one a
   row, or a few where sanitizers make processes dear. */
enum { SHARES = NFLOW_THIN ? 8 : N_ROWS };

static bool is_chosen(size_t row)
{
    const char *part = getenv("NFLOW_TEST_ROWS");
    return !part || strstr(rows[row].name, part);
}

static struct criterion_test_params shares(void)
{
    static size_t share[SHARES];
    size_t n = 0;
    for (size_t i = 0; i < SHARES; i++) {
        size_t k = i;
        while (k < N_ROWS && !is_chosen(k))
            k += SHARES;
        if (k < N_ROWS)
            share[n++] = i;
    }
    return cr_make_param_array(size_t, share, n);
}

static void run_share(size_t share, size_t most_dims, size_t points, visit_fn *property)
{
    for (size_t k = share; k < N_ROWS; k += SHARES) {
        n_skipped = 0;
        if (is_chosen(k)) {
            const size_t cases = for_subjects(k, most_dims, points, property);
            count_cases(k, cases - n_skipped);
        }
    }
}

/* The tests of a property. */
#define PROPERTY(property, most_dims, points)               \
    ParameterizedTestParameters(conformance, property)      \
    {                                                       \
        return shares();                                    \
    }                                                       \
    ParameterizedTest(size_t *share, conformance, property) \
    {                                                       \
        run_share(*share, most_dims, points, property);     \
    }

static double dot(size_t n, const nf_real *a, const nf_real *b)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* J [n x out x in], row i the VJP of e_i. */
static double *dense_jacobian(const subject *s, nf_direction d)
{
    const size_t n = s->n, in = s->rows[d], out = rows_out(s, d);
    double *J = calloc(n * out * in, sizeof *J);
    nf_real *e = reals(n * out), *row = reals(n * in);
    for (size_t i = 0; i < out; i++) {
        for (size_t k = 0; k < n * out; k++)
            e[k] = k % out == i;
        run_vjp(s, d, e, NULL, row, NULL, NULL);
        for (size_t k = 0; k < n * in; k++)
            J[(k / in * out + i) * in + k % in] = (double)row[k];
    }
    free(e);
    free(row);
    return J;
}

static double lu_log_det(double *J, size_t dim)
{
    gsl_matrix_view A = gsl_matrix_view_array(J, dim, dim);
    gsl_permutation *p = gsl_permutation_alloc(dim);
    int sign;
    gsl_linalg_LU_decomp(&A.matrix, p, &sign);
    gsl_permutation_free(p);
    return gsl_linalg_LU_lndet(&A.matrix);
}

/* C = A B, [n x k] by [k x m] */
static void multiply(size_t n, size_t k, size_t m, const double *A, const double *B, double *C)
{
    gsl_matrix_const_view a = gsl_matrix_const_view_array(A, n, k), b = gsl_matrix_const_view_array(B, k, m);
    gsl_matrix_view c = gsl_matrix_view_array(C, n, m);
    gsl_blas_dgemm(CblasNoTrans, CblasNoTrans, 1, &a.matrix, &b.matrix, 0, &c.matrix);
}

/* log|det| of the forward Jacobian J [out x in] in the row's chart. */
static double chart_log_det(const subject *s, const double *J)
{
    const size_t in = s->rows[NF_FORWARD], out = s->rows[NF_INVERSE];
    double *C = calloc(in * out, sizeof *C), *CJ = calloc(in * in, sizeof *CJ);
    s->chart->coordinates(in, out, C);
    multiply(in, out, in, C, J, CJ);
    const double log_det = lu_log_det(CJ, in);
    free(C), free(CJ);
    return log_det;
}

/* The log-dets of dense Jacobians J [n x out x in] at the subject's points; J is overwritten. Where dimensions differ
   the inverse's is that of the forward map at the preimage, whose Jacobian it must undo. */
static double *dense_log_dets(const subject *s, nf_direction d, double *J, double within)
{
    const size_t in = s->rows[d], out = rows_out(s, d);
    const bool charted = s->chart && s->chart->coordinates;
    double *l = calloc(s->n, sizeof *l), *forward = charted ? dense_jacobian(s, NF_FORWARD) : NULL;
    double *product = calloc(out * out, sizeof *product);
    for (size_t i = 0; i < s->n; i++) {
        l[i] = charted ? chart_log_det(s, forward + i * in * out) : lu_log_det(J + i * in * out, in);
        if (!charted || d == NF_FORWARD)
            continue;
        l[i] = -l[i];
        multiply(out, in, out, J + i * out * in, forward + i * in * out, product);
        for (size_t k = 0; k < out * out; k++)
            cr_assert_float_eq(product[k], k / out == k % out, within, "%s: the Jacobians' product at %zu, %zu is %g",
                               title(s, d), k / out, k % out, product[k]);
    }
    free(forward), free(product);
    return l;
}

/* Float's differences need steps so wide that they meet the kinks of a rough layer, or leave the set of a constraint.
   Its gradients are tested by differences in double, and in float against double (test_precision). */
static bool kinks_in_reach(const subject *s, nf_direction d)
{
    return (s->row->rough || (s->chart && d == NF_INVERSE)) && !is_double;
}

/* ---- round trip ---- */

static void round_trip(const subject *s, nf_direction d)
{
    const size_t size = s->n * s->rows[d];
    const nf_direction back = d == NF_FORWARD ? NF_INVERSE : NF_FORWARD;
    nf_real *y = reals(s->n * rows_out(s, d)), *x = reals(size);
    double *l = calloc(s->n, sizeof *l), *l_back = calloc(s->n, sizeof *l);
    run(s, d, s->n, s->x[d], s->ctx, y, l);
    run(s, back, s->n, y, s->ctx, x, l_back);
    /* An error of rounding in y is magnified by J^-1, whose norm is at most |det|^-1/dim times a modest number here. */
    const double tolerance = fmin(3000 * rounding * s->row->slack, promised_round_trip);
    for (size_t i = 0; i < size; i++)
        cr_assert_float_eq(x[i], s->x[d][i], tolerance * (1 + fabs((double)s->x[d][i])), "%s: %.17g came back as %.17g",
                           title(s, d), (double)s->x[d][i], (double)x[i]);
    for (size_t i = 0; i < s->n; i++)
        cr_assert_float_eq(l[i], -l_back[i], tolerance * (1 + fabs(l[i])), "%s: log-dets %.17g and %.17g", title(s, d),
                           l[i], l_back[i]);
    if (nf_model_shape(s->m)->flags & NF_VOLUME_PRESERVING)
        for (size_t i = 0; i < s->n; i++)
            cr_assert_float_eq(l[i], 0, 0, "%s claims to preserve volumes", title(s, d));
    free(x), free(y), free(l), free(l_back);
}
PROPERTY(round_trip, 64, 37)

/* ---- the log-det is that of the dense Jacobian, and the Jacobian that of the map ---- */

static void jacobian(const subject *s, nf_direction d)
{
    const size_t n = s->n, in = s->rows[d], out = rows_out(s, d), size = n * out;
    double *J = dense_jacobian(s, d), *l = calloc(n, sizeof *l);
    nf_real *y = reals(size), *x = reals(n * in);
    const double h = !is_double ? 0.05 : s->row->rough || s->chart ? 2e-5 : 2e-3; /* small steps seldom meet a kink */
    const double tolerance = (!is_double ? 1e-3 : s->row->rough ? 1e-8 : 1e-9) * s->row->slack;
    for (size_t j = 0; j < in && !kinks_in_reach(s, d); j++) {
        double *by[2]; /* five-point differences of steps h and h / 2: what they disagree by bounds their errors */
        for (int half = 0; half < 2; half++) {
            static const double at[4] = {-2, -1, 1, 2}, weight[4] = {1, -8, 8, -1};
            by[half] = calloc(size, sizeof *by[half]);
            for (int k = 0; k < 4; k++) {
                for (size_t i = 0; i < n * in; i++)
                    x[i] = s->x[d][i] + (i % in == j ? (nf_real)(at[k] * h / (1 + half)) : 0);
                run(s, d, n, x, s->ctx, y, NULL);
                for (size_t i = 0; i < size; i++)
                    by[half][i] += weight[k] * (double)y[i] / (12 * h / (1 + half));
            }
        }
        for (size_t i = 0; i < size; i++) {
            const double exact = J[i * in + j], spread = fabs(by[1][i] - by[0][i]);
            cr_assert_float_eq(exact, by[1][i], tolerance * (1 + fabs(exact)) + spread / 4,
                               "%s: dy%zu/dx%zu is %.12g, by differences %.12g", title(s, d), i % out, j, exact,
                               by[1][i]);
        }
        free(by[0]), free(by[1]);
    }
    run(s, d, n, s->x[d], s->ctx, y, l);
    const double error = fmin(300 * rounding * (double)s->rows[NF_FORWARD] * s->row->slack, promised_log_det);
    double *dense = dense_log_dets(s, d, J, error);
    for (size_t i = 0; i < n; i++)
        cr_assert_float_eq(l[i], dense[i], error * (1 + fabs(dense[i])),
                           "%s: log-det %.17g, of the dense Jacobian %.17g", title(s, d), l[i], dense[i]);
    free(x), free(y), free(J), free(l), free(dense);
}
PROPERTY(jacobian, MOST_DIMS_OF_DERIVATIVES, 3)

/* ---- Taylor: L(v + h e) - L(v) - h <gradient, e> = O(h^2) for L = <gy, y> + <g_l, log-det> ---- */

typedef struct loss {
    const subject *s;
    nf_direction d;
    const nf_real *gy, *g_l;
} loss;

static double loss_at(const loss *L)
{
    const subject *s = L->s;
    const size_t size = s->n * rows_out(s, L->d);
    nf_real *y = reals(size);
    double *l = calloc(s->n, sizeof *l), sum = 0;
    run(s, L->d, s->n, s->x[L->d], s->ctx, y, l);
    sum = dot(size, L->gy, y);
    for (size_t i = 0; i < s->n; i++)
        sum += (double)L->g_l[i] * l[i];
    free(y), free(l);
    return sum;
}

/* In double the remainder's slope is 2 (or the remainder is rounding: L is linear here). In float rounding hides the
   remainder, so the derivative itself is compared. */
static void taylor_along(const loss *L, const char *what, size_t size, nf_real *v, const nf_real *gradient)
{
    enum { STEPS = 4 };
    nf_real *base = reals(size), *e = normals(53, size, 1);
    const double norm = sqrt(dot(size, e, e)), slope = dot(size, gradient, e) / norm;
    const double h0 = !is_double ? 2e-2 : L->s->chart && L->d == NF_INVERSE ? 1e-4 : 1e-3; /* within the set */
    double value[2 * STEPS + 1] = {0}, scale = 0;
    memcpy(base, v, size * sizeof *v);
    for (int k = 0; k <= 2 * STEPS; k++) {
        const double h = k == 0 ? 0 : (k <= STEPS ? h0 : -h0) / (double)(1 << ((k - 1) % STEPS));
        for (size_t i = 0; i < size; i++)
            v[i] = (nf_real)((double)base[i] + h * (double)e[i] / norm);
        cr_assert_eq(nf_model_update(L->s->m, NF_EVAL), NF_OK);
        value[k] = loss_at(L);
        scale = fmax(scale, fabs(value[k]));
    }
    memcpy(v, base, size * sizeof *v);
    cr_assert_eq(nf_model_update(L->s->m, NF_EVAL), NF_OK);
    /* central differences of two steps: what they disagree by bounds the finer one's error */
    const int fine = is_double ? STEPS : 2;
    const double noise = 10 * rounding * (scale + 10 * sqrt((double)(L->s->n * rows_out(L->s, L->d))));
    const double wide = (value[1] - value[1 + STEPS]) / (2 * h0), narrowing = (double)(1 << (fine - 1));
    const double central = (value[fine] - value[fine + STEPS]) / (2 * h0 / narrowing);
    cr_assert_float_eq(central, slope,
                       rounding * 1000 * L->s->row->slack * (1 + fabs(slope)) + narrowing * noise / h0 +
                           fabs(wide - central) / 2,
                       "%s: derivative in %s is %.12g, by differences %.12g", title(L->s, L->d), what, slope, central);
    for (int k = 1; is_double && !L->s->row->rough && k < STEPS; k++) {
        const double h = h0 / (double)(1 << (k - 1));
        double r[2];
        for (int j = 0; j < 2; j++) {
            const double hj = h / (1 << j), up = value[k + j] - value[0] - hj * slope;
            const double down = value[k + j + STEPS] - value[0] + hj * slope;
            r[j] = (fabs(up) + fabs(down)) / 2;
        }
        if (r[1] > 300 * noise)
            cr_assert_float_eq(log2(r[0] / r[1]), 2, 0.05, "%s: remainder in %s shrinks from %.6g to %.6g at step %g",
                               title(L->s, L->d), what, r[0], r[1], h);
    }
    free(base), free(e);
}

static void taylor(const subject *s, nf_direction d)
{
    const size_t size = s->n * s->rows[d];
    if (kinks_in_reach(s, d)) {
        n_skipped++;
        return;
    }
    /* all cotangents; those of y alone; those of the log-det alone */
    for (int part = 0; part < 3; part++) {
        nf_real *gy = normals(59, s->n * rows_out(s, d), part == 2 ? 0 : 1);
        nf_real *g_l = normals(61, s->n, part == 1 ? 0 : 1);
        nf_real *gx = reals(size), *g_ctx = reals(s->n * s->n_ctx), *g_theta = reals(s->n_params);
        const loss L = {s, d, gy, g_l};
        run_vjp(s, d, gy, g_l, gx, s->n_ctx ? g_ctx : NULL, g_theta);
        taylor_along(&L, "x", size, s->x[d], gx);
        if (s->n_ctx)
            taylor_along(&L, "context", s->n * s->n_ctx, s->ctx, g_ctx);
        if (s->n_params)
            taylor_along(&L, "parameters", s->n_params, nf_model_theta(s->m), g_theta);
        free(gy), free(g_l), free(gx), free(g_ctx), free(g_theta);
    }
}
PROPERTY(taylor, MOST_DIMS_OF_DERIVATIVES, 5)

/* ---- J^-T: solve_jt undoes J^T, tile by tile; where J^T is tall it goes first, since not all is its image ---- */

static void solve_jt(const subject *s, nf_direction d)
{
    enum { LD = 16 };
    const size_t in = s->rows[d], out = rows_out(s, d);
    const bool tall = in > out;
    const nf_object *flow = nf_model_object(s->m);
    nfi_thread memory = {.tape = {.n_chunks = 0}};
    nf_pass p = nfi_model_pass(s->m, &memory, NULL, 0, s->n, LD, NF_EVAL, true);
    nf_real *tile[6];
    for (int k = 0; k < 6; k++)
        tile[k] = nf_arena_reals(&memory.tape, in + out + s->n_ctx, LD);
    nf_real *x = tile[0], *y = tile[1], *gx = tile[2], *gy = tile[3], *back = tile[4], *ctx = tile[5];
    double log_det[LD] = {0};
    const nf_real no_log_det[LD] = {0};
    void *saved = NULL;
    nfi_pack(s->n, in, s->x[d], in, LD, x);
    nfi_pack(s->n, s->n_ctx, s->ctx, s->n_ctx, LD, ctx);
    p.ctx = s->n_ctx ? ctx : NULL;
    nf_real *first = tall ? gy : gx; /* and `back` is to be the same */
    nf_noise_normal(&(nf_noise){.seed = 67}, tall ? out : in, s->n, LD, first);
    cr_assert_eq(nf_flow_apply(flow, d, &p, x, y, log_det, &saved), NF_OK);
    for (int step = 0; step < 2; step++) {
        nf_status status;
        if ((step == 0) == tall)
            status = nf_flow_vjp(flow, d, &p, x, y, saved, gy, no_log_det, tall ? gx : back, &(nf_grad){.theta = NULL});
        else
            status = nf_flow_solve_jt(flow, d, &p, x, y, saved, gx, tall ? back : gy);
        cr_assert_eq(status, NF_OK, "%s: %s", title(s, d), nf_error_message());
    }
    for (size_t i = 0; i < (tall ? out : in) * LD; i++)
        cr_assert_float_eq(back[i], first[i], 1000 * rounding * s->row->slack * (1 + fabs((double)first[i])),
                           "%s: J^T J^-T g differs from g by %g", title(s, d), (double)(back[i] - first[i]));
    nfi_arena_clear(&memory.tape);
    nfi_arena_clear(&memory.scratch);
}
PROPERTY(solve_jt, 64, 13)

/* ---- one result for any number of threads ---- */

static void threads(const subject *s, nf_direction d)
{
    const size_t in = s->n * s->rows[d], size = s->n * rows_out(s, d);
    const size_t length = size + in + s->n * s->n_ctx + s->n_params;
    static const size_t teams[] = {1, 3, 2, 8};
    nf_real *gy = normals(71, size, 1), *g_l = normals(73, s->n, 1), *first = NULL;
    double *first_l = NULL;
    for (size_t t = 0; t < N_TEAMS; t++) {
        nf_workspace *ws = nf_workspace_new(teams[t]);
        nf_real *all = reals(length), *gx = all + size, *g_theta = gx + in, *g_ctx = g_theta + s->n_params;
        double *l = calloc(s->n, sizeof *l);
        cr_assert_eq(nf_transform(s->m, ws, d, s->n, s->x[d], s->ctx, all, l), NF_OK);
        cr_assert_eq(
            nf_transform_vjp(s->m, ws, d, s->n, s->x[d], s->ctx, gy, g_l, gx, s->n_ctx ? g_ctx : NULL, g_theta), NF_OK);
        nf_workspace_free(ws);
        if (!first) {
            first = all;
            first_l = l;
            continue;
        }
        cr_assert_eq(memcmp(all, first, length * sizeof *all), 0, "%s: %zu threads give other bits", title(s, d),
                     teams[t]);
        cr_assert_eq(memcmp(l, first_l, s->n * sizeof *l), 0, "%s: %zu threads give other log-dets", title(s, d),
                     teams[t]);
        free(all), free(l);
    }
    free(gy), free(g_l), free(first), free(first_l);
}
PROPERTY(threads, 5, 700)

/* ---- a sample does not depend on its neighbours or on padding ---- */

static void padding(const subject *s, nf_direction d)
{
    const size_t dim = rows_out(s, d);
    nf_real *all = reals(s->n * dim), *some = reals(s->n * dim);
    double *l = calloc(s->n, sizeof *l), *l_some = calloc(s->n, sizeof *l);
    run(s, d, s->n, s->x[d], s->ctx, all, l);
    for (size_t n = 1; n <= 17; n++) {
        run(s, d, n, s->x[d], s->ctx, some, l_some);
        for (size_t i = 0; i < n * dim; i++)
            cr_assert_float_eq(some[i], all[i], 500 * rounding * s->row->slack * (1 + fabs((double)all[i])),
                               "%s: sample %zu of %zu is %.17g, of %zu %.17g", title(s, d), i / dim, n, (double)some[i],
                               s->n, (double)all[i]);
        for (size_t i = 0; i < n; i++)
            cr_assert_float_eq(l_some[i], l[i], 500 * rounding * s->row->slack * (1 + fabs(l[i])), "%s: log-det %zu",
                               title(s, d), i);
    }
    free(all), free(some), free(l), free(l_some);
}
PROPERTY(padding, 64, 70)

#ifdef NFI_JANSSON
/* ---- a flow comes back from a model file, bit for bit ---- */

static void files(const subject *s, nf_direction d)
{
    const size_t size = s->n * rows_out(s, d);
    char path[] = "/tmp/nflow-conformance-XXXXXX";
    if (d == NF_INVERSE) { /* loading is the same for both */
        n_skipped++;
        return;
    }
    const int file = mkstemp(path);
    cr_assert_geq(file, 0);
    close(file);
    cr_assert_eq(nf_save(s->m, path), NF_OK, "%s: %s", title(s, d), nf_error_message());
    subject again = *s;
    again.m = nf_load(path, NULL);
    remove(path);
    cr_assert_not_null(again.m, "%s: %s", title(s, d), nf_error_message());
    nf_real *y[2] = {reals(size), reals(size)};
    double *l[2] = {calloc(s->n, sizeof **l), calloc(s->n, sizeof **l)};
    run(s, d, s->n, s->x[d], s->ctx, y[0], l[0]);
    run(&again, d, s->n, s->x[d], s->ctx, y[1], l[1]);
    cr_assert_eq(memcmp(y[0], y[1], size * sizeof **y), 0, "%s: other values after loading", title(s, d));
    cr_assert_eq(memcmp(l[0], l[1], s->n * sizeof **l), 0, "%s: other log-dets after loading", title(s, d));
    nf_model_free(again.m);
    free(y[0]), free(y[1]), free(l[0]), free(l[1]);
}
PROPERTY(files, 2, 3)
#endif

/* ---- zeros, huge and tiny numbers give finite results ---- */

static bool all_finite(size_t n, const nf_real *v)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(v[i]))
            return false;
    return true;
}

/* Constraints are inverted at the images of extreme points: on the edge of their sets, or to rounding beyond it. */
static void extremes(const subject *s, nf_direction d)
{
    const size_t in = s->rows[d], out = rows_out(s, d);
    const nf_direction from = s->chart ? NF_FORWARD : d;
    const double most = s->chart ? s->chart->huge[is_double] : huge, values[] = {0, tiny, -tiny, most, -most};
    nf_real *y = reals(s->n * out), *gy = normals(79, s->n * out, 1), *g_l = normals(83, s->n, 1);
    nf_real *gx = reals(s->n * in);
    nf_real *g_ctx = reals(s->n * s->n_ctx), *g_theta = reals(s->n_params);
    double *l = calloc(s->n, sizeof *l);
    for (size_t i = 0; i < s->n * s->rows[from]; i++) { /* point k has value k everywhere, later points mix them */
        const size_t point = i / s->rows[from], axis = i % s->rows[from];
        s->x[from][i] = (nf_real)values[(point < 5 ? point : point * 7 + axis * 3) % 5];
    }
    if (from != d)
        run(s, from, s->n, s->x[from], s->ctx, s->x[d], NULL);
    run(s, d, s->n, s->x[d], s->ctx, y, l);
    run_vjp(s, d, gy, g_l, gx, s->n_ctx ? g_ctx : NULL, g_theta);
    for (size_t i = 0; i < s->n; i++)
        cr_assert((isfinite(l[i]) || (from != d && l[i] < 0)) && all_finite(out, y + i * out) &&
                      all_finite(in, gx + i * in),
                  "%s: point %zu gives a log-det of %g and", title(s, d), i, l[i]);
    cr_assert(all_finite(s->n_params, g_theta) && all_finite(s->n * s->n_ctx, g_ctx), "%s: gradients", title(s, d));
    free(y), free(gy), free(g_l), free(gx), free(g_ctx), free(g_theta), free(l);
}
PROPERTY(extremes, 64, 12)

/* ---- densities integrate to 1, over a box around the image of a ball that holds the base's mass ---- */

/* Density of the flow of a standard normal at the points, all with the first context. */
static void density(const subject *s, nf_direction d, size_t n, const nf_real *y, nf_real *ctx, double *p)
{
    nf_real *z = reals(n * s->dim);
    for (size_t i = 0; i < n * s->n_ctx; i++)
        ctx[i] = s->ctx[i % s->n_ctx];
    run(s, d == NF_FORWARD ? NF_INVERSE : NF_FORWARD, n, y, ctx, z, p);
    for (size_t i = 0; i < n; i++) {
        const double r2 = dot(s->dim, z + i * s->dim, z + i * s->dim);
        p[i] = exp(p[i] - r2 / 2 - (double)s->dim * log(sqrt(2 * M_PI)));
    }
    free(z);
}

/* Box around the images of a sphere of radius r. */
static void image_box(const subject *s, nf_direction d, double r, double low[2], double high[2])
{
    enum { AROUND = 720 };
    nf_real *z = reals(AROUND * 2), *y = reals(AROUND * 2), *ctx = reals(AROUND * s->n_ctx);
    for (size_t i = 0; i < AROUND; i++) {
        const double angle = 2 * M_PI * (double)i / AROUND;
        z[i * s->dim] = (nf_real)(r * cos(angle));
        if (s->dim == 2)
            z[i * 2 + 1] = (nf_real)(r * sin(angle));
    }
    for (size_t i = 0; i < AROUND * s->n_ctx; i++)
        ctx[i] = s->ctx[i % s->n_ctx];
    run(s, d, AROUND, z, ctx, y, NULL);
    for (size_t k = 0; k < s->dim; k++) {
        low[k] = high[k] = (double)y[k];
        for (size_t i = 0; i < AROUND; i++) {
            low[k] = fmin(low[k], (double)y[i * s->dim + k]);
            high[k] = fmax(high[k], (double)y[i * s->dim + k]);
        }
    }
    free(z), free(y), free(ctx);
}

/* A part of the box, the product rule's value there, and what halving changed in the cell that this one is part of. */
typedef struct cell {
    double low[2], width[2], value, change;
} cell;

enum { NODES = 8, AT_ONCE = 256, MOST_HALVINGS = 20 };
/* By roughness and dimension: coarser cells agree by chance now and then. */
static const size_t fewest_halvings[2][3] = {{0, 8, 4}, {0, 9, 5}};

/* Gauss-Legendre on [0, 1]. */
typedef struct rule {
    double at[NODES], weight[NODES];
} rule;

static rule make_rule(void)
{
    rule r;
    gsl_integration_glfixed_table *table = gsl_integration_glfixed_table_alloc(NODES);
    for (size_t i = 0; i < NODES; i++)
        gsl_integration_glfixed_point(0, 1, i, &r.at[i], &r.weight[i], table);
    gsl_integration_glfixed_table_free(table);
    return r;
}

/* Values of up to AT_ONCE cells. */
static void integrate_cells(const subject *s, nf_direction d, const rule *r, size_t n_cells, cell *cells)
{
    const size_t n = s->dim == 1 ? NODES : NODES * NODES;
    nf_real *y = reals(n_cells * n * s->dim), *ctx = reals(n_cells * n * s->n_ctx);
    double *p = calloc(n_cells * n, sizeof *p);
    for (int pass = 0; pass < 2; pass++) { /* points, then sums */
        for (size_t i = 0; i < n_cells * n; i++) {
            cell *c = cells + i / n;
            double weight = 1;
            for (size_t k = 0; k < s->dim; k++) {
                const size_t node = k ? i % n / NODES : i % NODES;
                weight *= r->weight[node] * c->width[k];
                y[i * s->dim + k] = (nf_real)(c->low[k] + r->at[node] * c->width[k]);
            }
            c->value = pass && i % n ? c->value + weight * p[i] : pass ? weight * p[i] : 0;
        }
        if (!pass)
            density(s, d, n_cells * n, y, ctx, p);
    }
    free(y), free(ctx), free(p);
}

/* Cells are halved in every dimension until that changes nothing, level by level: many cells in one call. Where a kink
   cuts a cell the change may be small by chance; so the one before must have been, too. */
static double adaptive(const subject *s, nf_direction d, const cell *box, double tolerance)
{
    const rule r = make_rule();
    const size_t parts = (size_t)1 << s->dim, fewest = fewest_halvings[s->row->rough][s->dim];
    cell *parents = malloc(sizeof *parents);
    double sum = 0;
    parents[0] = *box;
    for (size_t n = 1, level = 0, n_kept = 0; n; n = n_kept, level++, n_kept = 0) {
        cell *children = malloc(n * parts * sizeof *children);
        for (size_t i = 0; i < n * parts; i++) {
            children[i] = parents[i / parts];
            for (size_t k = 0; k < s->dim; k++) {
                children[i].width[k] /= 2;
                children[i].low[k] += i % parts >> k & 1 ? children[i].width[k] : 0;
            }
        }
        for (size_t i = 0; i < n * parts; i += AT_ONCE)
            integrate_cells(s, d, &r, n * parts - i < AT_ONCE ? n * parts - i : AT_ONCE, children + i);
        for (size_t i = 0; i < n; i++) {
            double fine = 0;
            for (size_t c = 0; c < parts; c++)
                fine += children[i * parts + c].value;
            const double change = fabs(fine - parents[i].value);
            const bool settled = change < tolerance && parents[i].change < 100 * tolerance;
            if (level >= fewest && (settled || level >= MOST_HALVINGS)) {
                sum += fine;
                continue;
            }
            for (size_t c = 0; c < parts; c++) { /* n_kept is never ahead of what is read */
                children[n_kept] = children[i * parts + c];
                children[n_kept++].change = change;
            }
        }
        free(parents);
        parents = children;
    }
    free(parents);
    return sum;
}

static void quadrature(const subject *s, nf_direction d)
{
    /* Cells along the kinks of a density take their time, and a context that stands still changes nothing in kind. */
    if (s->row->rough && s->dim > 1 && s->guise != SHARED) {
        n_skipped++;
        return;
    }
    /* A normal does not fit into a constraint's set, nor quadrature into a surface. */
    if ((s->chart && (d == NF_INVERSE || s->chart->coordinates)) || s->rows[0] != s->dim) {
        n_skipped++;
        return;
    }
    double low[2] = {0, 0}, high[2] = {1, 1};
    image_box(s, d, 6.5, low, high);
    const cell box = {{low[0], low[1]}, {high[0] - low[0], high[1] - low[1]}, INFINITY, INFINITY};
    const double sum = adaptive(s, d, &box, is_double ? 4e-9 : 1e-6);
    cr_assert_float_eq(sum, 1, is_double ? 1e-6 : 1e-4, "%s: the density integrates to %.10g", title(s, d), sum);
}
PROPERTY(quadrature, 2, 1)

/* ---- parameters per sample, all equal, do what shared ones do ---- */

static void amortised_equals_shared(const subject *s, nf_direction d)
{
    subject each;
    if (s->guise != SHARED || !make_subject(&each, s->row, s->dim, BY_CONTEXT, s->n)) {
        n_skipped++;
        return;
    }
    const size_t size = s->n * rows_out(s, d), in = s->n * s->rows[d];
    nf_real *y[2], *gx[2], *gy = normals(87, size, 1), *g_l = normals(89, s->n, 1), *g_theta = reals(s->n_params);
    nf_real *g_ctx = reals(s->n * s->n_params);
    double *l[2];
    for (size_t i = 0; i < s->n * s->n_params; i++)
        each.ctx[i] = nf_model_theta(s->m)[i % s->n_params];
    memcpy(each.x[d], s->x[d], in * sizeof *each.x[d]);
    for (int k = 0; k < 2; k++) {
        y[k] = reals(size);
        gx[k] = reals(in);
        l[k] = calloc(s->n, sizeof *l[k]);
        const subject *which = k ? &each : s;
        run(which, d, s->n, which->x[d], which->ctx, y[k], l[k]);
        run_vjp(which, d, gy, g_l, gx[k], k ? g_ctx : NULL, k ? NULL : g_theta);
    }
    const double tolerance = 1000 * rounding * s->row->slack;
    for (size_t i = 0; i < size; i++)
        cr_assert_float_eq(y[0][i], y[1][i], tolerance * (1 + fabs((double)y[0][i])), "%s", title(s, d));
    for (size_t i = 0; i < in; i++)
        cr_assert_float_eq(gx[0][i], gx[1][i], tolerance * (1 + fabs((double)gx[0][i])), "%s", title(s, d));
    for (size_t i = 0; i < s->n; i++)
        cr_assert_float_eq(l[0][i], l[1][i], tolerance * (1 + fabs(l[0][i])), "%s", title(s, d));
    for (size_t j = 0; j < s->n_params; j++) {
        double sum = 0, most = 0;
        for (size_t i = 0; i < s->n; i++) {
            sum += (double)g_ctx[i * s->n_params + j];
            most += fabs((double)g_ctx[i * s->n_params + j]);
        }
        cr_assert_float_eq(g_theta[j], sum, tolerance * (1 + most), "%s: gradient in parameter %zu", title(s, d), j);
    }
    for (int k = 0; k < 2; k++)
        free(y[k]), free(gx[k]), free(l[k]);
    free(gy), free(g_l), free(g_theta), free(g_ctx);
    free_subject(&each);
}
PROPERTY(amortised_equals_shared, 64, 19)
