/* Noise: Random123's known answers, names and words, invariance to the cutting of batches, moments, distribution and
   independence by fixed-seed statistics in standard errors, and the GSL generator. */
#include "math/noise.h"
#include <criterion/criterion.h>
#include <gsl/gsl_cdf.h>
#include <gsl/gsl_sort.h>
#include <math.h>
#include <nflow/gsl.h>
#include <stdlib.h>
#include <string.h>

enum { N = 100000 };
typedef void draw_fn(const nf_noise *noise, size_t dim, size_t n, size_t ld, nf_real *out);
static draw_fn *const draws[] = {nf_noise_normal, nf_noise_uniform};

Test(noise, known_answers)
{
    static const uint32_t cases[][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, 0x408f276d, 0x41c83b0e, 0xa20bc7c6,
         0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420,
         0x24126ea1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t out[4];
        nf_philox(cases[i], cases[i] + 4, out);
        cr_assert_arr_eq(out, cases[i] + 6, sizeof out);
    }
}

/* The two uniforms of a block, from its words. */
static void pair_of(const uint32_t counter[4], const uint32_t key[2], long double u[2])
{
    uint32_t w[4];
    nf_philox(counter, key, w);
    for (int i = 0; i < 2; i++) {
        uint64_t m = (w[2 * i] | (uint64_t)w[2 * i + 1] << 32) >> 12;
        u[i] = ldexpl(2 * (long double)m + 1, -53);
    }
}

/* x is the reference, computed in double and rounded to nf_real. */
static void assert_rounded(nf_real x, long double reference)
{
    double wobble = 4e-15; /* of a double near 9 */
#ifdef NF_SINGLE
    double half_ulp = fabs((double)reference) * 0x1p-24;
    cr_assert_leq(fabsl(x - reference), half_ulp + wobble);
#else
    cr_assert_leq(fabsl(x - reference), wobble);
#endif
}

Test(noise, words_become_numbers)
{
    const nf_noise noise = {0x8d3c52f1a6b47e09, 91731, 58121, 17, NULL};
    const uint32_t key[2] = {0xa6b47e09, 0x8d3c52f1};
    enum { dim = 5, n = 301, ld = 304 };
    static nf_real normal[dim * ld], uniform[dim * ld];
    nf_noise_normal(&noise, dim, n, ld, normal);
    nf_noise_uniform(&noise, dim, n, ld, uniform);
    for (uint32_t row = 0; row < dim; row++)
        for (uint32_t s = 0; s < n; s++) {
            long double u[2], turn;
            pair_of((uint32_t[]){58121 + s, row / 2, 17, 91731}, key, u);
            turn = 2 * acosl(-1) * u[1];
            assert_rounded(uniform[row * ld + s], u[row % 2]);
            assert_rounded(normal[row * ld + s], sqrtl(-2 * logl(u[0])) * (row % 2 ? sinl(turn) : cosl(turn)));
        }
}

/* One sample of one tile against the same sample drawn alone. */
static void assert_same_alone(draw_fn *draw, const nf_noise *noise, size_t dim, size_t ld, const nf_real *tile,
                              size_t s)
{
    nf_noise one = *noise;
    one.first_sample += s;
    nf_real alone[8];
    draw(&one, dim, 1, 1, alone);
    for (size_t row = 0; row < dim; row++)
        cr_assert_eq(tile[row * ld + s], alone[row], "sample %zu, feature %zu", s, row);
}

Test(noise, cutting_and_padding_do_not_matter)
{
    const nf_noise noise = {4711, 3, 1009, 5, NULL};
    static const size_t sizes[][2] = {{1, 1}, {1, 16}, {15, 16}, {100, 112}, {257, 272}, {700, 701}};
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (size_t dim = 1; dim <= 5; dim += 2) {
                size_t n = sizes[i][0], ld = sizes[i][1];
                nf_real *tile = calloc(dim * ld + 1, sizeof *tile);
                tile[dim * ld] = (nf_real)2.385;
                draws[k](&noise, dim, n, ld, tile);
                for (size_t s = 0; s < n; s++)
                    assert_same_alone(draws[k], &noise, dim, ld, tile, s);
                for (size_t row = 0; row < dim; row++)
                    for (size_t s = n; s < ld; s++)
                        cr_assert_eq(tile[row * ld + s], tile[row * ld + n - 1]);
                cr_assert_eq(tile[dim * ld], (nf_real)2.385);
                free(tile);
            }
}

