/* Summaries of draws: formulas, quantiles, Monte-Carlo errors beside many repetitions, tails, values that are no
   numbers; draws chosen by their weights. */
#include "fail_alloc.h"
#include "support/expect.h"
#include "math/noise.h"
#include <float.h>
#include <gsl/gsl_cdf.h>
#include <math.h>
#include <nflow/importance.h>
#include <stdlib.h>

enum { MOST = 40000 };
static double u[MOST], x[MOST], w[MOST];

static void uniforms(uint64_t seed, size_t n)
{
    nfi_noise_uniform_d(&(nf_noise){.seed = seed, .site = 3}, 1, n, n, u);
}

static nf_summary summarise(size_t n, size_t stride, const double *value, const double *weight)
{
    nf_summary s;
    cr_assert_eq(nf_summarise(n, stride, value, weight, &s), NF_OK, "%s", nf_error_message());
    return s;
}

static void near(double got, double wanted, const char *what)
{
    cr_assert_float_eq(got, wanted, 1e-12 * (1 + fabs(wanted)), "%s: %.15g, not %.15g", what, got, wanted);
}

static void same(const nf_summary *a, const nf_summary *b)
{
    cr_assert_eq(a->n, b->n);
    near(a->ess, b->ess, "ess");
    near(a->mean, b->mean, "mean");
    near(a->mean_error, b->mean_error, "mean_error");
    near(a->sd, b->sd, "sd");
    near(a->sd_error, b->sd_error, "sd_error");
    near(a->min, b->min, "min");
    near(a->max, b->max, "max");
    for (int i = 0; i < NF_QUANTILES; i++) {
        near(a->quantile[i], b->quantile[i], "quantile");
        near(a->quantile_error[i], b->quantile_error[i], "quantile_error");
    }
}

/* ---- formulas ---- */

Test(summary, equal_weights)
{
    static const double value[] = {7, 3, 1, 10, 4, 2, 6, 9, 5, 8}, quantile[] = {1, 3, 5.5, 8, 10}; /* R's type 5 */
    static double table[10][3], weight[10];
    const nf_summary s = summarise(10, 1, value, NULL);
    near(s.mean, 5.5, "mean");
    near(s.sd, sqrt(82.5 / 9), "sd");
    near(s.mean_error, sqrt(82.5 / 9 / 10), "mean_error");
    near(s.ess, 10, "ess");
    cr_assert(s.n == 10 && s.left_out == 0 && s.min == 1 && s.max == 10);
    double sum = 0;
    for (int i = 0; i < 10; i++)
        sum += pow(pow(value[i] - 5.5, 2) - 82.5 / 9, 2);
    near(s.sd_error, sqrt(sum) / 10 / (2 * s.sd), "sd_error");
    for (int i = 0; i < NF_QUANTILES; i++)
        near(s.quantile[i], quantile[i], "quantile");
    /* 5 of 10 draws are at most 5.5, e = 1 / sqrt(40); the quantile function is 10 p + 1/2 */
    near(s.quantile_error[2], 10 / sqrt(40), "quantile_error");
    for (int i = 0; i < 10; i++) {
        table[i][1] = value[i];
        weight[i] = 0.37;
    }
    const nf_summary strided = summarise(10, 3, &table[0][1], weight);
    same(&strided, &s);
}

