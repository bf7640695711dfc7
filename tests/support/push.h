/* A batch through the flow of a model, which must succeed. */
#ifndef PUSH_H
#define PUSH_H
#include <criterion/criterion.h>
#include <nflow/model.h>

static inline void push(const nf_model *m, nf_direction d, size_t n, const nf_real *x, const nf_real *ctx, nf_real *y,
                        double *log_det)
{
    cr_assert_eq(nf_transform(m, NULL, NULL, d, n, x, ctx, y, log_det), NF_OK, "%s", nf_error_message());
}

#endif
