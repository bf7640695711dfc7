/* The log density of one point. */
#ifndef SCORE_H
#define SCORE_H
#include <criterion/criterion.h>
#include <nflow/model.h>

static inline double score(nf_model *m, const nf_real *x)
{
    double log_p;
    cr_assert_eq(nf_log_prob(m, NULL, NULL, 1, x, NULL, &log_p), NF_OK, "%s", nf_error_message());
    return log_p;
}

#endif
