/* Flows made of flows: order, bookkeeping, data-dependent starts, refusals; and nf_check_flow on flows that lie. */
#include "push.h"
#include "fragile.h"
#include "fail_alloc.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <string.h>

#ifdef NF_SINGLE
static const double rounding = 1.2e-7;
#else
static const double rounding = 2.3e-16;
#endif

/* ---- a user's layer: y = exp(s) x + c tanh(x), elementwise, whose forward direction is the closed one. Tests bend it
   through `fault`. ---- */

typedef enum fault { NO_FAULT, WRONG_INVERSE, WRONG_LOG_DET, WRONG_GX, WRONG_GX_LOG_DET, WRONG_G_THETA } fault;
typedef struct bent {
    fault fault;
} bent;

static double value(double a, double c, double x)
{
    return a * x + c * tanh(x);
}

static double slope(double a, double c, double x)
{
    return a + c * (1 - tanh(x) * tanh(x));
}

static nf_status bent_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                            double *log_det, void **saved)
{
    (void)saved;
    const bent *b = nf_self(o);
    const double a = exp((double)p->theta[0]), c = exp((double)p->theta[1]);
    const double sign = d == NF_FORWARD ? 1 : -1;
    for (size_t i = 0; i < nf_object_shape(o)->dim_in * p->ld; i++) {
        double from = (double)x[i], z = from;
        if (d == NF_FORWARD)
            y[i] = (nf_real)value(a, c, from);
        for (int k = 0; k < 60 && d == NF_INVERSE; k++) /* a contraction, since 0 < slope <= a + c */
            z -= (value(a, c, z) - from) / (a + c);
        for (int k = 0; k < 20 && d == NF_INVERSE; k++)
            z -= (value(a, c, z) - from) / slope(a, c, z);
        if (d == NF_INVERSE)
            y[i] = (nf_real)(b->fault == WRONG_INVERSE ? z + 0.01 : z);
        log_det[i % p->ld] += sign * log(slope(a, c, z)) * (b->fault == WRONG_LOG_DET ? 1.01 : 1);
    }
    return NF_OK;
}

/* Of forward, wherever it was not bent. */
static nf_status bent_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)d, (void)y, (void)saved;
    const bent *b = nf_self(o);
    const double a = exp((double)p->theta[0]), c = exp((double)p->theta[1]);
    double ga = 0, gc = 0;
    for (size_t i = 0; i < nf_object_shape(o)->dim_in * p->ld; i++) {
        const double t = tanh((double)x[i]), u = 1 - t * t, s = slope(a, c, (double)x[i]);
        const double gs = (double)g_log_det[i % p->ld] / s;
        double of_x = (double)gy[i] * s, of_log_det = gs * c * -2 * t * u;
        of_x *= b->fault == WRONG_GX ? 1.01 : 1;
        of_log_det *= b->fault == WRONG_GX_LOG_DET ? -1 : 1;
        gx[i] = (nf_real)(of_x + of_log_det);
        ga += (double)gy[i] * (double)x[i] + gs;
        gc += (double)gy[i] * t + gs * u;
    }
    if (g->theta) {
        g->theta[0] += (nf_real)(a * ga);
        g->theta[1] += (nf_real)(c * gc * (b->fault == WRONG_G_THETA ? 1.02 : 1));
    }
    return NF_OK;
}

static nf_status bent_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                               void *saved, const nf_real *gx, nf_real *gy)
{
    (void)d, (void)y, (void)saved;
    const double a = exp((double)p->theta[0]), c = exp((double)p->theta[1]);
    for (size_t i = 0; i < nf_object_shape(o)->dim_in * p->ld; i++)
        gy[i] = (nf_real)((double)gx[i] / slope(a, c, (double)x[i]));
    return NF_OK;
}

/* The mirror image: y = g(x) is what must be solved, x = f(y) is closed. */
static nf_direction mirrored(nf_direction d)
{
    return d == NF_FORWARD ? NF_INVERSE : NF_FORWARD;
}

static nf_status mirror_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                              double *log_det, void **saved)
{
    return bent_apply(o, mirrored(d), p, x, y, log_det, saved);
}

