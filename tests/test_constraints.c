/* Constraints: Stan's own answers, the reference manual's formulas, volumes of sets, edges, and a posterior in closed
   form behind several constraints at once. */
#include "constraints/vectors.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdlib.h>
#include <string.h>

#ifdef NF_SINGLE
static const double tolerance = 3e-6;
enum { is_double = false };
#else
static const double tolerance = 3e-15;
enum { is_double = true };
#endif

static nf_model *bind(nf_flow *f)
{
    nf_model *m = nf_model_of_flow(f, NULL);
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

/* n points through a flow, which is released. */
static void transform(nf_flow *f, nf_direction d, size_t n, const nf_real *x, nf_real *y, double *log_det)
{
    nf_model *m = bind(f);
    cr_assert_eq(nf_transform(m, NULL, d, n, x, NULL, y, log_det), NF_OK, "%s", nf_error_message());
    nf_model_free(m);
}

/* ---- Stan's answers ---- */

static nf_flow *of_vector(const vector *v)
{
    const char *name = v->name;
    const size_t n = v->n_u;
    if (strcmp(name, "free") == 0)
        return nf_identity(n);
    if (strcmp(name, "lower") == 0)
        return nf_lower(n, v->parameter[0]);
    if (strcmp(name, "upper") == 0)
        return nf_upper(n, v->parameter[0]);
    if (strcmp(name, "lub") == 0)
        return nf_interval(n, v->parameter[0], v->parameter[1]);
    if (strcmp(name, "offset_multiplier") == 0)
        return nf_offset_multiplier(n, &v->parameter[0], &v->parameter[1]);
    if (strcmp(name, "simplex") == 0)
        return nf_simplex_stick(n + 1);
    if (strcmp(name, "simplex_ilr") == 0)
        return nf_simplex_ilr(n + 1);
    if (strcmp(name, "ordered") == 0)
        return nf_ordered(n);
    if (strcmp(name, "positive_ordered") == 0)
        return nf_positive_ordered(n);
    if (strcmp(name, "corr_matrix") == 0)
        return nf_corr_matrix(3);
    if (strcmp(name, "cov_matrix") == 0)
        return nf_cov_matrix(3);
    if (strcmp(name, "cholesky_factor_corr") == 0)
        return nf_cholesky_corr(4);
    if (strcmp(name, "cholesky_factor_cov") == 0)
        return nf_cholesky_cov(3, 3);
    cr_assert_str_eq(name, "cholesky_factor_cov_rect");
    return nf_cholesky_cov(4, 3);
}

static void agree(const char *what, size_t n, const nf_real *got, const double *want, double within)
{
    for (size_t i = 0; i < n; i++)
        cr_assert_float_eq((double)got[i], want[i], within * (1 + fabs(want[i])), "%s, entry %zu: %.17g for %.17g",
                           what, i, (double)got[i], want[i]);
}

Test(constraints, stan)
{
    for (size_t k = 0; k < N_VECTORS; k++) {
        const vector *v = &vectors[k];
        nf_real u[MOST_NUMBERS], x[MOST_NUMBERS], y[MOST_NUMBERS];
        double l[2];
        for (size_t i = 0; i < v->n_u; i++)
            u[i] = (nf_real)v->u[i];
        nf_flow *f = of_vector(v);
        cr_assert_not_null(f, "%s: %s", v->name, nf_error_message());
        cr_assert_eq(nf_flow_shape(f)->dim_in, v->n_u, "%s", v->name);
        cr_assert_eq(nf_flow_shape(f)->dim_out, v->n_x, "%s", v->name);
        transform(nf_flow_ref(f), NF_FORWARD, 1, u, y, &l[0]);
        agree(v->name, v->n_x, y, v->x, tolerance);
        for (size_t i = 0; i < v->n_x; i++)
            y[i] = (nf_real)v->x[i];
        transform(f, NF_INVERSE, 1, y, x, &l[1]);
        agree(v->name, v->n_u, x, v->u, 5 * tolerance);
        cr_assert_float_eq(l[0], v->log_det, tolerance * (1 + fabs(v->log_det)), "%s: %.17g", v->name, l[0]);
        cr_assert_float_eq(l[1], -v->log_det, 5 * tolerance * (1 + fabs(v->log_det)), "%s: %.17g", v->name, l[1]);
    }
}
