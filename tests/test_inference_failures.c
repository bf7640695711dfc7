/* What inference does with a target that says no to a point, fails, or whose user wants to end: nf_start(), nf_stage(),
   nf_judge() and nf_vi(). Every point that is refused is counted, the report has the reason, and nothing is lost. */
#include "expect.h"
#include "fail_alloc.h"
#include <math.h>
#include <nflow/nflow.h>
#include <string.h>

/* A standard normal in two dimensions that ends at x0 = END: log Z = log Phi(END). Starts are beyond that, too. */
static const double END = 1;
typedef enum refusal { FLAG, IS_NAN, IS_MINUS_INFINITY, REFUSALS } refusal;
typedef struct wall {
    refusal how;
    double end;
    size_t refused;  /* points beyond the end */
    size_t calls;    /* of this function */
    size_t fails_at; /* the number of the call that fails; 0: none */
} wall;

static int walled(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad, unsigned char *rejected)
{
    wall *w = user;
    if (++w->calls == w->fails_at)
        return (int)nf_error(NF_ETARGET, "walled: the wall has fallen");
    for (size_t i = 0; i < n; i++, x += d) {
        const bool beyond = !(x[0] <= w->end);
        log_p[i] = -0.5 * (x[0] * x[0] + x[1] * x[1]) - log(2 * acos(-1.0));
        for (size_t k = 0; grad && k < d; k++)
            grad[i * d + k] = beyond ? NAN : -x[k];
        w->refused += beyond;
        if (beyond && w->how == FLAG)
            rejected[i] = 1;
        else if (beyond)
            log_p[i] = w->how == IS_NAN ? NAN : -INFINITY;
    }
    return 0;
}

static nf_target *target(wall *w)
{
    nf_target *t = nf_target_callback(2, walled, w, NF_SERIAL);
    cr_assert_not_null(t, "%s", nf_error_message());
    return t;
}

static const nf_start_options start_options = {.seed = 3, .paths = 2, .radius = 5, .iterations = 20, .draws = 100};
static const nf_stage_options stage_options = {
    .family = NF_FAMILY_FULL_RANK, .steps = 20, .draws = 50, .seed = 3, .threads = 1};
static const nf_judge_options judge_options = {.n = 2000, .seed = 3, .threads = 1};
static const nf_vi_options vi_options = {.rungs = 2,
                                         .all_rungs = true,
                                         .steps = 0.05,
                                         .draws = 50,
                                         .seed = 3,
                                         .threads = 1,
                                         .start = {.paths = 2, .radius = 5, .iterations = 20, .draws = 100},
                                         .judge = {.n = 2000}};

static size_t rejected(const nf_target *t)
{
    nf_target_counts c;
    nf_target_count(t, &c);
    return c.rejected;
}

/* All refusals are one: the same start, fit, judgement and posterior; all refused points are counted, with a reason. */
Test(inference_failures, refused_points_are_counted_in_whatever_way_they_are_refused)
{
    nf_vi_result first, r;
    nf_real started[8];
    nf_quality judged = {0};
    for (refusal how = FLAG; how < REFUSALS; how++) {
        wall w = {.how = how, .end = END};
        nf_target *t = target(&w);
        cr_assert_str_eq(nf_target_rejection(t), "");
        /* a start */
        nf_model *start = nf_start(t, &start_options, NULL);
        cr_assert_not_null(start, "%s", nf_error_message());
        const size_t n = nf_model_shape(start)->n_params;
        cr_assert(n <= sizeof started / sizeof *started);
        cr_assert(w.refused > 0);
        cr_assert_eq(rejected(t), w.refused);
        if (how == FLAG)
            memcpy(started, nf_model_theta(start), n * sizeof *started);
        cr_assert_eq(memcmp(started, nf_model_theta(start), n * sizeof *started), 0);
        const char *words[REFUSALS] = {"", "log p is nan at (", "log p is -inf at ("};
        cr_assert(strstr(nf_target_rejection(t), words[how]), "%s", nf_target_rejection(t));
        cr_assert(*nf_target_rejection(t));
        /* a stage */
        nf_fit_report report;
        size_t before = w.refused;
        nf_model *stage = nf_stage(t, start, &stage_options, &report);
        cr_assert_not_null(stage, "%s", nf_error_message());
        cr_assert(report.rejected > 0);
        cr_assert_eq(report.rejected, w.refused - before);
        cr_assert_eq(rejected(t), w.refused);
        /* a judgement: of draws of a standard normal, Phi(-END) are refused */
        nf_quality q;
        nf_posterior_draws draws;
        nf_model *normal = nf_model_of_dist(nf_normal(2), NULL);
        before = w.refused;
        cr_assert_eq(nf_judge(normal, t, &judge_options, &q, &draws), NF_OK, "%s", nf_error_message());
        cr_assert_eq(q.rejected, w.refused - before);
        const double share = 0.5 * erfc(sqrt(0.5) * END), n_draws = (double)q.n;
        cr_assert_float_eq((double)q.rejected / n_draws, share, 4 * sqrt(share * (1 - share) / n_draws));
        cr_assert_float_eq(q.log_z, log1p(-share), 4 * sqrt(share / (1 - share) / n_draws), "%g", q.log_z);
        for (size_t i = 0; i < draws.n; i++)
            cr_assert_eq(draws.log_p[i] == -INFINITY, !(draws.x[2 * i] <= END));
        if (how == FLAG)
            judged = q;
        cr_assert(q.log_z == judged.log_z && q.verdict == judged.verdict && q.rejected == judged.rejected);
        nf_posterior_draws_free(&draws);
        /* all of it */
        before = w.refused;
        cr_assert_eq(nf_vi(t, &vi_options, &r), NF_OK, "%s", nf_error_message());
        cr_assert_eq(r.counts.rejected, w.refused - before);
        cr_assert_eq(r.n_rungs, 2);
        cr_assert(r.rung[0].rejected > 0 && r.rung[0].rejected + r.rung[1].rejected <= r.counts.rejected);
        cr_assert(isfinite(r.summary[0].mean) && isfinite(r.summary[0].sd) && r.summary[0].mean < 0.5);
        if (how == FLAG)
            first = r;
        cr_assert_eq(memcmp(r.draws.x, first.draws.x, r.draws.n * 2 * sizeof *r.draws.x), 0);
        cr_assert_eq(memcmp(r.summary, first.summary, 2 * sizeof *r.summary), 0);
        if (how != FLAG)
            nf_vi_result_free(&r);
        nf_model_free(start);
        nf_model_free(stage);
        nf_model_free(normal);
        nf_target_free(t);
    }
    nf_vi_result_free(&first);
}

