/*
 * Every family of posteriors on correlated normals of two and five dimensions, whose log Z is known. All but the
 * mean-field normal contain them, since a full affine map is on top of each flow. The best mean-field normal has the
 * deviations 1 / sqrt(P_ii), P being the inverse of the covariance C, and its ELBO is below log Z by
 *
 *     KL = (sum_i log P_ii + log det C) / 2.
 */
#include "expect.h"
#include <math.h>
#include <nflow/nflow.h>

static const bool exact = sizeof(nf_real) == 8;
enum { MOST = 5, FAMILIES = NF_FAMILY_RESIDUAL + 1 };
static const double level = 3; /* the density is e^3 times this without its constants: exp(3 - |A (x - m)|^2 / 2) */

/* A, lower triangular: unit diagonals times scales, and what correlates. P = A^T A. */
static double a_of(size_t i, size_t j)
{
    static const double scale[MOST] = {1.5, 0.7, 2, 0.5, 1};
    return i == j ? scale[i] : j > i ? 0 : (i + j) % 2 ? 0.6 : -0.4;
}

static double mean_of(size_t i)
{
    return 0.5 - 0.4 * (double)i;
}

static int correlated(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad,
                      unsigned char *rejected)
{
    (void)user, (void)rejected;
    for (size_t s = 0; s < n; s++) {
        double z[MOST];
        log_p[s] = level;
        for (size_t i = 0; i < d; i++) {
            z[i] = 0;
            for (size_t j = 0; j <= i; j++)
                z[i] += a_of(i, j) * (x[s * d + j] - mean_of(j));
            log_p[s] -= 0.5 * z[i] * z[i];
        }
        for (size_t j = 0; j < d && grad; j++) {
            grad[s * d + j] = 0;
            for (size_t i = j; i < d; i++)
                grad[s * d + j] -= a_of(i, j) * z[i];
        }
    }
    return 0;
}

static double log_z(size_t d)
{
    double sum = level + 0.5 * (double)d * log(2 * acos(-1.0));
    for (size_t i = 0; i < d; i++)
        sum -= log(a_of(i, i));
    return sum;
}

static double mean_field_loss(size_t d)
{
    double sum = 0;
    for (size_t j = 0; j < d; j++) {
        double p = 0;
        for (size_t i = j; i < d; i++)
            p += a_of(i, j) * a_of(i, j);
        sum += 0.5 * log(p) - log(a_of(j, j));
    }
    return sum;
}

/* Steps that are enough, and how far below its best a family may stay: flows have parameters that do nothing but noise
   here, and residual flows and FFJORD are slow. */
static const struct {
    uint64_t steps;
    double bound;
} families[FAMILIES] = {
    [NF_FAMILY_MEAN_FIELD] = {400, 0.01}, [NF_FAMILY_LOW_RANK] = {400, 0.01}, [NF_FAMILY_FULL_RANK] = {400, 0.005},
    [NF_FAMILY_PLANAR] = {400, 0.03},     [NF_FAMILY_RADIAL] = {400, 0.03},   [NF_FAMILY_SYLVESTER] = {400, 0.03},
    [NF_FAMILY_IAF] = {400, 0.03},        [NF_FAMILY_REALNVP] = {400, 0.03},  [NF_FAMILY_NSF] = {1000, 0.05},
    [NF_FAMILY_FFJORD] = {100, 0.05},     [NF_FAMILY_RESIDUAL] = {200, 0.03},
};

Test(families, attain_the_evidence_of_correlated_normals)
{
    static const size_t dims[] = {2, MOST};
    for (size_t k = 0; k < 2; k++) {
        const size_t d = dims[k];
        nf_target *t = nf_target_callback(d, correlated, NULL, NF_THREADSAFE);
        nf_model *whitening = nf_model_of_dist(nf_full_normal(d), NULL); /* N(0, I): the stage has all to learn */
        cr_assert_not_null(whitening, "%s", nf_error_message());
        for (size_t f = NF_FAMILY_MEAN_FIELD; f < FAMILIES; f++) {
            const double best = log_z(d) - (f == NF_FAMILY_MEAN_FIELD ? mean_field_loss(d) : 0);
            nf_quality q;
            nf_model *m =
                nf_stage(t, whitening,
                         &(nf_stage_options){
                             .family = (nf_family)f, .steps = families[f].steps, .draws = 64, .seed = 7, .threads = 1},
                         NULL);
            cr_assert_not_null(m, "family %zu, %zu dimensions: %s", f, d, nf_error_message());
            cr_assert_eq(nf_judge(m, t, &(nf_judge_options){.seed = 2}, &q, NULL), NF_OK);
            const double round = exact ? 1e-9 : 2e-3, error = 3 * q.elbo_error + round;
            cr_assert(q.elbo <= best + error, "family %zu, %zu dimensions: ELBO %.4f +- %.4f is above %.4f", f, d,
                      q.elbo, q.elbo_error, best);
            cr_assert(q.elbo >= best - families[f].bound - error,
                      "family %zu, %zu dimensions: ELBO %.4f +- %.4f is below %.4f", f, d, q.elbo, q.elbo_error, best);
            nf_model_free(m);
        }
        nf_model_free(whitening);
        nf_target_free(t);
    }
}