Test(noise, two_halves_are_the_whole)
{
    const nf_noise noise = {97, 8, 0, 2, NULL}, second = {97, 8, 50, 2, NULL};
    enum { dim = 3 };
    nf_real whole[dim * 112], half[2][dim * 64];
    nf_noise_normal(&noise, dim, 100, 112, whole);
    nf_noise_normal(&noise, dim, 50, 64, half[0]);
    nf_noise_normal(&second, dim, 50, 64, half[1]);
    for (size_t row = 0; row < dim; row++)
        for (size_t s = 0; s < 100; s++)
            cr_assert_eq(whole[row * 112 + s], half[s / 50][row * 64 + s % 50]);
}

/* Sample numbers run on through 2^32, and the high words of sample and step count. */
Test(noise, beyond_32_bits)
{
    const nf_noise noise = {331, 12, (UINT64_C(7) << 32) - 37, 1, NULL};
    static nf_real tile[3 * 112], other[3 * 112];
    nf_noise_normal(&noise, 3, 100, 112, tile);
    for (size_t s = 0; s < 100; s++)
        assert_same_alone(nf_noise_normal, &noise, 3, 112, tile, s);
    nf_noise changed[] = {noise, noise, noise};
    changed[0].first_sample += UINT64_C(1) << 32;
    changed[1].step += UINT64_C(1) << 32;
    changed[2].seed += UINT64_C(1) << 32;
    for (int i = 0; i < 3; i++) {
        nf_noise_normal(&changed[i], 3, 100, 112, other);
        for (size_t s = 0; s < 100; s++)
            cr_assert_neq(other[s], tile[s]);
    }
}

/* Mean of f(x) within 5 standard errors of mu, sd being f(x)'s standard deviation. */
static void assert_mean(double sum, double mu, double sd, const char *what)
{
    double z = (sum / N - mu) / sd * sqrt(N);
    cr_assert_lt(fabs(z), 5, "%s: %.2f standard errors", what, z);
}

Test(noise, moments)
{
    enum { dim = 3 };
    static nf_real x[dim * N];
    nf_noise_normal(&(nf_noise){.seed = 20, .site = 4}, dim, N, N, x);
    for (size_t row = 0; row < dim; row++) {
        double m1 = 0, m2 = 0, m3 = 0, m4 = 0;
        for (size_t s = 0; s < N; s++) {
            double v = x[row * N + s];
            m1 += v;
            m2 += v * v;
            m3 += v * v * v;
            m4 += v * v * v * v;
        }
        assert_mean(m1, 0, 1, "normal, mean");
        assert_mean(m2, 1, sqrt(2), "normal, second moment");
        assert_mean(m3, 0, sqrt(15), "normal, third moment");
        assert_mean(m4, 3, sqrt(96), "normal, fourth moment");
    }
    nf_noise_uniform(&(nf_noise){.seed = 20, .site = 4}, dim, N, N, x);
    for (size_t row = 0; row < dim; row++) {
        double m1 = 0, m2 = 0;
        for (size_t s = 0; s < N; s++) {
            double v = x[row * N + s] - 0.5;
            m1 += v;
            m2 += v * v;
        }
        assert_mean(m1, 0, sqrt(1. / 12), "uniform, mean");
        assert_mean(m2, 1. / 12, sqrt(1. / 180), "uniform, variance");
    }
}

/* Normals: products and products of (centred) squares have mean 0. */
static void assert_independent(const nf_real *x, const nf_real *y, size_t n, const char *what)
{
    double first = 0, second = 0, scale = sqrt((double)n / N);
    for (size_t s = 0; s < n; s++) {
        double a = x[s], b = y[s];
        first += a * b;
        second += (a * a - 1) * (b * b - 1);
    }
    assert_mean(first, 0, scale, what);
    assert_mean(second, 0, 2 * scale, what);
}

Test(noise, names_are_independent)
{
    const nf_noise noise = {1, 1, 1, 1, NULL};
    enum { dim = 4 };
    static nf_real x[dim * N], y[N];
    nf_noise_normal(&noise, dim, N, N, x);
    for (size_t row = 1; row < dim; row++)
        assert_independent(x, x + row * N, N, "features");
    assert_independent(x + N, x + 2 * N, N, "features of two blocks");
    assert_independent(x, x + 1, N - 1, "neighbouring samples");
    assert_independent(x, x + 2, N - 2, "samples two apart");
    const nf_noise others[] = {
        {2, 1, 1, 1, NULL},
        {1, 2, 1, 1, NULL},
        {1, 1, 1, 2, NULL},
        {1 + (UINT64_C(1) << 32), 1, 1, 1, NULL},
        {1, 1 + (UINT64_C(1) << 32), 1, 1, NULL},
    };
    static const char *const what[] = {"seeds", "sites", "steps", "high seeds", "high steps"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        nf_noise_normal(&others[i], 1, N, N, y);
        assert_independent(x, y, N, what[i]);
    }
}

