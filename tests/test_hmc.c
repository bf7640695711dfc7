/* Hamiltonian Monte Carlo of the example `neutra`, and what says whether its chains have mixed. */
#include "chains.h"
#include "hmc.h"
#include "numbers.h"

enum { D = 3 };
static const double precision[D][D] = {{2, -1.5, 0}, {-1.5, 2, 0.3}, {0, 0.3, 1}}, centre[D] = {1, -2, 0.5};

/* A normal density with this precision matrix. */
static int normal(void *user, size_t d, const double *x, double *log_p, double *g)
{
    (void)user;
    *log_p = 0;
    for (size_t i = 0; i < d; i++) {
        double sum = 0;
        for (size_t k = 0; k < d; k++)
            sum += precision[i][k] * (x[k] - centre[k]);
        *log_p -= 0.5 * sum * (x[i] - centre[i]);
        if (g)
            g[i] = -sum;
    }
    return 0;
}

/* The exponential density on x > 0; with `user` the function fails. */
static int exponential(void *user, size_t d, const double *x, double *log_p, double *g)
{
    (void)d;
    if (user)
        return (int)nf_error(NF_ETARGET, "out of order");
    *log_p = -x[0];
    if (g)
        g[0] = -1;
    return !(x[0] > 0);
}

static nf_target *new_normal(void)
{
    nf_target *t = nf_target_point_callback(D, normal, NULL, NF_THREADSAFE);
    cr_assert_not_null(t);
    return t;
}

static double *doubles(size_t n)
{
    double *x = calloc(n, sizeof *x);
    cr_assert_not_null(x);
    return x;
}

/* n points near the density, with momenta; to be released by free(s.z). */
static hmc_state new_points(const nf_target *t, size_t n)
{
    double *block = doubles(n * (3 * D + 1));
    nf_real *r = normals(5, 2 * n * D, 1);
    hmc_state s = {n, D, block, block + n * D, block + 2 * n * D, block + 3 * n * D};
    for (size_t i = 0; i < 2 * n * D; i++)
        block[i] = (double)r[i] + (i < n * D ? centre[i % D] : 0);
    free(r);
    cr_assert_eq(nf_target_eval(t, n, s.z, s.log_p, s.grad, NULL), NF_OK, "%s", nf_error_message());
    return s;
}

Test(hmc, trajectories_can_be_reversed)
{
    enum { N = 20 };
    nf_target *t = new_normal();
    hmc_state s = new_points(t, N), start = new_points(t, N);
    cr_assert_eq(hmc_leapfrog(t, &s, 0.3, 17), NF_OK);
    for (size_t i = 0; i < N * D; i++) {
        cr_expect_gt(fabs(s.z[i] - start.z[i]) + fabs(s.p[i] - start.p[i]), 1e-3);
        s.p[i] = -s.p[i];
    }
    cr_assert_eq(hmc_leapfrog(t, &s, 0.3, 17), NF_OK);
    for (size_t i = 0; i < N * D; i++) {
        cr_expect_float_eq(s.z[i], start.z[i], 1e-12);
        cr_expect_float_eq(s.p[i], -start.p[i], 1e-12);
    }
    free(s.z);
    free(start.z);
    nf_target_free(t);
}

Test(hmc, energy_errors_fall_with_the_square_of_the_step)
{
    enum { N = 200 };
    nf_target *t = new_normal();
    double size[3];
    for (size_t k = 0; k < 3; k++) {
        hmc_state s = new_points(t, N), start = new_points(t, N);
        cr_assert_eq(hmc_leapfrog(t, &s, 0.2 / (double)(1 << k), (size_t)5 << k), NF_OK);
        size[k] = 0;
        for (size_t i = 0; i < N; i++)
            size[k] += pow(hmc_energy(&s, i) - hmc_energy(&start, i), 2) / N;
        size[k] = sqrt(size[k]);
        free(s.z);
        free(start.z);
    }
    cr_expect_lt(size[0], 0.2);
    cr_expect_float_eq(size[0] / size[1], 4, 0.4);
    cr_expect_float_eq(size[1] / size[2], 4, 0.1);
    nf_target_free(t);
}

