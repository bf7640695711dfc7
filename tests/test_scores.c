/* One row that spoils the mean of all: what reports say of the worst row, and when fits warn of it. */
#include "fit/objective.h"
#include "support/numbers.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdlib.h>

enum { N = 956, DIM = 4 };

static nf_real *make_data(uint64_t seed)
{
    return normals(seed, N * DIM, 1);
}

static nf_model *density(void)
{
    nf_model *m = nf_model_of_dist(nf_diagonal_normal(DIM), NULL);
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

static nf_data data_of(const nf_real *x)
{
    return (nf_data){.n = N, .dim = DIM, .x = x};
}

static nf_objective *likelihood(nf_model *m, const nf_data *data, size_t batch)
{
    nf_objective *o = nf_maximum_likelihood(m, data, &(nf_likelihood_options){.batch = batch});
    cr_assert_not_null(o, "%s", nf_error_message());
    return o;
}

/* The report of all rows at the standard normal. */
static nf_step_report report_of(const nf_data *data, size_t threads)
{
    nf_model *m = density();
    nf_objective *o = likelihood(m, data, N);
    nf_workspace *ws = nf_workspace_new(threads);
    nf_step_report r;
    cr_assert_eq(nf_objective_value(o, ws, 1, 0, &r), NF_OK, "%s", nf_error_message());
    nf_workspace_free(ws);
    nf_objective_free(o);
    nf_model_free(m);
    return r;
}

static double loss_of(const nf_real *x)
{
    double square = 0;
    for (size_t k = 0; k < DIM; k++)
        square += (double)x[k] * (double)x[k];
    return 0.5 * square + 0.5 * DIM * log(2 * M_PI);
}

/* ---- the numbers ---- */

/* The worst row, its loss and its share, against their definitions, whatever the number of threads. */
Test(scores, the_worst_row_is_that_of_the_definition)
{
    nf_real *x = make_data(3);
    const nf_data data = data_of(x);
    double mean = 0, spread = 0;
    size_t worst = 0;
    for (size_t i = 0; i < N; i++) {
        mean += loss_of(x + i * DIM) / N;
        worst = loss_of(x + i * DIM) > loss_of(x + worst * DIM) ? i : worst;
    }
    for (size_t i = 0; i < N; i++)
        spread += pow(loss_of(x + i * DIM) - mean, 2);
    const nf_step_report r = report_of(&data, 1), two = report_of(&data, 2);
    const double rounding = sizeof(nf_real) == sizeof(double) ? 1e-12 : 1e-5, loss = loss_of(x + worst * DIM);
    cr_assert_eq(r.worst_row, worst);
    cr_assert_float_eq(r.worst_loss, loss, rounding * loss);
    cr_assert_float_eq(r.worst_share, pow(loss - mean, 2) / spread, 10 * rounding);
    cr_assert(!r.dominated);
    cr_assert(two.worst_row == r.worst_row && two.worst_loss == r.worst_loss && two.worst_share == r.worst_share);
    free(x);
}

/* Shares of few numbers, of equal ones, far from 0, and of squares that overflow. */
Test(scores, extreme_spreads)
{
    nf_step_report r = {0};
    nf_spread s = {.n = 0};
    nfi_report_spread(&s, &r);
    cr_assert(isnan(r.worst_loss) && !r.dominated && r.worst_share == 0);
    for (size_t i = 0; i < 1000; i++)
        nf_add_to_spread(&s, i, 12345.678);
    nfi_report_spread(&s, &r);
    cr_assert(r.worst_row == 0 && !r.dominated, "share %g", r.worst_share);
    nf_add_to_spread(&s, 1000, 12345.678 + 30); /* the only one that differs, and by enough */
    nfi_report_spread(&s, &r);
    cr_assert(r.worst_row == 1000 && r.dominated, "share %g", r.worst_share);
    nf_add_to_spread(&s, 1001, 1e200);
    nfi_report_spread(&s, &r);
    cr_assert(r.dominated && r.worst_row == 1001 && r.worst_share > 0.99 && r.worst_share <= 1);
    s = (nf_spread){.n = 0}; /* of three numbers, one has two thirds of the spread, but says nothing */
    nf_add_to_spread(&s, 0, 1);
    nf_add_to_spread(&s, 1, 1.5);
    nf_add_to_spread(&s, 2, 4);
    nfi_report_spread(&s, &r);
    cr_assert_float_eq(r.worst_share, 121. / 186, 1e-12);
    cr_assert_not(r.dominated);
}

/* Samples that fail are left out; those after them keep their rows' numbers. A row of weight 0 does not count. */
Test(scores, rows_keep_their_numbers)
{
    nf_real *x = make_data(5);
    double *weight = calloc(N, sizeof *weight);
    for (size_t i = 0; i < N; i++)
        weight[i] = i == 200 ? 0 : 1;
    for (size_t k = 0; k < DIM; k++) {
        x[10 * DIM + k] = 70;
        x[200 * DIM + k] = 90;
        x[777 * DIM + k] = 50;
    }
    nf_data data = data_of(x);
    data.weight = weight;
    nf_step_report r = report_of(&data, 2);
    cr_assert(r.dominated && r.worst_row == 10 && r.failed == 0, "row %zu", r.worst_row);
    if (sizeof(nf_real) == sizeof(double)) { /* a square that overflows; in float no square does, sums are double */
        x[10 * DIM] = NF_R(1e200);
        r = report_of(&data, 2);
        cr_assert(r.dominated && r.worst_row == 777 && r.failed == 1, "row %zu, %zu failed", r.worst_row, r.failed);
    }
    free(weight);
    free(x);
}

/* ---- fits ---- */

static nf_fit_report fit(const nf_real *x, const nf_real *held_out, size_t batch)
{
    nf_model *m = density();
    const nf_data data = data_of(x), validation = data_of(held_out ? held_out : x);
    nf_objective *o = likelihood(m, &data, batch), *v = held_out ? likelihood(m, &validation, N) : NULL;
    nf_fit_report r;
    cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 300, .validation = v, .validate_every = 100}, &r), NF_OK, "%s",
                 nf_error_message());
    nf_objective_free(v);
    nf_objective_free(o);
    nf_model_free(m);
    return r;
}