static const nf_flow_type implicit_inverse = {.part = {.name = "bent"},
                                              .abi = sizeof(nf_flow_type),
                                              .apply = bent_apply,
                                              .vjp = bent_vjp,
                                              .solve_jt = bent_solve_jt};
static const nf_flow_type implicit_forward = {.part = {.name = "mirror"},
                                              .abi = sizeof(nf_flow_type),
                                              .apply = mirror_apply,
                                              .vjp = bent_vjp,
                                              .solve_jt = bent_solve_jt};
static const nf_flow_type no_solve = {
    .part = {.name = "no_solve"}, .abi = sizeof(nf_flow_type), .apply = bent_apply, .vjp = bent_vjp};

static nf_flow *make_bent(const nf_flow_type *type, size_t dim, unsigned flags, const bent *self)
{
    return nf_flow_new(type, &(nf_shape){.dim_in = dim, .dim_out = dim, .n_params = 2, .flags = flags},
                       (void *)(uintptr_t)self, NULL, 0);
}

static nf_check_report report_on(nf_flow *f, uint64_t seed)
{
    nf_check_report r;
    nf_model *m = nf_model_of_flow(f, &(nf_model_options){.seed = 3});
    cr_assert_not_null(m, "%s", nf_error_message());
    cr_assert_eq(nf_check_flow(m, &(nf_check_options){.seed = seed, .theta_scale = 0.3}, &r), NF_OK, "%s",
                 nf_error_message());
    nf_model_free(m);
    return r;
}

/* ---- implicit directions, and what nf_check_flow says of honest and lying flows ---- */

#ifdef NF_SINGLE
static const double good = 4e-4, round_trip_good = 1e-5;
#else
static const double good = 1e-7, round_trip_good = 1e-12;
#endif

static double worst_gradient(const nf_check_report *r)
{
    double worst = 0;
    for (int d = 0; d < 2; d++)
        worst = fmax(worst, fmax(r->x_error[d], fmax(r->theta_error[d], r->ctx_error[d])));
    return worst;
}

static double worst_of(const double two[2])
{
    return fmax(two[0], two[1]);
}

Test(implicit, either_direction_gets_its_gradient_from_the_other)
{
    static const bent honest = {NO_FAULT};
    const nf_check_report inverse = report_on(make_bent(&implicit_inverse, 3, NF_IMPLICIT_INVERSE, &honest), 5);
    const nf_check_report forward = report_on(make_bent(&implicit_forward, 3, NF_IMPLICIT_FORWARD, &honest), 5);
    const nf_check_report *both[] = {&inverse, &forward};
    for (int k = 0; k < 2; k++) {
        cr_assert_lt(worst_of(both[k]->inverse_error), round_trip_good);
        cr_assert_lt(worst_of(both[k]->log_det_error), round_trip_good);
        cr_assert_lt(worst_gradient(both[k]), good);
        cr_assert_gt(both[k]->log_det_max[0], both[k]->log_det_min[0]);
        cr_assert_eq(both[k]->untouched, 0);
    }
}

Test(check, sees_every_lie)
{
    static const bent lies[] = {{WRONG_INVERSE}, {WRONG_LOG_DET}, {WRONG_GX}, {WRONG_GX_LOG_DET}, {WRONG_G_THETA}};
    for (size_t k = 0; k < sizeof lies / sizeof *lies; k++) {
        const nf_check_report r = report_on(make_bent(&implicit_inverse, 3, NF_IMPLICIT_INVERSE, &lies[k]), 5);
        switch (lies[k].fault) {
        case WRONG_INVERSE:
            cr_assert_gt(worst_of(r.inverse_error), 1e-3);
            break;
        case WRONG_LOG_DET:
            cr_assert_gt(worst_of(r.log_det_error), 1e-3);
            break;
        case WRONG_G_THETA:
            cr_assert_gt(worst_of(r.theta_error), 1e-3);
            cr_assert_lt(r.x_error[0], good);
            break;
        default:
            cr_assert_gt(r.x_error[0], 1e-3, "fault %d: %g", lies[k].fault, r.x_error[0]);
        }
    }
}