/* A start needs no approximation all of whose draws are taken: one restricted to this side of the wall is exact. */
Test(inference_failures, a_start_goes_up_to_the_wall)
{
    for (size_t k = 0; k < 4; k++) {
        const double ends[] = {2, 1, 0.5, 0.1}, log_z = log(0.5 * erfc(-sqrt(0.5) * ends[k]));
        wall w = {.how = (refusal)(k % REFUSALS), .end = ends[k]};
        nf_target *t = target(&w);
        nf_start_report r;
        nf_model *m = nf_start(t, &(nf_start_options){.seed = 5, .draws = 1000}, &r);
        cr_assert_not_null(m, "%s", nf_error_message());
        cr_assert(r.elbo < log_z + 4 * r.elbo_error && r.elbo > log_z - 0.15, "%g, not %g", r.elbo, log_z);
        cr_assert(r.elbo_error > 0.3 * sqrt(expm1(-log_z) / 1000) && r.elbo_error < 0.1, "%g", r.elbo_error);
        nf_model_free(m);
        nf_target_free(t);
    }
}

/* A target that refuses all: each says so. */
Test(inference_failures, nothing_is_accepted)
{
    for (refusal how = FLAG; how < REFUSALS; how++) {
        wall w = {.how = how, .end = -INFINITY};
        nf_target *t = target(&w);
        nf_model *m = nf_model_of_dist(nf_full_normal(2), NULL);
        nf_vi_result r;
        nf_quality q;
        expect_none(nf_start(t, &start_options, NULL), NF_ETARGET,
                    "(the largest log p is -inf); a draw was rejected: ");
        cr_assert_eq(rejected(t), w.refused);
        nf_stage_options longer = stage_options;
        longer.steps = 300;
        expect_none(nf_stage(t, m, &longer, NULL), NF_ENOTFINITE, "");
        cr_assert_eq(nf_judge(m, t, &judge_options, &q, NULL), NF_OK);
        cr_assert_eq(q.rejected, judge_options.n);
        cr_assert_eq(q.verdict, NF_DO_NOT_TRUST);
        cr_assert(strstr(q.why, "rejects every draw"), "%s", q.why);
        expect(nf_vi(t, &vi_options, &r), NF_ETARGET, "(the largest log p is -inf); a draw was rejected: ");
        cr_assert(!r.model && r.n_rungs == 0 && !r.draws.n);
        cr_assert_eq(rejected(t), w.refused);
        nf_vi_result_free(&r);
        nf_model_free(m);
        nf_target_free(t);
    }
}

/* Runs one of the four; what it has given is released. */
typedef nf_status work(const nf_target *t, const nf_model *m, nf_vi_result *r);

static nf_status given(nf_model *m)
{
    const nf_status st = m ? NF_OK : nf_error_status();
    nf_model_free(m);
    return st;
}

static nf_status start(const nf_target *t, const nf_model *m, nf_vi_result *r)
{
    (void)m, (void)r;
    return given(nf_start(t, &start_options, NULL));
}