/* The formulas themselves, with every weight another. */
Test(summary, weights)
{
    enum { N = 300 };
    double sum = 0, mean = 0, ess = 0, v = 0, of_mean = 0, of_sd = 0;
    uniforms(1, 2 * N);
    for (size_t i = 0; i < N; i++) {
        x[i] = 3 + 2.385 * gsl_cdf_ugaussian_Pinv(u[i]);
        sum += w[i] = i % 10 ? u[N + i] : 0;
    }
    const nf_summary s = summarise(N, 1, x, w);
    for (size_t i = 0; i < N; i++) {
        mean += w[i] / sum * x[i];
        ess += pow(w[i] / sum, 2);
    }
    for (size_t i = 0; i < N; i++) {
        v += w[i] / sum * pow(x[i] - mean, 2) / (1 - ess);
        of_mean += pow(w[i] / sum * (x[i] - mean), 2) / (1 - ess);
    }
    for (size_t i = 0; i < N; i++)
        of_sd += pow(w[i] / sum * (pow(x[i] - mean, 2) - v), 2);
    cr_assert(s.n == N - N / 10 && s.left_out == 0);
    near(s.ess, 1 / ess, "ess");
    near(s.mean, mean, "mean");
    near(s.mean_error, sqrt(of_mean), "mean_error");
    near(s.sd, sqrt(v), "sd");
    near(s.sd_error, sqrt(of_sd) / (2 * sqrt(v)), "sd_error");
    for (int k = 0; k < NF_QUANTILES; k++) { /* the share below the quantile is p, to a draw's weight */
        static const double p[] = {0.05, 0.25, 0.5, 0.75, 0.95};
        double below = 0, most = 0;
        for (size_t i = 0; i < N; i++) {
            below += x[i] <= s.quantile[k] ? w[i] / sum : 0;
            most = fmax(most, w[i] / sum);
        }
        cr_assert_float_eq(below, p[k], most);
    }
}

/* A weight of 2 is two draws, where a formula does not ask how many there are. */
Test(summary, a_weight_of_two_is_two_draws)
{
    static const double value[] = {1, 2, 3.5, 4}, weight[] = {1, 2, 1, 2}, twice[] = {1, 2, 2, 3.5, 4, 4};
    const nf_summary s = summarise(4, 1, value, weight), t = summarise(6, 1, twice, NULL);
    near(s.mean, t.mean, "mean");
    near(s.sd * sqrt(1 - 1 / s.ess), t.sd * sqrt(1 - 1.0 / 6), "sd");
    near(s.quantile[2], 2 + 1.5 * 2 / 3, "median"); /* 2 stands at 1/3, 3.5 at 7/12 */
}

/* ---- errors: beside the spread of many repetitions ---- */

/* Repeats a summary of `n` draws of N(0, 1), weighted as draws from N(m, s^2), and compares the errors with those seen.
 */
static void errors_are_right(double m, double s, size_t n, double within)
{
    enum { REPEATS = 400, STATISTICS = 2 + NF_QUANTILES };
    static const double p[] = {0.05, 0.25, 0.5, 0.75, 0.95};
    double mean[STATISTICS] = {0}, square[STATISTICS] = {0}, reported[STATISTICS] = {0};
    for (uint64_t r = 0; r < REPEATS; r++) {
        uniforms(100 + r, n);
        for (size_t i = 0; i < n; i++) {
            x[i] = gsl_cdf_ugaussian_Pinv(u[i]);
            w[i] = exp(x[i] * x[i] / 2 - pow((x[i] - m) / s, 2) / 2);
        }
        const nf_summary t = summarise(n, 1, x, w);
        double e[STATISTICS] = {t.mean - m, t.sd - s}, error[STATISTICS] = {t.mean_error, t.sd_error};
        for (int k = 0; k < NF_QUANTILES; k++) {
            e[2 + k] = t.quantile[k] - m - s * gsl_cdf_ugaussian_Pinv(p[k]);
            error[2 + k] = t.quantile_error[k];
        }
        for (int k = 0; k < STATISTICS; k++) {
            mean[k] += e[k] / REPEATS;
            square[k] += e[k] * e[k] / REPEATS;
            reported[k] += error[k] / REPEATS;
        }
    }
    for (int k = 0; k < STATISTICS; k++) {
        cr_assert_float_eq(sqrt(square[k]) / reported[k], 1, within, "statistic %d: %g beside %g", k, sqrt(square[k]),
                           reported[k]);
        cr_assert_float_eq(mean[k], 0, 0.5 * reported[k], "statistic %d: bias %g beside %g", k, mean[k], reported[k]);
    }
}

Test(summary, errors_without_weights)
{
    errors_are_right(0, 1, 400, 0.15);
}

Test(summary, errors_with_weights)
{
    errors_are_right(0.5, 0.7, 800, 0.15);
}

/* ---- tails ---- */

