/* The Cholesky factor L [M x N] of a covariance matrix (Stan Reference Manual): x fills the lower triangle row by
   row; the diagonal is e^x. log-det = sum of the diagonal's x. Entry (i, j) is in feature j M + i of y. */
#include "base/memory.h"
#include "flows/constraints/constraint.h"
#include "flows/constraints/kernels.h"
#include <string.h>

typedef struct factor {
    size_t M, N;
} factor;

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    (void)saved;
    const factor *q = nf_self(o);
    const size_t ld = p->ld, bytes = ld * sizeof *x;
    if (d == NF_FORWARD)
        nfi_clear(y, q->M * q->N, ld);
    for (size_t i = 0, k = 0; i < q->M; i++)
        for (size_t j = 0; j < q->N && j <= i; j++, k++) {
            const size_t in = k * ld, out = (j * q->M + i) * ld;
            if (d == NF_FORWARD && i == j)
                nfi_cholesky_cov_exp(ld, x + in, y + out, log_det);
            else if (d == NF_FORWARD)
                memcpy(y + out, x + in, bytes);
            else if (i == j)
                nfi_cholesky_cov_log(ld, x + out, y + in, log_det);
            else
                memcpy(y + in, x + out, bytes);
        }
    return NF_OK;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)y, (void)saved, (void)g;
    const factor *q = nf_self(o);
    const size_t ld = p->ld, bytes = ld * sizeof *x;
    if (d == NF_INVERSE)
        nfi_clear(gx, q->M * q->N, ld);
    for (size_t i = 0, k = 0; i < q->M; i++)
        for (size_t j = 0; j < q->N && j <= i; j++, k++) {
            const size_t in = k * ld, out = (j * q->M + i) * ld;
            if (d == NF_FORWARD && i == j)
                nfi_cholesky_cov_exp_vjp(ld, x + in, gy + out, g_log_det, gx + in);
            else if (d == NF_FORWARD)
                memcpy(gx + in, gy + out, bytes);
            else if (i == j)
                nfi_cholesky_cov_log_vjp(ld, x + out, gy + in, g_log_det, gx + out);
            else
                memcpy(gx + out, gy + in, bytes);
        }
    return NF_OK;
}

static nf_status describe(const nf_object *o, nf_writer *w)
{
    const factor *q = nf_self(o);
    return nf_write_integers(w, "size", 2, (size_t[]){q->M, q->N});
}

static nf_flow *rebuild(nf_reader *r)
{
    size_t size[2];
    return nf_read_integers(r, "size", 2, size) == NF_OK ? nf_cholesky_cov(size[0], size[1]) : NULL;
}

const nf_flow_type nfi_cholesky_cov_type = {
    .part = {.name = "cholesky_cov", .describe = describe, .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = nfi_constraint_solve_jt,
    .rebuild = rebuild,
};

nf_flow *nf_cholesky_cov(size_t M, size_t N)
{
    size_t entries, twice;
    if (N == 0 || M < N || !nfi_mul(M, N, &entries) || !nfi_mul(entries, 2, &twice)) {
        nf_error(NF_EARG, "nf_cholesky_cov: a lower triangle of %zu rows and %zu columns", M, N);
        return NULL;
    }
    factor *q = nfi_calloc(1, sizeof *q);
    if (!q)
        return NULL;
    *q = (factor){M, N};
    return nfi_constraint_new(&nfi_cholesky_cov_type, N * (N + 1) / 2 + (M - N) * N, entries, q);
}
