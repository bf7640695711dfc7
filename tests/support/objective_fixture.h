/* What tests of objectives share: models off their initial parameters, and gradients against central differences. */
#ifndef OBJECTIVE_FIXTURE_H
#define OBJECTIVE_FIXTURE_H
#include "expect.h"
#include <math.h>
#include <nflow/nflow.h>
#include <stdlib.h>

#ifdef NF_SINGLE
static const double rounding = 2e-6, difference = 2e-2;
#define RADIUS NF_R(1e-2)
#else
static const double rounding = 1e-13, difference = 2e-7;
#define RADIUS NF_R(1e-5)
#endif

/* Moves all parameters by numbers of about this size. */
static inline nf_model *stir(nf_model *m, double size)
{
    cr_assert_not_null(m, "%s", nf_error_message());
    nf_real *theta = nf_model_theta(m);
    for (size_t i = 0; i < nf_model_shape(m)->n_params; i++)
        theta[i] += (nf_real)(size * sin(2.63 * (double)i + 0.71) + 0.11 * size * (double)(i % 3));
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    return m;
}

static inline nf_step_report value(nf_objective *o, uint64_t seed, uint64_t step)
{
    nf_step_report r;
    cr_assert_eq(nf_objective_value(o, NULL, seed, step, &r), NF_OK, "%s", nf_error_message());
    return r;
}

/* Every parameter in turn, with the noise held; also the report beside the gradient, which is returned. */
static inline nf_step_report check_gradient(nf_model *m, nf_objective *o)
{
    size_t n = nf_model_shape(m)->n_params;
    nf_real *g = calloc(n, sizeof *g), *theta = nf_model_theta(m);
    nf_step_report r;
    cr_assert_eq(nf_objective_gradient(o, NULL, 41, 5, &r, g), NF_OK, "%s", nf_error_message());
    double square = 0;
    for (size_t i = 0; i < n; i++) {
        nf_real was = theta[i];
        double loss[2];
        for (int side = 0; side < 2; side++) {
            theta[i] = side ? was + RADIUS : was - RADIUS;
            cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
            loss[side] = value(o, 41, 5).loss;
        }
        theta[i] = was;
        double central = (loss[1] - loss[0]) / ((double)(was + RADIUS) - (double)(was - RADIUS));
        cr_assert_float_eq(g[i], central, difference * (1 + fabs(central)), "parameter %zu: %.9g, but %.9g", i,
                           (double)g[i], central);
        square += (double)g[i] * (double)g[i];
    }
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    cr_assert_float_eq(r.grad_norm, sqrt(square), 10 * rounding * sqrt(square));
    cr_assert(r.grad_norm > 0.05);
    cr_assert_float_eq(r.loss, value(o, 41, 5).loss, rounding * (1 + fabs(r.loss)));
    free(g);
    return r;
}

#endif