Test(check, counts_untouched_dimensions)
{
    const size_t order[] = {0, 2, 1, 3};
    nf_check_report r = report_on(nf_chain((nf_flow *[]){nf_permutation(4, order), nf_affine(4)}, 2), 8);
    cr_assert_eq(r.untouched, 0);
    r = report_on(nf_permutation(4, order), 8);
    cr_assert_eq(r.untouched, 4);
    cr_assert_float_eq(worst_gradient(&r), 0, good);
    cr_assert_float_eq(r.theta_error[0], 0, 0);
}

Test(check, refuses_what_it_cannot_check)
{
    nf_check_report r;
    nf_model *normal = nf_model_of_dist(nf_normal(2), NULL), *flow = nf_model_of_flow(nf_affine(2), NULL);
    cr_assert_eq(nf_check_flow(NULL, NULL, &r), NF_EARG);
    cr_assert_eq(nf_check_flow(flow, NULL, NULL), NF_EARG);
    cr_assert_eq(nf_check_flow(normal, NULL, &r), NF_EARG);
    cr_assert_eq(nf_check_flow(flow, NULL, &r), NF_OK);
    nf_model_free(normal);
    nf_model_free(flow);
}

Test(check, takes_a_pushforward_and_leaves_its_numbers_alone)
{
    nf_check_report r;
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_diagonal_normal(2), nf_planar(2)), &(nf_model_options){.seed = 4});
    const size_t n = nf_model_shape(m)->n_params;
    nf_real before[16];
    cr_assert_leq(n, 16);
    memcpy(before, nf_model_theta(m), n * sizeof *before);
    cr_assert_eq(nf_check_flow(m, &(nf_check_options){.theta_scale = 0.7}, &r), NF_OK);
    cr_assert_lt(worst_gradient(&r), good);
    cr_assert_eq(memcmp(before, nf_model_theta(m), n * sizeof *before), 0);
    nf_model_free(m);
}

Test(implicit, without_solve_jt_there_is_no_gradient)
{
    static const bent honest = {NO_FAULT};
    nf_model *m = nf_model_of_flow(make_bent(&no_solve, 2, NF_IMPLICIT_INVERSE, &honest), NULL);
    nf_real x[2] = {NF_R(0.83), NF_R(-1.27)}, gx[2];
    cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_FORWARD, 1, x, NULL, x, NULL, gx, NULL, NULL), NF_OK);
    cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_INVERSE, 1, x, NULL, x, NULL, gx, NULL, NULL), NF_EUNSUPPORTED);
    cr_assert_not_null(strstr(nf_error_message(), "no_solve"));
    nf_check_report r;
    cr_assert_eq(nf_check_flow(m, NULL, &r), NF_OK);
    cr_assert(isnan(r.x_error[1]) && isnan(r.log_det_error[1]) && r.inverse_error[1] < round_trip_good);
    nf_model_free(m);
}

/* ---- what compositions compute ---- */

/* f[0] is nearest the base: first the affine map, then the permutation. */
Test(chain, applies_the_first_flow_first)
{
    const size_t order[] = {2, 0, 1};
    nf_real theta[6] = {NF_R(0.31), NF_R(-1.72), NF_R(0.94), NF_R(0.45), NF_R(-0.63), NF_R(1.18)}; /* m, s */
    nf_model *m = nf_model_of_flow(nf_chain((nf_flow *[]){nf_affine(3), nf_permutation(3, order)}, 2),
                                   &(nf_model_options){.theta = theta});
    const nf_real x[3] = {NF_R(1.93), NF_R(0.27), NF_R(-0.81)};
    nf_real y[3];
    double l;
    push(m, NF_FORWARD, 1, x, NULL, y, &l);
    for (size_t i = 0; i < 3; i++) {
        const size_t j = order[i];
        const double expected = (double)x[j] * exp((double)theta[3 + j]) + (double)theta[j];
        cr_assert_float_eq(y[i], expected, 20 * rounding);
    }
    cr_assert_float_eq(l, 0.45 - 0.63 + 1.18, 20 * rounding);
    nf_model_free(m);
}