/* Kolmogorov and Smirnov's distance times sqrt(N); P(> 1.95) = 0.001. */
static double kolmogorov(const nf_real *x, double (*cdf)(double))
{
    static double v[N];
    for (size_t s = 0; s < N; s++)
        v[s] = x[s];
    gsl_sort(v, 1, N);
    double d = 0;
    for (size_t s = 0; s < N; s++) {
        double f = cdf(v[s]);
        d = fmax(d, fmax(f - (double)s / N, ((double)s + 1) / N - f));
    }
    return d * sqrt(N);
}

static double unit_cdf(double u)
{
    return u;
}

Test(noise, distributions)
{
    static nf_real x[2 * N];
    nf_noise_normal(&(nf_noise){.seed = 1234}, 2, N, N, x);
    cr_assert_lt(kolmogorov(x, gsl_cdf_ugaussian_P), 1.95);
    cr_assert_lt(kolmogorov(x + N, gsl_cdf_ugaussian_P), 1.95);
    nf_noise_uniform(&(nf_noise){.seed = 1234}, 2, N, N, x);
    cr_assert_lt(kolmogorov(x, unit_cdf), 1.95);
    cr_assert_lt(kolmogorov(x + N, unit_cdf), 1.95);
}

/* In float about four of these 2^27 would round to 1. */
Test(noise, uniforms_stay_inside)
{
    enum { n = 1 << 20 };
    nf_real *x = malloc(2 * n * sizeof *x), low = 1, high = 0;
    for (uint64_t step = 0; step < 64; step++) {
        nf_noise_uniform(&(nf_noise){.seed = 5, .step = step}, 2, n, n, x);
        for (size_t i = 0; i < 2 * n; i++) {
            low = x[i] < low ? x[i] : low;
            high = x[i] > high ? x[i] : high;
        }
    }
    free(x);
    cr_assert(low > 0 && high < 1);
    cr_assert(low < 1e-6 && high > 1 - (nf_real)1e-6);
}

/* What distributions with tails draw from: the same numbers before rounding, odd multiples of 2^-53 below 1. */
Test(noise, wide_uniforms_are_the_unrounded_ones)
{
    const nf_noise noise = {0x8d3c52f1a6b47e09, 91731, 58121, 17, NULL};
    enum { dim = 3, n = 301, ld = 304 };
    static double wide[dim * ld];
    static nf_real rounded[dim * ld];
    nfi_noise_uniform_d(&noise, dim, n, ld, wide);
    nf_noise_uniform(&noise, dim, n, ld, rounded);
    for (size_t i = 0; i < dim * ld; i++) {
        const double m = ldexp(wide[i], 53);
        cr_assert(wide[i] > 0 && wide[i] < 1 && fmod(m, 2) == 1, "%.17g", wide[i]);
        cr_assert_eq((nf_real)wide[i], rounded[i]);
        if (i % ld >= n)
            cr_assert_eq(wide[i], wide[i / ld * ld + n - 1], "padding");
    }
}

Test(noise, permutations)
{
    enum { n = 5, orders = 120, trials = 60000 };
    static int count[n * n * n * n * n];
    size_t p[n], fixed = 0, q[1000], r[1000];
    for (uint64_t step = 0; step < trials; step++) {
        nf_noise_permutation(&(nf_noise){.seed = 9, .step = step}, n, p);
        size_t code = 0, seen = 0;
        for (size_t i = 0; i < n; i++) {
            cr_assert_lt(p[i], (size_t)n);
            code = code * n + p[i];
            seen |= (size_t)1 << p[i];
            fixed += p[i] == i;
        }
        cr_assert_eq(seen, (1U << n) - 1);
        count[code]++;
    }
    double chi2 = 0, expected = (double)trials / orders;
    int different = 0;
    for (size_t i = 0; i < sizeof count / sizeof *count; i++)
        if (count[i]) {
            chi2 += (count[i] - expected) * (count[i] - expected) / expected;
            different++;
        }
    cr_assert_eq(different, orders);
    cr_assert_lt(fabs(chi2 - (orders - 1)), 5 * sqrt(2. * (orders - 1)), "chi^2 %g", chi2);
    cr_assert_lt(fabs((double)fixed / trials - 1), 5 / sqrt(trials));
    nf_noise_permutation(&(nf_noise){1, 2, 3, 4, NULL}, 1000, q);
    nf_noise_permutation(&(nf_noise){1, 2, 77, 4, NULL}, 1000, r);
    cr_assert_arr_eq(q, r, sizeof q);
    const nf_noise others[] = {
        {2, 2, 3, 4, NULL}, {1, 3, 3, 4, NULL}, {1, 2, 3, 5, NULL}, {1, 2 + (UINT64_C(1) << 32), 3, 4, NULL}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        nf_noise_permutation(&others[i], 1000, r);
        cr_assert_arr_neq(q, r, sizeof q);
    }
    nf_noise_permutation(&(nf_noise){.seed = 1}, 1, q);
    cr_assert_eq(q[0], 0);
    nf_noise_permutation(&(nf_noise){.seed = 1}, 0, NULL);
}