/* Good data give no warning, with validation or without, in large and in small batches. */
Test(scores, a_good_fit_does_not_warn)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        nf_real *x = make_data(seed), *held_out = make_data(100 + seed);
        for (int k = 0; k < 3; k++) {
            const nf_fit_report r = fit(x, k ? NULL : held_out, k == 2 ? N : 20);
            cr_assert_eq(r.warnings, 0, "seed %d: share %g", (int)seed, r.worst_share);
            cr_assert(r.worst_row < N && r.worst_loss > 0 && r.worst_share < 0.9);
        }
        free(x);
        free(held_out);
    }
}

/* One row of 956 far out: the report names it. */
Test(scores, a_fit_with_an_outlier_warns)
{
    nf_real *x = make_data(7), *held_out = make_data(8);
    held_out[411 * DIM + 2] = 300;
    nf_fit_report r = fit(x, held_out, 100);
    cr_assert_eq(r.warnings, NF_WARN_SCORES);
    cr_assert_eq(r.worst_row, 411);
    cr_assert(r.worst_loss > 1e4 && r.worst_share > 0.9);
    for (int all = 0; all < 2; all++) { /* the same in training: each of the last 100 steps of 100 rows counts */
        r = fit(held_out, NULL, all ? N : 100);
        cr_assert_eq(r.warnings, NF_WARN_SCORES);
        cr_assert_eq(r.worst_row, 411);
    }
    free(x);
    free(held_out);
}

/* The rows of a VAE have such numbers, too. */
Test(scores, a_row_of_a_vae)
{
    nf_real *x = make_data(9);
    x[600 * DIM] = 500;
    const nf_data data = data_of(x);
    const nf_mlp_options small = {.hidden = (size_t[]){8}, .n_hidden = 1, .last_scale = 1e-4};
    nf_vae *vae =
        nf_vae_new(nf_mlp(DIM, 2, 0, &small), nf_diagonal_posterior(1), nf_mlp(1, 2 * DIM, 0, &small), NF_GAUSSIAN);
    nf_model *m = nf_model_of_vae(vae, NULL);
    cr_assert_not_null(m, "%s", nf_error_message());
    nf_objective *o = nf_vae_elbo(m, &data, &(nf_vae_options){.batch = 400}); /* shuffled */
    size_t found = 0;
    for (uint64_t step = 0; step < 6; step++) {
        nf_step_report r;
        cr_assert_eq(nf_objective_value(o, NULL, 1, step, &r), NF_OK, "%s", nf_error_message());
        cr_assert(r.worst_loss >= r.loss && r.worst_row < N);
        cr_assert_eq(r.dominated, r.worst_row == 600, "step %d, row %zu", (int)step, r.worst_row);
        found += r.dominated;
    }
    cr_assert(found >= 2 && found <= 4, "%zu", found); /* every row is in 2 of 4.78 batches */
    nf_objective_free(o);
    nf_model_free(m);
    free(x);
}