static nf_summary of_t(uint64_t seed, size_t n, double df)
{
    uniforms(seed, n);
    for (size_t i = 0; i < n; i++)
        x[i] = 100 + 5 * (df > 0 ? gsl_cdf_tdist_Pinv(u[i], df) : gsl_cdf_ugaussian_Pinv(u[i]));
    return summarise(n, 1, x, NULL);
}

/* What the estimate tends to with 10 000 draws: 1 / the mean of log(x / q) beyond the quantile q at 0.97. */
Test(summary, tails_are_told_apart)
{
    enum { N = 10000, SEEDS = 4 };
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        const nf_summary heavy = of_t(seed, N, 1.5), less = of_t(seed, N, 2.5), five = of_t(seed, N, 5),
                         normal = of_t(seed, N, 0);
        cr_assert(heavy.tail_index > 1.1 && heavy.tail_index < 1.8 && heavy.no_variance, "%g", heavy.tail_index);
        cr_assert(less.tail_index > 2 && less.tail_index < 2.7 && !less.no_variance, "%g", less.tail_index);
        cr_assert(five.tail_index > 2.9 && five.tail_index < 4.3 && !five.no_variance, "%g", five.tail_index);
        cr_assert(normal.tail_index > 4.3 && !normal.no_variance, "%g", normal.tail_index);
        cr_assert_leq(normal.tail_index, 6);
    }
    for (uint64_t seed = 0; seed < 50; seed++)
        cr_assert(!of_t(seed, 400, 0).no_variance, "seed %d", (int)seed);
    cr_assert(isnan(of_t(1, 80, 1.5).tail_index));
}

/* The exact tail of a Pareto distribution: the estimate is a, with the error a / sqrt(k). */
Test(summary, the_index_of_one_tail)
{
    enum { N = 40000 };
    for (int side = -1; side <= 1; side += 2) {
        uniforms(7, N);
        for (size_t i = 0; i < N; i++) /* the median is 0 */
            x[i] = u[i] < 0.5 ? side * (2 - 4 * u[i]) : -side * (2 * u[i] - 1);
        cr_assert_gt(summarise(N, 1, x, NULL).tail_index, 9);
        for (size_t i = 0; i < N; i++)
            x[i] = u[i] < 0.5 ? side * (pow(2 * u[i], -1 / 1.7) - 1) : -side * (2 * u[i] - 1);
        const nf_summary s = summarise(N, 1, x, NULL);
        cr_assert_float_eq(s.tail_index, 1.7, 4 * 1.7 / sqrt(600) + 0.1, "%g", s.tail_index);
        cr_assert(s.no_variance);
    }
}

/* Draws from a t with 1.5 degrees of freedom, weighted as those from a t with 3. */
Test(summary, the_index_of_weighted_draws)
{
    enum { N = 40000 };
    uniforms(8, N);
    for (size_t i = 0; i < N; i++) {
        x[i] = gsl_cdf_tdist_Pinv(u[i], 1.5);
        w[i] = pow(1 + x[i] * x[i] / 3, -2) / pow(1 + x[i] * x[i] / 1.5, -1.25);
    }
    const nf_summary s = summarise(N, 1, x, w), raw = summarise(N, 1, x, NULL);
    cr_assert(s.tail_index > 2.5 && s.tail_index < 3.3 && !s.no_variance, "%g", s.tail_index);
    cr_assert(raw.tail_index < 1.7 && raw.no_variance);
}

/* ---- values of every sort ---- */

Test(summary, what_is_no_number_is_left_out)
{
    static const double odd[] = {NAN, 1, INFINITY, 2, -INFINITY, 4, NAN, 3}, plain[] = {1, 2, 4};
    static const double weight[] = {1, 1, 1, 1, 1, 1, 0, 0};
    const nf_summary s = summarise(6, 1, odd, NULL), t = summarise(3, 1, plain, NULL), v = summarise(8, 1, odd, weight);
    same(&s, &t);
    same(&v, &t);
    cr_assert(s.left_out == 3 && v.left_out == 3 && t.left_out == 0);
}