Test(invert, swaps_the_directions)
{
    nf_flow *f = nf_chain((nf_flow *[]){nf_planar(3), nf_radial(3)}, 2);
    nf_model *plain = nf_model_of_flow(nf_flow_ref(f), &(nf_model_options){.seed = 6});
    nf_model *turned = nf_model_of_flow(nf_invert(f), &(nf_model_options){.theta = nf_model_theta(plain)});
    const nf_real x[6] = {NF_R(0.93), NF_R(-0.27), NF_R(1.81), NF_R(-2.03), NF_R(0.64), NF_R(0.11)};
    for (nf_direction d = NF_FORWARD; d <= NF_INVERSE; d++) {
        nf_real a[6], b[6];
        double la[2], lb[2];
        push(plain, d, 2, x, NULL, a, la);
        push(turned, d == NF_FORWARD ? NF_INVERSE : NF_FORWARD, 2, x, NULL, b, lb);
        cr_assert_eq(memcmp(a, b, sizeof a), 0);
        cr_assert_eq(memcmp(la, lb, sizeof la), 0);
    }
    nf_model_free(turned);
    nf_model_free(plain);
}

/* An affine head without hidden layers: theta = W ctx + b by hand. */
Test(amortized, parameters_are_the_heads_output)
{
    nf_model *m = nf_model_of_flow(nf_amortized(nf_affine(2), nf_mlp(3, 4, 0, NULL)), &(nf_model_options){.seed = 9});
    cr_assert_eq(nf_model_shape(m)->n_params, 16);
    cr_assert_eq(nf_model_shape(m)->n_ctx, 3);
    const nf_real x[4] = {NF_R(0.93), NF_R(-0.27), NF_R(1.81), NF_R(-2.03)};
    const nf_real ctx[6] = {NF_R(0.64), NF_R(0.11), NF_R(-1.37), NF_R(-0.58), NF_R(1.29), NF_R(0.36)};
    nf_real y[4], *w = nf_model_theta(m);
    double l[2];
    push(m, NF_FORWARD, 2, x, ctx, y, l);
    for (size_t n = 0; n < 2; n++) {
        double theta[4];
        for (size_t k = 0; k < 4; k++) {
            theta[k] = (double)w[12 + k];
            for (size_t j = 0; j < 3; j++)
                theta[k] += (double)w[k * 3 + j] * (double)ctx[n * 3 + j];
        }
        for (size_t i = 0; i < 2; i++)
            cr_assert_float_eq(y[n * 2 + i], (double)x[n * 2 + i] * exp(theta[2 + i]) + theta[i], 50 * rounding);
        cr_assert_float_eq(l[n], theta[2] + theta[3], 50 * rounding);
    }
    nf_model_free(m);
}

Test(on_context, reads_its_rows_alone)
{
    enum { ROWS = 9, FIRST = 3 };
    nf_model *m = nf_model_of_flow(nf_on_context(nf_amortized_by_context(nf_affine(2)), ROWS, FIRST), NULL);
    const nf_real x[2] = {NF_R(0.93), NF_R(-0.27)}, gy[2] = {NF_R(1.4), NF_R(-0.8)}, g_l = NF_R(0.7);
    nf_real ctx[ROWS], y[2], gx[2], g_ctx[ROWS];
    for (size_t i = 0; i < ROWS; i++)
        ctx[i] = (nf_real)(0.31 * (double)i - 1.07);
    double l;
    push(m, NF_FORWARD, 1, x, ctx, y, &l);
    for (size_t i = 0; i < 2; i++)
        cr_assert_float_eq(y[i], (double)x[i] * exp((double)ctx[FIRST + 2 + i]) + (double)ctx[FIRST + i],
                           20 * rounding);
    cr_assert_eq(nf_transform_vjp(m, NULL, NULL, NF_FORWARD, 1, x, ctx, gy, &g_l, gx, g_ctx, NULL), NF_OK);
    for (size_t i = 0; i < ROWS; i++)
        cr_assert_eq(fabs((double)g_ctx[i]) > 0, i >= FIRST && i < FIRST + 4, "feature %zu: gradient %g", i,
                     (double)g_ctx[i]);
    nf_model_free(m);
}

