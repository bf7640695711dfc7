/* Preparation: which nodes it reaches, that threads share it without a trace in the numbers, and whose error is told.
 */
#include "model/model.h"
#include "fail_alloc.h"
#include <criterion/criterion.h>
#include <nflow/nflow.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A flow y = x + prep[0] with prep[i] = (i + 1) theta, which counts what its hooks are called for, and fails where
   theta is a number from 1000 on. */
enum { MANY = 3000 };
static atomic_size_t prepared, pulled;

static nf_status shift(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    (void)o, (void)log_det, (void)saved;
    for (size_t s = 0; s < p->ld; s++)
        y[s] = x[s] + (d == NF_FORWARD ? p->prep[0] : -p->prep[0]);
    return NF_OK;
}

static nf_status shift_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                           void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)o, (void)x, (void)y, (void)saved, (void)g_log_det;
    for (size_t s = 0; s < p->ld; s++) {
        gx[s] = gy[s];
        if (g->prep)
            g->prep[0] += d == NF_FORWARD ? gy[s] : -gy[s];
    }
    return NF_OK;
}

static nf_status prepare(const nf_object *o, nf_mode mode, const nf_real *theta, nf_real *state, nf_real *prep)
{
    (void)mode, (void)state;
    atomic_fetch_add(&prepared, 1);
    if (theta[0] >= 1000)
        return nf_error(NF_ENOCONV, "no preparing of %g", (double)theta[0]);
    for (size_t i = 0; i < nf_object_shape(o)->n_prep; i++)
        prep[i] = (nf_real)(i + 1) * theta[0];
    return NF_OK;
}

static nf_status prepare_vjp(const nf_object *o, const nf_real *theta, const nf_real *state, const nf_real *prep,
                             nf_real *g_prep, nf_real *g_theta)
{
    (void)state, (void)prep;
    atomic_fetch_add(&pulled, 1);
    if (theta[0] <= -1000)
        return nf_error(NF_ENOCONV, "no pulling back of %g", (double)theta[0]);
    for (size_t i = 0; i < nf_object_shape(o)->n_prep; i++)
        g_theta[0] += (nf_real)(i + 1) * g_prep[i];
    return NF_OK;
}

static const nf_flow_type counting_type = {
    .part = {.name = "counting", .prepare = prepare, .prepare_vjp = prepare_vjp},
    .abi = sizeof(nf_flow_type),
    .apply = shift,
    .vjp = shift_vjp,
};

static nf_flow *counting(size_t n_prep)
{
    const nf_shape own = {.dim_in = 1, .dim_out = 1, .n_params = 1, .n_prep = n_prep};
    return nf_flow_new(&counting_type, &own, NULL, NULL, 0);
}

/* Nodes of different sizes among layers that prepare nothing; theta counts up. */
enum { NODES = 6 };
static const size_t sizes[NODES] = {7, MANY, 1, MANY, 2 * MANY, 3};

static nf_flow *tree(void)
{
    nf_flow *inner = nf_chain((nf_flow *[]){counting(sizes[1]), nf_affine(1), nf_invert(counting(sizes[2]))}, 3);
    return nf_chain((nf_flow *[]){counting(sizes[0]), inner, nf_planar(1), counting(sizes[3]), counting(sizes[4]),
                                  counting(sizes[5])},
                    6);
}

static const size_t at[NODES] = {0, 1, 4, 8, 9, 10}; /* of theta; affine has 2 numbers, planar 3 */

Test(prepare, reaches_every_node_once_with_its_own_numbers)
{
    nf_model *m = nf_model_of_flow(tree(), NULL);
    cr_assert_not_null(m, "%s", nf_error_message());
    for (size_t k = 0; k < NODES; k++)
        nf_model_theta(m)[at[k]] = (nf_real)(k + 2);
    atomic_store(&prepared, 0);
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    cr_assert_eq(atomic_load(&prepared), NODES);
    const size_t n_params = nf_model_shape(m)->n_params, n_prep = nf_model_shape(m)->n_prep;
    nf_real *g = calloc(n_params + n_prep, sizeof *g), *g_theta = calloc(n_params, sizeof *g_theta);
    cr_assert_eq(n_params, 11);
    for (size_t k = 0, p = 0; k < NODES; p += sizes[k++])
        for (size_t i = 0; i < sizes[k]; i++) {
            cr_assert_eq(m->prep[p + i], (nf_real)((i + 1) * (k + 2)), "node %zu, number %zu", k, i);
            g[n_params + p + i] = i == sizes[k] - 1 ? (nf_real)(k + 1) : 0;
        }
    g[2] = 5;
    atomic_store(&pulled, 0);
    cr_assert_eq(nf_model_pull_gradient(m, g, g_theta), NF_OK);
    cr_assert_eq(atomic_load(&pulled), NODES);
    for (size_t k = 0; k < NODES; k++)
        cr_assert_eq(g_theta[at[k]], (nf_real)((k + 1) * sizes[k]), "node %zu", k);
    cr_assert_eq(g_theta[2], 5);
    cr_assert_eq(g_theta[3] + g_theta[5] + g_theta[6] + g_theta[7], 0);
    free(g);
    free(g_theta);
    nf_model_free(m);
}