/* Output k of a run, along the chains. */
static double *new_column(const hmc_run *r, size_t k)
{
    double *x = doubles(r->chains * r->draws);
    for (size_t i = 0; i < r->chains * r->draws; i++)
        x[i] = r->z[i * r->d + k];
    return x;
}

/* The mean of x [n] is this one within 4 standard errors by the effective size, which is at least this share of n. */
static void has_mean(const hmc_run *r, const double *x, double wanted, double least)
{
    const size_t n = r->chains * r->draws;
    double sum = 0, square = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        square += (x[i] - sum) * (x[i] - sum) / (double)n;
    const double size = chains_effective_size(r->chains, r->draws, x);
    cr_expect_gt(size, least * (double)n, "effective size %g of %zu", size, n);
    cr_expect_float_eq(sum, wanted, 4 * sqrt(square / size), "%g +- %g, not %g", sum, sqrt(square / size), wanted);
}

Test(hmc, moments_of_a_correlated_normal)
{
    enum { CHAINS = 6 };
    /* the inverse of `precision`, whose determinant is 2 (2 - 0.09) - 2.25 */
    static const double covariance[D][D] = {{1.91 / 1.57, 1.5 / 1.57, -0.45 / 1.57},
                                            {1.5 / 1.57, 2 / 1.57, -0.6 / 1.57},
                                            {-0.45 / 1.57, -0.6 / 1.57, 1.75 / 1.57}};
    nf_target *t = new_normal();
    const double start[CHAINS * D] = {0};
    hmc_run r;
    cr_assert_eq(hmc_sample(t, start, &(hmc_options){.chains = CHAINS, .draws = 3000, .seed = 2}, &r), NF_OK, "%s",
                 nf_error_message());
    cr_expect_eq(r.divergent, 0);
    cr_expect_float_eq(r.acceptance, 0.8, 0.05);
    cr_expect_gt(r.gradients, CHAINS * 3500);
    for (size_t i = 0; i < D; i++)
        for (size_t k = 0; k <= i; k++) {
            double *x = new_column(&r, i), *y = new_column(&r, k);
            chains_report q;
            cr_assert_eq(chains_judge(CHAINS, r.draws, x, &q), NF_OK);
            cr_expect_lt(q.r_hat, 1.01);
            has_mean(&r, x, centre[i], 0.05);
            for (size_t s = 0; s < CHAINS * r.draws; s++)
                x[s] = (x[s] - centre[i]) * (y[s] - centre[k]);
            has_mean(&r, x, covariance[i][k], 0.05);
            free(x);
            free(y);
        }
    hmc_free(&r);
    nf_target_free(t);
}

/* Points beyond the edge are rejected, and fly back or stay out; so chains near it are slow. */
Test(hmc, a_density_with_an_edge)
{
    const double start[4] = {1, 2, 0.5, 1};
    nf_target *t = nf_target_point_callback(1, exponential, NULL, NF_THREADSAFE);
    hmc_run r;
    cr_assert_eq(hmc_sample(t, start, &(hmc_options){.chains = 4, .draws = 4000}, &r), NF_OK, "%s", nf_error_message());
    double *x = new_column(&r, 0);
    has_mean(&r, x, 1, 0.01);
    for (size_t i = 0; i < 4 * r.draws; i++)
        x[i] *= x[i];
    has_mean(&r, x, 2, 0.01);
    free(x);
    hmc_free(&r);
    nf_target_free(t);
}

static int stop_at_seven(void *user, size_t iteration, size_t iterations)
{
    cr_assert_eq(iterations, 1500);
    *(size_t *)user = iteration;
    return iteration == 7;
}

Test(hmc, errors_and_ends)
{
    const double outside[2] = {1, -1}, inside[2] = {1, 2};
    size_t last = 0;
    nf_target *t = nf_target_point_callback(1, exponential, NULL, NF_THREADSAFE);
    nf_target *bad = nf_target_point_callback(1, exponential, &last, NF_THREADSAFE);
    hmc_run r;
    cr_expect_eq(hmc_sample(t, outside, &(hmc_options){.chains = 2}, &r), NF_ETARGET);
    cr_expect(strstr(nf_error_message(), "chain 2"), "%s", nf_error_message());
    hmc_free(&r);
    cr_expect_eq(hmc_sample(bad, inside, &(hmc_options){.chains = 2}, &r), NF_ETARGET);
    cr_expect(strstr(nf_error_message(), "out of order"), "%s", nf_error_message());
    hmc_free(&r);
    cr_expect_eq(hmc_sample(t, inside, &(hmc_options){.chains = 2, .callback = stop_at_seven, .user = &last}, &r),
                 NF_OK);
    cr_expect(r.stopped);
    cr_expect_eq(last, 7);
    hmc_free(&r);
    nf_target_free(t);
    nf_target_free(bad);
}