Test(flags, compositions_keep_what_holds_for_the_whole)
{
    const size_t order[] = {1, 0};
    nf_flow *per_sample = nf_chain((nf_flow *[]){nf_planar(2), nf_invert(nf_radial(2))}, 2);
    nf_flow *shared = nf_chain((nf_flow *[]){nf_planar(2), nf_lu_linear(2, 1)}, 2);
    nf_flow *drawing = make_fragile(2, INFINITY, 0.5);
    nf_flow *wrapped = nf_chain((nf_flow *[]){nf_permutation(2, order), nf_invert(drawing)}, 2);
    nf_flow *amortised = nf_amortized_by_context(nf_flow_ref(per_sample));
    cr_assert(nf_flow_shape(per_sample)->flags & NF_PER_SAMPLE);
    cr_assert_not(nf_flow_shape(shared)->flags & NF_PER_SAMPLE);
    cr_assert(nf_flow_shape(wrapped)->flags & NF_STOCHASTIC);
    cr_assert_not(nf_flow_shape(per_sample)->flags & NF_STOCHASTIC);
    cr_assert_not(nf_flow_shape(amortised)->flags & NF_PER_SAMPLE);
    cr_assert_eq(nf_flow_shape(amortised)->n_params, 0);
    cr_assert_eq(nf_flow_shape(amortised)->n_ctx, 5 + 4);
    nf_flow_free(per_sample);
    nf_flow_free(shared);
    nf_flow_free(wrapped);
    nf_flow_free(amortised);
}

/* ---- data-dependent initialisation ---- */

/* y = x + m; starts so that the data it sees leave centred, whichever way they come. */
static nf_status centre_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                              double *log_det, void **saved)
{
    (void)log_det, (void)saved;
    for (size_t i = 0; i < nf_object_shape(o)->dim_in * p->ld; i++)
        y[i] = x[i] + (d == NF_FORWARD ? 1 : -1) * p->theta[i / p->ld];
    return NF_OK;
}

static nf_status centre_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                            void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)d, (void)x, (void)y, (void)saved, (void)g_log_det, (void)g;
    memcpy(gx, gy, nf_object_shape(o)->dim_in * p->ld * sizeof *gx);
    return NF_OK;
}

static nf_status centre_init(const nf_object *o, const nf_noise *noise, const nf_batch *b, nf_real *theta,
                             nf_real *state)
{
    (void)noise, (void)state;
    for (size_t k = 0; b && k < nf_object_shape(o)->dim_in; k++) {
        double sum = 0;
        for (size_t s = 0; s < b->n; s++)
            sum += (double)b->x[k * b->ld + s];
        theta[k] = (nf_real)(sum / (double)b->n * (b->direction == NF_INVERSE ? 1 : -1));
    }
    return NF_OK;
}

static const nf_flow_type centre = {.part = {.name = "centre", .init = centre_init},
                                    .abi = sizeof(nf_flow_type),
                                    .apply = centre_apply,
                                    .vjp = centre_vjp};

static nf_flow *make_centre(void)
{
    return nf_flow_new(&centre, &(nf_shape){.dim_in = 2, .dim_out = 2, .n_params = 2}, NULL, NULL, 0);
}

/* Data enter at the target's side: the last flow centres them, and hands the others data of mean 0. LU-linear in the
   middle needs preparing on the way. */
Test(init, each_flow_sees_the_data_as_they_reach_it)
{
    enum { N = 37 };
    nf_real x[N * 2];
    double mean[2] = {0, 0};
    nf_noise_normal(&(nf_noise){.seed = 12}, N * 2, 1, 1, x);
    for (size_t i = 0; i < N * 2; i++) {
        x[i] += i % 2 ? NF_R(-2.17) : NF_R(3.41);
        mean[i % 2] += (double)x[i] / N;
    }
    for (int turn = 0; turn < 2; turn++) {
        nf_flow *last = turn ? nf_invert(make_centre()) : make_centre();
        nf_flow *f = nf_chain((nf_flow *[]){make_centre(), nf_lu_linear(2, 3), last}, 3);
        nf_model *m = nf_model_of_flow(f, &(nf_model_options){.n_init = N, .init_x = x});
        cr_assert_not_null(m, "%s", nf_error_message());
        const nf_real *theta = nf_model_theta(m);
        const size_t at_last = nf_model_shape(m)->n_params - 2;
        for (size_t k = 0; k < 2; k++) {
            cr_assert_float_eq(theta[k], 0, 20 * rounding, "the first flow saw a mean of %g", (double)theta[k]);
            cr_assert_float_eq(theta[at_last + k], turn ? -mean[k] : mean[k], 20 * rounding);
        }
        nf_model_free(m);
    }
}