Test(summary, nothing_counts)
{
    const double value[] = {NAN, 2}, weight[] = {1, 0};
    const nf_summary s = summarise(1, 1, value, NULL), t = summarise(2, 1, value, weight);
    cr_assert(s.n == 0 && s.left_out == 1 && t.n == 0 && t.left_out == 1);
    const double numbers[] = {s.ess, s.mean, s.mean_error, s.sd, s.sd_error, s.min, s.max, s.tail_index};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        cr_assert(isnan(numbers[i]), "%zu", i);
    for (int i = 0; i < NF_QUANTILES; i++)
        cr_assert(isnan(s.quantile[i]) && isnan(s.quantile_error[i]));
    cr_assert(!s.no_variance);
}

Test(summary, one_draw_and_equal_draws)
{
    const double value[] = {2.385, 2.385, 2.385};
    const nf_summary s = summarise(1, 1, value, NULL), t = summarise(3, 1, value, NULL);
    cr_assert(s.n == 1 && isnan(s.mean_error) && isnan(s.sd) && isnan(s.sd_error) && isnan(s.tail_index));
    near(s.mean, 2.385, "mean");
    cr_assert_eq(s.quantile[0], 2.385);
    near(t.mean, 2.385, "mean");
    cr_assert_float_eq(t.sd, 0, 1e-15);
    cr_assert_eq(t.quantile[4], 2.385);
    for (int i = 0; i < 1000; i++)
        x[i] = 2.385;
    cr_assert(isnan(summarise(1000, 1, x, NULL).tail_index)); /* both tails begin at the median */
    for (int i = 0; i < 1000; i++)
        x[i] = i < 200 ? -1 : i < 400 ? 1 : i / 1000.0 - 0.7;
    cr_assert_eq(summarise(1000, 1, x, NULL).tail_index, INFINITY); /* all draws of both tails are equal */
}

Test(summary, values_of_any_size)
{
    const double huge[] = {-DBL_MAX, -DBL_MAX / 2, 0, DBL_MAX / 2, DBL_MAX}, unit[] = {-1, -0.5, 0, 0.5, 1};
    const nf_summary s = summarise(5, 1, huge, NULL), t = summarise(5, 1, unit, NULL);
    near(s.sd / DBL_MAX, t.sd, "sd");
    near(s.sd_error / DBL_MAX, t.sd_error, "sd_error");
    near(s.mean_error / DBL_MAX, t.mean_error, "mean_error");
    near(s.quantile[1] / DBL_MAX, t.quantile[1], "quantile");
    near(s.quantile_error[2] / DBL_MAX, t.quantile_error[2], "quantile_error");
    const double tiny[] = {-2e-310, 2e-310}, large[] = {DBL_MAX, DBL_MAX};
    cr_assert_float_eq(summarise(2, 1, tiny, NULL).sd, 2e-310 * sqrt(2), 1e-320);
    cr_assert_float_eq(summarise(2, 1, unit + 3, large).mean, 0.75, 1e-15); /* weights whose sum overflows */
}

/* ---- resampling ---- */

static void resample(size_t n, const double *log_weight, nf_resampling how, uint64_t seed, size_t m, size_t *index)
{
    cr_assert_eq(nf_resample(n, log_weight, how, &(nf_noise){.seed = seed}, m, index), NF_OK, "%s", nf_error_message());
}

static const double four[] = {-INFINITY, 0, 1.5, NAN, -2, 0.25, -INFINITY}; /* of 7 draws, 4 have a weight */

static double share_of(size_t i)
{
    const double sum = 1 + exp(1.5) + exp(-2) + exp(0.25);
    return i == 1 || i == 2 || i == 4 || i == 5 ? exp(four[i]) / sum : 0;
}