/* ---- diagnostics ---- */

/* Chains of the process x_t = a x_(t-1) + sqrt(1 - a^2) noise, N(0, 1) each. */
static double *new_process(size_t chains, size_t n, double a)
{
    double *x = doubles(chains * n);
    nf_real *z = normals(11, chains * n, 1);
    for (size_t i = 0; i < chains * n; i++)
        x[i] = i % n ? a * x[i - 1] + sqrt(1 - a * a) * (double)z[i] : (double)z[i];
    free(z);
    return x;
}

Test(chains, effective_sizes)
{
    enum { C = 4, N = 4000 };
    static const double a[4] = {0, 0.5, 0.9, -0.5};
    for (size_t k = 0; k < 4; k++) {
        double *x = new_process(C, N, a[k]);
        const double exact = C * N * (1 - a[k]) / (1 + a[k]);
        chains_report r;
        cr_assert_eq(chains_judge(C, N, x, &r), NF_OK);
        cr_expect_float_eq(chains_effective_size(C, N, x), exact, 0.15 * exact, "a %g", a[k]);
        cr_expect_float_eq(r.bulk, exact, 0.15 * exact, "a %g: %g, not %g", a[k], r.bulk, exact);
        cr_expect_lt(r.r_hat, 1.01);
        cr_expect(r.tail > 0.3 * exact && r.tail < 4 * exact, "a %g: %g beside %g", a[k], r.tail, exact);
        free(x);
    }
}

Test(chains, r_hat_sees_places_and_widths)
{
    enum { C = 4, N = 1000 };
    for (int wide = 0; wide < 3; wide++) {
        double *x = new_process(C, N, 0);
        chains_report r, of_exp;
        for (size_t i = 0; i < N; i++)
            x[i] = wide == 1 ? 3 * x[i] : wide == 2 ? x[i] + 1 : x[i]; /* the first chain */
        cr_assert_eq(chains_judge(C, N, x, &r), NF_OK);
        if (wide == 0)
            cr_expect_lt(r.r_hat, 1.01);
        else
            cr_expect_gt(r.r_hat, 1.05, "%d: %g", wide, r.r_hat);
        for (size_t i = 0; i < C * N; i++)
            x[i] = exp(x[i]);
        cr_assert_eq(chains_judge(C, N, x, &of_exp), NF_OK);
        cr_expect_eq(of_exp.bulk, r.bulk); /* ranks are the same */
        free(x);
    }
}

/* A chain whose halves are in different places has not mixed. */
Test(chains, halves)
{
    enum { C = 2, N = 1000 };
    double *x = new_process(C, N, 0);
    chains_report r;
    for (size_t i = 0; i < C * N; i++)
        x[i] += i % N < N / 2 ? 1 : 0;
    cr_assert_eq(chains_judge(C, N, x, &r), NF_OK);
    cr_expect_gt(r.r_hat, 1.1);
    free(x);
}

Test(chains, numbers_that_say_nothing)
{
    double x[40] = {0};
    chains_report r;
    cr_assert_eq(chains_judge(2, 20, x, &r), NF_OK);
    cr_expect(isnan(r.bulk) && isnan(r.r_hat));
    for (size_t i = 0; i < 40; i++)
        x[i] = sin((double)(i * i));
    cr_assert_eq(chains_judge(2, 20, x, &r), NF_OK);
    cr_expect(isfinite(r.bulk) && isfinite(r.r_hat));
    x[7] = INFINITY;
    cr_assert_eq(chains_judge(2, 20, x, &r), NF_OK);
    cr_expect(isnan(r.bulk) && isnan(r.r_hat) && isnan(r.tail));
}