static nf_status stage(const nf_target *t, const nf_model *m, nf_vi_result *r)
{
    (void)r;
    return given(nf_stage(t, m, &stage_options, NULL));
}

static nf_status judge(const nf_target *t, const nf_model *m, nf_vi_result *r)
{
    return nf_judge(m, t, &judge_options, &r->quality, &r->draws);
}

static nf_status climb(const nf_target *t, const nf_model *m, nf_vi_result *r)
{
    (void)m;
    return nf_vi(t, &vi_options, r);
}

/* Whichever call fails, the error is the target's own, nothing leaks, and rungs that were climbed before are kept. */
Test(inference_failures, an_error_at_any_call)
{
    work *const each[] = {start, stage, judge, climb};
    nf_model *m = nf_model_of_dist(nf_full_normal(2), NULL);
    for (size_t k = 0; k < sizeof each / sizeof *each; k++) {
        wall w = {.end = END};
        nf_target *t = target(&w);
        nf_vi_result whole = {0};
        cr_assert_eq(each[k](t, m, &whole), NF_OK, "%s", nf_error_message());
        const size_t calls = w.calls;
        size_t rungs = 0, kept = 0;
        cr_assert(calls > 0);
        for (size_t at = 1; at <= calls; at++) {
            nf_vi_result r = {0};
            w = (wall){.end = END, .fails_at = at};
            const size_t before = alloc_live();
            nf_error(NF_OK, "-");
            expect(each[k](t, m, &r), NF_ETARGET, "walled: the wall has fallen");
            cr_assert_eq(w.calls, at, "it ends at once");
            cr_assert(r.n_rungs >= rungs && r.n_rungs <= 2);
            rungs = r.n_rungs;
            if (each[k] == climb) {
                cr_assert_eq(r.model != NULL, rungs > 0);
                cr_assert_eq(r.summary != NULL, rungs > 0);
                cr_assert_eq(r.draws.n, rungs ? vi_options.judge.n : 0);
                cr_assert(rungs == 0 || (isfinite(r.quality.elbo) && isfinite(r.summary[0].mean)));
                cr_assert(rungs == 0 || r.rung[0].quality.elbo == whole.rung[0].quality.elbo);
                kept += rungs > 0;
            }
            nf_vi_result_free(&r);
            cr_assert_eq(alloc_live(), before, "call %zu", at);
        }
        cr_assert(each[k] != climb || (kept > 10 && kept + 10 < calls), "%zu of %zu", kept, calls);
        nf_vi_result_free(&whole);
        nf_target_free(t);
    }
    nf_model_free(m);
}

/* ---- an end that is asked for ---- */

typedef struct end {
    size_t steps, at;
} end;

static int end_of_stage(void *user, const nf_progress *p)
{
    end *e = user;
    (void)p;
    return ++e->steps == e->at;
}

static int end_of_climb(void *user, const nf_vi_progress *p)
{
    (void)p;
    return end_of_stage(user, NULL);
}

/* Whenever it is, there is a judged posterior, and all refused points until then are counted. */
Test(inference_failures, an_end_at_any_step)
{
    wall w = {.end = END};
    nf_target *t = target(&w);
    nf_model *m = nf_model_of_dist(nf_full_normal(2), NULL);
    end e = {.at = SIZE_MAX};
    nf_vi_options o = vi_options;
    o.callback = end_of_climb;
    o.user = &e;
    nf_vi_result r;
    cr_assert_eq(nf_vi(t, &o, &r), NF_OK);
    cr_assert(!r.stopped);
    nf_vi_result_free(&r);
    const size_t all = e.steps;
    cr_assert(all > 100);
    for (size_t at = 1; at <= all; at += at < 5 ? 1 : 7) {
        const size_t before = w.refused;
        e = (end){.at = at};
        cr_assert_eq(nf_vi(t, &o, &r), NF_OK, "%s", nf_error_message());
        cr_assert(r.stopped && r.model && r.n_rungs >= 1);
        cr_assert_eq(e.steps, at, "no step after that");
        cr_assert_eq(r.draws.n, vi_options.judge.n);
        cr_assert(isfinite(r.quality.elbo) && isfinite(r.summary[0].mean));
        cr_assert_eq(r.counts.rejected, w.refused - before);
        nf_vi_result_free(&r);
    }
    for (size_t at = 1; at <= stage_options.steps; at++) {
        nf_stage_options s = stage_options;
        nf_fit_report report;
        e = (end){.at = at};
        s.callback = end_of_stage;
        s.user = &e;
        nf_model *fitted = nf_stage(t, m, &s, &report);
        cr_assert_not_null(fitted, "%s", nf_error_message());
        cr_assert_eq(report.reason, NF_STOP_CALLBACK);
        cr_assert_eq(report.steps, at);
        nf_model_free(fitted);
    }
    nf_model_free(m);
    nf_target_free(t);
}
