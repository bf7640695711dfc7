/*
 * Inference on densities whose integrals are known (examples/bayes: shapes.c, normals.c). An ELBO is never above ln Z
 * by more than chance; a family that has the posterior attains it; and the verdict says what is so.
 */
#include "bayes_models.h"
#include "numbers.h"

static const bool exact = sizeof(nf_real) == 8;

typedef struct known {
    const char *name;
    size_t rungs;
    double steps;       /* a factor */
    double least;       /* what the ELBO is above, from ln Z on */
    double near;        /* ln Z by weights is no farther from ln Z */
    nf_verdict verdict; /* or a better one */
    uint64_t stage;     /* steps of the families */
} known;

/* The normal ones are attained. Of t with 1.5 degrees nothing is wrong but the tails. No smooth map makes a ring of the
   plane: there is a cut with too few draws, and k-hat is about at its limit. So it is in one fit of eight of the
   banana, far out where its ends are thin. */
static const known targets[] = {
    {"conjugate", 0, 1, -1e-3, 1e-3, NF_TRUST, 100},        {"ill_conditioned", 0, 1, -1e-3, 1e-3, NF_TRUST, 60},
    {"hierarchical", 2, 0.5, -0.3, 0.1, NF_USE_WEIGHTS, 5}, {"funnel", 3, 0.5, -0.05, 0.1, NF_USE_WEIGHTS, 100},
    {"banana", 3, 1, -0.01, 0.01, NF_DO_NOT_TRUST, 100},    {"student_t", 3, 1, -0.1, 0.1, NF_DO_NOT_TRUST, 100},
    {"ring", 2, 1, -0.2, 0.1, NF_DO_NOT_TRUST, 100},
};
enum { TARGETS = sizeof targets / sizeof *targets };

/* A thousand dimensions take most of the time, and their code is the same in float and under sanitizers. There a climb
   of three rungs is long, too. */
static bool is_too_much(const known *k)
{
    const bool many = strcmp(k->name, "hierarchical") == 0, high = strcmp(k->name, "funnel") == 0;
    return NFLOW_THIN ? many || high : many && !exact;
}

static nf_target *target_of(const known *k, double *log_z)
{
    const bayes_model *m = bayes_find(k->name);
    nf_target *t = m ? bayes_target(m, NULL) : NULL;
    cr_assert_not_null(t, "%s", nf_error_message());
    *log_z = bayes_log_z(m, NULL);
    return t;
}

/* Calls `check` for each target that is not too much. */
static void for_each_target(void (*check)(const known *k, const nf_target *t, double log_z))
{
    for (const known *k = targets; k < targets + TARGETS; k++) {
        if (is_too_much(k))
            continue;
        double log_z;
        nf_target *t = target_of(k, &log_z);
        check(k, t, log_z);
        nf_target_free(t);
    }
}

/* Rounding of log p and log q, of which in float the latter has the error. */
static double rounding(const nf_target *t, double log_z)
{
    return exact ? 1e-9 * (1 + fabs(log_z)) : 1e-4 * (double)nf_target_dim(t) + 1e-6 * fabs(log_z);
}

static void is_no_bound_broken(const known *k, const char *of, const nf_quality *q, double log_z, double error)
{
    cr_expect(q->elbo < log_z + 3 * q->elbo_error + error, "%s, %s: the ELBO is %.6f +- %.6f, but ln Z %.6f", k->name,
              of, q->elbo, q->elbo_error, log_z);
}

/* A tenth of the steps will do under sanitizers, after which the bounds alone hold. */
static void climb(const known *k, const nf_target *t, double log_z)
{
    const double error = rounding(t, log_z), steps = NFLOW_THIN ? 0.1 * k->steps : k->steps;
    nf_vi_result r;
    cr_assert_eq(nf_vi(t, &(nf_vi_options){.seed = 1, .rungs = k->rungs, .steps = steps, .threads = 1}, &r), NF_OK,
                 "%s", nf_error_message());
    const nf_quality *q = &r.quality;
    for (size_t j = 0; j < r.n_rungs; j++)
        is_no_bound_broken(k, r.rung[j].name, &r.rung[j].quality, log_z, error);
    if (NFLOW_THIN) {
        nf_vi_result_free(&r);
        return;
    }
    cr_expect(q->elbo > log_z + k->least - 3 * q->elbo_error - error, "%s: %.6f", k->name, q->elbo - log_z);
    cr_expect(fabs(q->log_z - log_z) < k->near + error, "%s: %.6f", k->name, q->log_z - log_z);
    cr_expect(q->verdict <= k->verdict, "%s: %s: %s", k->name, nf_verdict_text(q->verdict), q->why);
    if (k->verdict < NF_DO_NOT_TRUST)
        cr_expect(q->k_hat < 0.7, "%s: %g", k->name, q->k_hat);
    nf_vi_result_free(&r);
}

Test(known_targets, the_ladder)
{
    for_each_target(climb);
}

/* After few steps, when there is something left to be wrong about. */
static void fit_each_family(const known *k, const nf_target *t, double log_z)
{
    static const nf_family families[] = {NF_FAMILY_MEAN_FIELD, NF_FAMILY_LOW_RANK, NF_FAMILY_FULL_RANK,
                                         NF_FAMILY_REALNVP, NF_FAMILY_IAF};
    static const char *const name[] = {"mean-field", "low-rank", "full-rank", "Real NVP", "IAF"};
    nf_model *start = nf_start(t, &(nf_start_options){.seed = 1}, NULL);
    cr_assert_not_null(start, "%s: %s", k->name, nf_error_message());
    for (size_t j = 0; j < sizeof families / sizeof *families; j++) {
        const nf_stage_options o = {
            .family = families[j], .steps = k->stage, .draws = 32, .layers = 3, .seed = 1, .threads = 1};
        nf_model *m = nf_stage(t, start, &o, NULL);
        cr_assert_not_null(m, "%s, %s: %s", k->name, name[j], nf_error_message());
        nf_quality q;
        cr_assert_eq(nf_judge(m, t, &(nf_judge_options){.n = 2000, .seed = 1}, &q, NULL), NF_OK);
        cr_expect(isfinite(q.elbo), "%s, %s", k->name, name[j]);
        is_no_bound_broken(k, name[j], &q, log_z, rounding(t, log_z));
        nf_model_free(m);
    }
    nf_model_free(start);
}

Test(known_targets, no_family_promises_too_much)
{
    for_each_target(fit_each_family);
}

/* The mean-field approximation of a density that grows without bound, where all thousand effects are their mean. */
Test(known_targets, many_effects_are_found_by_the_start)
{
    double log_z;
    nf_target *t = target_of(&targets[2], &log_z);
    nf_start_report r;
    nf_model *m = nf_start(t, &(nf_start_options){.seed = 1}, &r);
    cr_assert_not_null(m, "%s", nf_error_message());
    cr_expect(r.elbo > log_z - 2.5 && r.elbo < log_z + 3 * r.elbo_error, "%g, of %g", r.elbo, log_z);
    cr_expect(!r.laplace);
    cr_expect_float_eq((double)nf_model_theta(m)[1], log(0.7), 0.1, "log tau");
    nf_model_free(m);
    nf_target_free(t);
}