/* Flows whose parameters come from elsewhere have nothing of their own; nor have those without hooks. */
Test(prepare, nothing_is_listed_where_nothing_is_prepared)
{
    const nf_shape hooks_alone = {.dim_in = 1, .dim_out = 1, .n_params = 1, .flags = NF_PER_SAMPLE};
    nf_flow *detached = nf_amortized(nf_flow_new(&counting_type, &hooks_alone, NULL, NULL, 0), nf_mlp(2, 1, 0, NULL));
    nf_flow *f = nf_chain((nf_flow *[]){nf_planar(1), detached}, 2);
    nf_model *m = nf_model_of_flow(f, NULL);
    cr_assert_eq(m->preparation.n, 0);
    cr_assert_null(m->preparation.node);
    nf_model_free(m);
    m = nf_model_of_flow(nf_chain((nf_flow *[]){nf_planar(3), nf_lu_linear(3, 1)}, 2), NULL);
    cr_assert_eq(m->preparation.n, 1);
    nf_model_free(m);
}

static void tells(nf_status status, const char *words)
{
    cr_assert_eq(status, NF_ENOCONV, "%d: %s", (int)status, nf_error_message());
    cr_assert_not_null(strstr(nf_error_message(), words), "%s", nf_error_message());
}

/* Of several that fail, the tree's first one, whatever order they are taken in. */
Test(prepare, the_first_nodes_error_is_told)
{
    nf_model *m = nf_model_of_flow(tree(), NULL);
    nf_real *g = calloc(nf_model_gradient_size(m), sizeof *g), *g_theta = calloc(11, sizeof *g_theta);
    nf_real *theta = nf_model_theta(m);
    for (size_t k = NODES; k-- > 2;) {
        theta[at[k]] = (nf_real)(1000 + k);
        char words[40];
        snprintf(words, sizeof words, "no preparing of %zu", 1000 + k);
        tells(nf_model_update(m, NF_EVAL), words);
    }
    for (size_t k = 2; k < NODES; k++)
        theta[at[k]] = 0;
    for (size_t k = NODES; k-- > 2;) {
        theta[at[k]] = -(nf_real)(1000 + k);
        char words[40];
        snprintf(words, sizeof words, "no pulling back of -%zu", 1000 + k);
        cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
        tells(nf_model_pull_gradient(m, g, g_theta), words);
    }
    free(g);
    free(g_theta);
    nf_model_free(m);
}

/* ---- in a fit ---- */

static nf_status fit(nf_model *m, size_t threads, uint64_t steps, double rate, nf_fit_report *report)
{
    enum { ROWS = 300 };
    static nf_real x[ROWS * 40];
    const size_t dim = nf_model_shape(m)->dim_out;
    nf_noise_normal(&(nf_noise){.seed = 8}, ROWS * dim, 1, 1, x);
    const nf_data data = {.n = ROWS, .dim = dim, .x = x};
    nf_objective *o = nf_maximum_likelihood(m, &data, &(nf_likelihood_options){.batch = ROWS});
    const nf_status status = nf_fit(o, &(nf_fit_options){.steps = steps, .rate = rate, .threads = threads}, report);
    nf_objective_free(o);
    return status;
}

/* A step that moves theta to where it cannot be prepared ends the fit. */
Test(prepare, an_error_ends_a_fit)
{
    for (size_t threads = 1; threads <= 3; threads++) {
        nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(1), tree()), NULL);
        tells(fit(m, threads, 50, 2e3, NULL), "no pre"); /* Adam's first step is as long as the rate */
        nf_model_free(m);
    }
}

static nf_model *of_many_lu(void)
{
    nf_flow *f[9];
    for (size_t k = 0; k < 9; k++)
        f[k] = k == 4 ? nf_actnorm(40) : nf_lu_linear(40, k % 2 ? NF_LU_IDENTITY : k);
    return nf_model_of_dist(nf_pushforward(nf_normal(40), nf_chain(f, 9)), &(nf_model_options){.seed = 4});
}

Test(prepare, bits_do_not_depend_on_the_threads)
{
    nf_model *alone = of_many_lu();
    nf_fit_report wanted;
    cr_assert_eq(fit(alone, 1, 7, 0.01, &wanted), NF_OK, "%s", nf_error_message());
    const nf_shape *s = nf_model_shape(alone);
    for (size_t threads = 2; threads <= 5; threads++) {
        nf_model *m = of_many_lu();
        nf_fit_report got;
        cr_assert_eq(fit(m, threads, 7, 0.01, &got), NF_OK);
        cr_assert_arr_eq(nf_model_theta(m), nf_model_theta(alone), s->n_params * sizeof(nf_real));
        cr_assert_arr_eq(m->prep, alone->prep, s->n_prep * sizeof(nf_real));
        cr_assert_eq(got.loss, wanted.loss);
        nf_model_free(m);
    }
    nf_model *untrained = of_many_lu();
    for (size_t i = 0; i < s->n_params; i += 97) /* it did move */
        cr_assert_neq(nf_model_theta(untrained)[i], nf_model_theta(alone)[i], "parameter %zu", i);
    nf_model_free(untrained);
    nf_model_free(alone);
}

Test(prepare, survives_failing_allocations)
{
    for (size_t k = 0;; k++) {
        const size_t before = alloc_live();
        fail_alloc_after(k);
        nf_model *m = of_many_lu();
        const bool failed = fail_alloc_off();
        cr_assert_eq(m == NULL, failed);
        nf_model_free(m);
        cr_assert_eq(alloc_live(), before);
        if (!failed)
            break;
    }
}