Test(summary, systematic_resampling)
{
    enum { M = 1000 };
    size_t index[M], again[M], moved = 0;
    for (uint64_t seed = 0; seed < 5; seed++) {
        resample(7, four, NF_RESAMPLE_SYSTEMATIC, seed, M, index);
        double count[7] = {0};
        for (size_t j = 0; j < M; j++) {
            cr_assert_lt(index[j], 7);
            count[index[j]]++;
            moved += j > 0 && index[j] < index[j - 1];
        }
        for (size_t i = 0; i < 7; i++)
            cr_assert(fabs(count[i] - M * share_of(i)) < 1, "%zu: %g of %g", i, count[i], M * share_of(i));
    }
    cr_assert_gt(moved, 1000); /* shuffled */
    resample(7, four, NF_RESAMPLE_SYSTEMATIC, 4, M, again);
    cr_assert_arr_eq(index, again, sizeof index);
    resample(7, four, NF_RESAMPLE_SYSTEMATIC, 5, M, again);
    cr_assert_neq(memcmp(index, again, sizeof index), 0);
}

/* One choice of few: in many repetitions every draw comes by its share, also where m W is below 1. */
Test(summary, systematic_resampling_is_unbiased)
{
    enum { REPEATS = 20000, M = 2 };
    double count[7] = {0};
    size_t index[M];
    for (uint64_t seed = 0; seed < REPEATS; seed++) {
        resample(7, four, NF_RESAMPLE_SYSTEMATIC, seed, M, index);
        for (size_t j = 0; j < M; j++)
            count[index[j]] += 1.0 / REPEATS;
    }
    for (size_t i = 0; i < 7; i++)
        cr_assert_float_eq(count[i], M * share_of(i), 4 * sqrt(share_of(i) / REPEATS) + 1e-9);
}

Test(summary, multinomial_resampling)
{
    enum { M = 20000 };
    static size_t index[M], again[M];
    double count[7] = {0}, pairs = 0;
    resample(7, four, NF_RESAMPLE_MULTINOMIAL, 1, M, index);
    for (size_t j = 0; j < M; j++) {
        count[index[j]]++;
        pairs += j > 0 && index[j] == 2 && index[j - 1] == 2;
    }
    for (size_t i = 0; i < 7; i++) {
        const double p = share_of(i);
        cr_assert_float_eq(count[i], M * p, 4 * sqrt(M * p * (1 - p)) + 1e-9, "%zu: %g", i, count[i]);
    }
    cr_assert_float_eq(pairs / M, pow(share_of(2), 2), 0.02); /* independent of the one before */
    resample(7, four, NF_RESAMPLE_MULTINOMIAL, 1, M, again);
    cr_assert_arr_eq(index, again, sizeof index);
}

/* The first choice is draw i with probability W_i, the second j with W_j / (1 - W_i). */
Test(summary, distinct_resampling)
{
    enum { REPEATS = 20000 };
    double first[7] = {0}, second[7] = {0};
    size_t index[4];
    for (uint64_t seed = 0; seed < REPEATS; seed++) {
        resample(7, four, NF_RESAMPLE_DISTINCT, seed, 4, index);
        size_t seen = 0;
        for (size_t j = 0; j < 4; j++)
            seen |= (size_t)1 << index[j];
        cr_assert_eq(seen, 2 + 4 + 16 + 32); /* each of the four once */
        first[index[0]] += 1.0 / REPEATS;
        second[index[1]] += index[0] == 2 ? 1 / (share_of(2) * REPEATS) : 0;
    }
    for (size_t i = 0; i < 7; i++) {
        cr_assert_float_eq(first[i], share_of(i), 4 * sqrt(share_of(i) / REPEATS) + 1e-9);
        const double p = i == 2 ? 0 : share_of(i) / (1 - share_of(2));
        cr_assert_float_eq(second[i], p, 6 * sqrt(p / REPEATS) + 1e-9, "%zu: %g, not %g", i, second[i], p);
    }
    const double far[] = {-2000, 0, -1000}; /* weights that are 0 in double beside the largest */
    resample(3, far, NF_RESAMPLE_DISTINCT, 1, 3, index);
    cr_assert(index[0] == 1 && index[1] == 2 && index[2] == 0);
}