/* ---- refusals: a status, a message with both shapes, nothing leaked ---- */

static void refused(nf_flow *f, nf_status status, const char *words, size_t live)
{
    cr_assert_null(f);
    cr_assert_eq(nf_error_status(), status, "%s", nf_error_message());
    cr_assert_not_null(strstr(nf_error_message(), words), "message: %s", nf_error_message());
    cr_assert_eq(alloc_live(), live, "leaked: %s", nf_error_message());
}

Test(refusals, say_what_is_wrong_and_release_everything)
{
    const size_t live = alloc_live();
    refused(nf_chain(NULL, 2), NF_EARG, "`f` is NULL", live);
    refused(nf_chain((nf_flow *[]){NULL}, 0), NF_EARG, "`n` is 0", live);
    refused(nf_chain((nf_flow *[]){nf_planar(2), nf_planar(3)}, 2), NF_EDIM,
            "flow 1 takes 3 features, but flow 0 gives 2", live);
    refused(nf_chain((nf_flow *[]){nf_amortized_by_context(nf_planar(2)), nf_planar(2),
                                   nf_amortized_by_context(nf_radial(2))},
                     3),
            NF_EDIM, "flow 2 reads 4 features of context, but an earlier one reads 5", live);
    refused(nf_chain((nf_flow *[]){nf_planar(2), nf_planar(0), nf_radial(2)}, 3), NF_EARG, "nf_planar: `dim` is 0",
            live);
    refused(nf_invert(nf_radial(0)), NF_EARG, "nf_radial", live);
    refused(nf_amortized(nf_lu_linear(2, 1), nf_mlp(3, 6, 0, NULL)), NF_EUNSUPPORTED, "NF_PER_SAMPLE", live);
    refused(nf_amortized(nf_planar(2), nf_mlp(3, 4, 0, NULL)), NF_EDIM,
            "the head gives 4 features, but the flow has 5 parameters", live);
    refused(nf_amortized(nf_planar(2), nf_mlp(3, 5, 2, NULL)), NF_EDIM, "takes 3 features and 2 of context", live);
    refused(nf_amortized(nf_planar(2), nf_mlp(5, 0, 0, NULL)), NF_EARG, "nf_mlp", live);
    refused(nf_amortized(nf_planar(0), nf_mlp(3, 5, 0, NULL)), NF_EARG, "nf_planar", live);
    refused(nf_amortized_by_context(nf_amortized_by_context(nf_planar(2))), NF_EUNSUPPORTED, "NF_PER_SAMPLE", live);
    refused(nf_amortized_by_context(nf_permutation(2, (size_t[]){1, 0})), NF_EARG, "no parameters", live);
    refused(nf_on_context(nf_amortized_by_context(nf_planar(2)), 7, 3), NF_EDIM,
            "reads 5 features from feature 3, but the context has 7", live);
    refused(nf_on_context(nf_amortized_by_context(nf_planar(2)), 7, SIZE_MAX), NF_EDIM, "but the context has 7", live);
    refused(nf_on_context(nf_planar(0), 7, 3), NF_EARG, "nf_planar", live);
}

Test(refusals, no_memory_leaves_nothing_behind)
{
    for (size_t k = 0;; k++) {
        const size_t live = alloc_live();
        fail_alloc_after(k);
        nf_flow *inner = nf_chain((nf_flow *[]){nf_planar(2), nf_invert(nf_radial(2))}, 2);
        nf_flow *head = nf_amortized(inner, nf_mlp(4, 9, 0, NULL));
        nf_model *m = nf_model_of_flow(nf_on_context(head, 6, 1), NULL);
        nf_check_report r;
        nf_status status = m ? nf_check_flow(m, NULL, &r) : nf_error_status();
        const bool failed = fail_alloc_off();
        nf_model_free(m);
        cr_assert_eq(alloc_live(), live, "failure of allocation %zu leaks", k);
        if (!failed) {
            cr_assert_eq(status, NF_OK);
            cr_assert_gt(k, 10);
            break;
        }
        cr_assert_eq(status, NF_ENOMEM, "allocation %zu: %s", k, nf_error_message());
    }
}
