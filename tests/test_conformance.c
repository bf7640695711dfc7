/* The conformance suite: every layer of tests/conformance/rows.h, in every dimension and guise, both directions, both
   precisions, against what the mathematics says of any flow. */
#include "conformance/derivatives.h"
#include "conformance/quadrature.h"
#include "model/batch.h"

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
    free(x), free(y), free(l), free(l_back);
}
PROPERTY(round_trip, 64, 37)

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
    nf_real *nan = reals(size), *spare = reals(s->n_params);
    double *first_l = NULL;
    for (size_t i = 0; i < size; i++)
        nan[i] = (nf_real)NAN;
    for (size_t t = 0; t < N_TEAMS; t++) {
        nf_workspace *ws = nf_workspace_new(teams[t]);
        nf_real *all = reals(length), *gx = all + size, *g_theta = gx + in, *g_ctx = g_theta + s->n_params;
        double *l = calloc(s->n, sizeof *l);
        cr_assert_eq(nf_transform(s->m, ws, NULL, d, s->n, s->x[d], s->ctx, all, l), NF_OK);
        /* what the workspace holds must not matter: first a call that fills it with NaN */
        cr_assert_eq(nf_transform_vjp(s->m, ws, NULL, d, s->n, s->x[d], s->ctx, nan, g_l, gx, NULL, spare), NF_OK);
        cr_assert_eq(
            nf_transform_vjp(s->m, ws, NULL, d, s->n, s->x[d], s->ctx, gy, g_l, gx, s->n_ctx ? g_ctx : NULL, g_theta),
            NF_OK);
        for (size_t i = 0; i < s->n_params; i++)
            cr_assert(isfinite(g_theta[i]), "%s: gradient %zu is not written", title(s, d), i);
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
    free(gy), free(g_l), free(nan), free(spare), free(first), free(first_l);
}
PROPERTY(threads, 5, NFLOW_THIN ? 200 : 700)

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
PROPERTY(padding, NFLOW_THIN ? 21 : 64, 70)

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

/* ---- and from its description: the same text again, and the same initial parameters for the same seed ---- */

static void descriptions(const subject *s, nf_direction d)
{
    if (d == NF_INVERSE) {
        n_skipped++;
        return;
    }
    nf_object *o = nf_model_object(s->m);
    char *text = nf_describe(o);
    cr_assert_not_null(text, "%s: %s", title(s, d), nf_error_message());
    nf_object *again = nf_rebuild(text, NULL);
    cr_assert_not_null(again, "%s: %s", title(s, d), nf_error_message());
    char *text_again = nf_describe(again);
    cr_assert_not_null(text_again);
    cr_assert_str_eq(text_again, text, "%s: another description after rebuilding", title(s, d));
    const nf_model_options options = {.seed = 239 + s->dim};
    nf_model *m[] = {nf_model_of_object(nf_object_ref(o), &options), nf_model_of_object(again, &options)};
    cr_assert(m[0] && m[1], "%s: %s", title(s, d), nf_error_message());
    cr_assert_eq(nf_model_shape(m[1])->n_params, s->n_params);
    cr_assert_eq(memcmp(nf_model_theta(m[0]), nf_model_theta(m[1]), s->n_params * sizeof(nf_real)), 0,
                 "%s: other initial parameters after rebuilding", title(s, d));
    nf_model_free(m[0]);
    nf_model_free(m[1]);
    nf_text_free(text);
    nf_text_free(text_again);
}
PROPERTY(descriptions, 5, 1)
#endif

/* ---- zeros, huge and tiny numbers give finite results ---- */

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

/* ---- NaN in, NaN out: that row, and no other ---- */

/* Row `row` of a transform of x and ctx is to be NaN; all others are to be those of y and l. */
static void spoils_its_row(const subject *s, nf_direction d, size_t row, const nf_real *x, const nf_real *ctx,
                           const nf_real *y, const double *l, const char *where)
{
    const size_t out = rows_out(s, d);
    nf_real *z = reals(s->n * out);
    double *k = calloc(s->n, sizeof *k);
    run(s, d, s->n, x, ctx, z, k);
    cr_assert_eq(nf_workspace_failed(s->ws), 1, "%s: NaN in %s: %zu rows failed", title(s, d), where,
                 nf_workspace_failed(s->ws));
    for (size_t i = 0; i < s->n; i++)
        for (size_t c = 0; c <= out; c++) {
            const double now = c < out ? (double)z[i * out + c] : k[i], was = c < out ? (double)y[i * out + c] : l[i];
            cr_assert(i == row ? isnan(now) : now == was, "%s: NaN in %s makes %g of %g in row %zu", title(s, d), where,
                      now, was, i);
        }
    free(z), free(k);
}

static void not_a_number(const subject *s, nf_direction d)
{
    enum { ROW = 2 };
    const size_t in = s->rows[d];
    nf_real *y = reals(s->n * rows_out(s, d)), *x = s->x[d];
    double *l = calloc(s->n, sizeof *l);
    run(s, d, s->n, x, s->ctx, y, l);
    cr_assert_eq(nf_workspace_failed(s->ws), 0);
    for (size_t c = 0; c<in; c += in> 5 ? 7 : 1) {
        const nf_real was = x[ROW * in + c];
        x[ROW * in + c] = (nf_real)NAN;
        spoils_its_row(s, d, ROW, x, s->ctx, y, l, "x");
        x[ROW * in + c] = was;
    }
    for (size_t c = 0, k = 0; c < s->n_ctx && k < 5; c += 3, k++) {
        const nf_real was = s->ctx[ROW * s->n_ctx + c];
        s->ctx[ROW * s->n_ctx + c] = (nf_real)NAN;
        spoils_its_row(s, d, ROW, x, s->ctx, y, l, "the context");
        s->ctx[ROW * s->n_ctx + c] = was;
    }
    free(y), free(l);
}
PROPERTY(not_a_number, NFLOW_THIN ? 5 : 21, 5)

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