Test(gsl, sequence)
{
    gsl_rng *r = gsl_rng_alloc(nf_gsl_philox());
    static const uint32_t zero[] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    for (int i = 0; i < 4; i++)
        cr_assert_eq(gsl_rng_get(r), zero[i]);
    const unsigned long seed = 0x8d3c52f1a6b47e09;
    gsl_rng_set(r, seed);
    for (uint32_t block = 0; block < 100; block++) {
        uint32_t w[4];
        nf_philox((uint32_t[]){0, block, 0, 0}, (uint32_t[]){0xa6b47e09, 0x8d3c52f1}, w);
        for (int i = 0; i < 4; i++)
            cr_assert_eq(gsl_rng_get(r), w[i]);
    }
    cr_assert_eq(gsl_rng_min(r), 0);
    cr_assert_eq(gsl_rng_max(r), UINT32_MAX);
    gsl_rng_free(r);
}

Test(gsl, clones_files_and_doubles)
{
    gsl_rng *r = gsl_rng_alloc(nf_gsl_philox()), *read = gsl_rng_alloc(nf_gsl_philox());
    gsl_rng_set(r, 77);
    for (int i = 0; i < 6; i++)
        gsl_rng_get(r); /* into the middle of a block */
    gsl_rng *clone = gsl_rng_clone(r);
    FILE *f = tmpfile();
    cr_assert_eq(gsl_rng_fwrite(f, r), 0);
    rewind(f);
    cr_assert_eq(gsl_rng_fread(f, read), 0);
    fclose(f);
    for (int i = 0; i < 100; i++) {
        unsigned long word = gsl_rng_get(r);
        cr_assert_eq(gsl_rng_uniform(clone), (double)word / 4294967296.);
        cr_assert_eq(gsl_rng_get(read), word);
    }
    gsl_rng_free(r);
    gsl_rng_free(clone);
    gsl_rng_free(read);
}

/* After a seek the words are those of the sample's features. */
Test(gsl, seek)
{
    gsl_rng *r = gsl_rng_alloc(nf_gsl_philox());
    const nf_noise names[] = {{31, 41, 59, 26, NULL}, {53, UINT64_C(58) << 32, 97 + (UINT64_C(9) << 32), 3, NULL}};
    for (int k = 0; k < 2; k++) {
        nf_real u[6];
        nf_noise_uniform(&names[k], 6, 1, 1, u);
        gsl_rng_get(r);
        cr_assert_eq(nf_gsl_philox_seek(r, &names[k]), NF_OK);
        for (int i = 0; i < 6; i++) {
            uint64_t low = gsl_rng_get(r), number = low | (uint64_t)gsl_rng_get(r) << 32;
            assert_rounded(u[i], ldexpl(2 * (long double)(number >> 12) + 1, -53));
        }
    }
    gsl_rng_free(r);
}

Test(gsl, seek_refuses)
{
    const nf_noise noise = {1, 2, 3, 4, NULL};
    cr_assert_eq(nf_gsl_philox_seek(NULL, &noise), NF_EARG);
    cr_assert(strstr(nf_error_message(), "nf_gsl_philox_seek"));
    gsl_rng *other = gsl_rng_alloc(gsl_rng_mt19937), *r = gsl_rng_alloc(nf_gsl_philox());
    cr_assert_eq(nf_gsl_philox_seek(other, &noise), NF_EARG);
    cr_assert(strstr(nf_error_message(), "mt19937"));
    cr_assert_eq(nf_gsl_philox_seek(r, NULL), NF_EARG);
    cr_assert_eq(gsl_rng_get(r), 0x6627e8d5);
    gsl_rng_free(other);
    gsl_rng_free(r);
}
