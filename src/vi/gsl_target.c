/* Targets from a function that GSL's minimisers take: minus the log density, of a vector. */
#include "base/memory.h"
#include "vi/target.h"
#include <math.h>
#include <nflow/gsl.h>

/* An nf_target_point_fn, whose user is the function. A value that is not finite rejects the point. */
static int call(void *user, size_t d, const double *x, double *log_p, double *grad)
{
    gsl_multimin_function_fdf *f = user;
    const gsl_vector_const_view at = gsl_vector_const_view_array(x, d);
    double value = 0;
    if (grad) {
        gsl_vector_view g = gsl_vector_view_array(grad, d);
        f->fdf(&at.vector, f->params, &value, &g.vector);
        for (size_t j = 0; j < d; j++)
            grad[j] = -grad[j];
    } else {
        value = f->f(&at.vector, f->params);
    }
    *log_p = isfinite(value) ? -value : NAN;
    return 0;
}

nf_target *nf_target_gsl_multimin(const gsl_multimin_function_fdf *f, nf_thread_rule rule)
{
    static const char who[] = "nf_target_gsl_multimin";
    if (!f || !f->f || !f->fdf) {
        nf_error(NF_EARG, "%s: `%s` is NULL", who, !f ? "f" : !f->f ? "f->f" : "f->fdf");
        return NULL;
    }
    gsl_multimin_function_fdf *copy = nfi_calloc(1, sizeof *copy);
    if (!copy)
        return NULL;
    *copy = *f;
    return nf_target_own(nfi_target_of_point(f->n, call, copy, rule, who), copy, nfi_free);
}