/* The weights turn draws from N(0, 1) into draws from N(0.5, 0.7^2), resampled ones too. */
Test(summary, resampled_draws_are_the_targets)
{
    enum { N = 20000, M = 10000 };
    static size_t index[M];
    static double y[M];
    nf_psis_report r;
    uniforms(12, N);
    for (size_t i = 0; i < N; i++) {
        x[i] = gsl_cdf_ugaussian_Pinv(u[i]);
        w[i] = x[i] * x[i] / 2 - pow((x[i] - 0.5) / 0.7, 2) / 2;
    }
    cr_assert_eq(nf_psis(N, w, w, &r), NF_OK);
    for (int how = NF_RESAMPLE_SYSTEMATIC; how <= NF_RESAMPLE_MULTINOMIAL; how++) {
        resample(N, w, (nf_resampling)how, 3, M, index);
        for (size_t j = 0; j < M; j++)
            y[j] = x[index[j]];
        const nf_summary s = summarise(M, 1, y, NULL);
        cr_assert_float_eq(s.mean, 0.5, 0.035);
        cr_assert_float_eq(s.sd, 0.7, 0.035);
        cr_assert_float_eq(s.quantile[0], 0.5 - 0.7 * 1.6449, 0.06);
    }
}

/* ---- refusals ---- */

Test(summary, arguments)
{
    const double two[] = {1, 2}, none[] = {-INFINITY, NAN};
    size_t index[4];
    nf_summary s;
    const nf_noise noise = {.seed = 1};
    expect(nf_summarise(2, 1, NULL, NULL, &s), NF_EARG, "nf_summarise: `value` is NULL");
    expect(nf_summarise(2, 1, two, NULL, NULL), NF_EARG, "nf_summarise: `s` is NULL");
    expect(nf_summarise(0, 1, two, NULL, &s), NF_EARG, "nf_summarise: `n` is 0");
    expect(nf_summarise(2, 0, two, NULL, &s), NF_EARG, "nf_summarise: `stride` is 0");
    expect(nf_summarise(2, 1, two, (double[]){1, -2.5}, &s), NF_EARG, "nf_summarise: weight 1 is -2.5");
    expect(nf_summarise(2, 1, two, (double[]){NAN, 1}, &s), NF_EARG, "nf_summarise: weight 0 is ");
    expect(nf_summarise(2, 1, two, (double[]){1, INFINITY}, &s), NF_EARG, "nf_summarise: weight 1 is inf");
    expect(nf_resample(2, NULL, NF_RESAMPLE_DISTINCT, &noise, 1, index), NF_EARG, "`log_weight` is NULL");
    expect(nf_resample(2, two, NF_RESAMPLE_DISTINCT, NULL, 1, index), NF_EARG, "`noise` is NULL");
    expect(nf_resample(2, two, NF_RESAMPLE_DISTINCT, &noise, 1, NULL), NF_EARG, "`index` is NULL");
    expect(nf_resample(0, two, NF_RESAMPLE_DISTINCT, &noise, 1, index), NF_EARG, "nf_resample: `n` is 0");
    expect(nf_resample(2, two, NF_RESAMPLE_DISTINCT, &noise, 0, index), NF_EARG, "nf_resample: `m` is 0");
    expect(nf_resample(2, two, (nf_resampling)3, &noise, 1, index), NF_EARG, "unknown way to resample, 3");
    expect(nf_resample(2, none, NF_RESAMPLE_SYSTEMATIC, &noise, 1, index), NF_EARG, "none of 2 weights is above 0");
    expect(nf_resample(2, two, NF_RESAMPLE_DISTINCT, &noise, 3, index), NF_EARG,
           "3 distinct draws of 2 whose weight is above 0");
}

Test(summary, failing_allocations)
{
    nf_summary s;
    size_t index[3], failures[4];
    for (int which = 0; which < 4; which++) {
        size_t k = 0;
        for (;; k++) {
            const size_t before = alloc_live();
            fail_alloc_after(k);
            const nf_status status = which == 3
                                         ? nf_summarise(3, 1, four + 4, NULL, &s)
                                         : nf_resample(7, four, (nf_resampling)which, &(nf_noise){.seed = 1}, 3, index);
            const bool failed = fail_alloc_off();
            cr_assert_eq(alloc_live(), before);
            if (!failed)
                break;
            cr_assert_eq(status, NF_ENOMEM);
        }
        failures[which] = k;
    }
    cr_assert(failures[0] == 2 && failures[1] == 2 && failures[2] == 3 && failures[3] == 2);
}
