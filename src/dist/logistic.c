/* The standard logistic in every dimension, log q(x) = -|x| - 2 log(1 + e^-|x|), d log q / dx = -tanh(x / 2).
   A sample is the quantile x = log u - log(1 - u); 1 - u is exact in double. It has no parameters: location and scale
   are an affine flow's. */
#include "core/noise.h"
#include "core/tree.h"
#include "core/vec.h"
#include "dist/types.h"

NFI_CLONES static void logistic_score(size_t dim, size_t stride, const nf_real *x, double *log_p)
{
    size_t ld = nfi_lanes(stride);
    for (size_t d = 0; d < dim; d++) {
        const nf_real *xd = x + d * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            nf_real a = nfi_abs(xd[s]);
            log_p[s] -= (double)(a + 2 * nfi_log1p(nfi_exp(-a)));
        }
    }
}

NFI_CLONES static void logistic_quantile(size_t dim, size_t stride, const double *u, nf_real *x)
{
    size_t ld = nfi_lanes(stride);
    NFI_SIMD
    for (size_t i = 0; i < dim * ld; i++)
        x[i] = (nf_real)(nfi_log_normal_d(u[i]) - nfi_log_normal_d(1 - u[i]));
}

NFI_CLONES static void logistic_gradient(size_t dim, size_t stride, const nf_real *x, const nf_real *g_log_p,
                                         nf_real *gx)
{
    size_t ld = nfi_lanes(stride);
    for (size_t d = 0; d < dim; d++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            gx[d * ld + s] = -g_log_p[s] * nfi_tanh(NF_R(0.5) * x[d * ld + s]);
    }
}

static nf_status sample(const nf_object *o, const nf_pass *p, nf_real *x, double *log_q, void **saved)
{
    (void)saved;
    size_t dim = o->total.dim_out;
    nf_mark mark = nf_arena_mark(p->scratch);
    double *u = nf_arena_alloc(p->scratch, dim * p->ld * sizeof *u);
    if (u) {
        nfi_noise_uniform_d(&p->noise, dim, p->n, p->ld, u);
        logistic_quantile(dim, p->ld, u, x);
        logistic_score(dim, p->ld, x, log_q);
    }
    nf_arena_rewind(p->scratch, mark);
    return u ? NF_OK : NF_ENOMEM;
}

static nf_status score(const nf_object *o, const nf_pass *p, const nf_real *x, double *log_p, void **saved)
{
    (void)saved;
    logistic_score(o->total.dim_out, p->ld, x, log_p);
    return NF_OK;
}

static nf_status score_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *g_log_p,
                           nf_real *gx, const nf_grad *g)
{
    (void)saved, (void)g;
    if (gx)
        logistic_gradient(o->total.dim_out, p->ld, x, g_log_p, gx);
    return NF_OK;
}

static nf_dist *rebuild(nf_reader *r)
{
    return nf_logistic(nf_read_dim_out(r));
}

const nf_dist_type nfi_logistic_type = {
    .part = {.name = "logistic"},
    .abi = sizeof(nf_dist_type),
    .sample = sample,
    .sample_vjp = nfi_sample_vjp_none,
    .score = score,
    .score_vjp = score_vjp,
    .rebuild = rebuild,
};

nf_dist *nf_logistic(size_t dim)
{
    if (dim == 0) {
        nf_error(NF_EARG, "nf_logistic: `dim` is 0");
        return NULL;
    }
    nf_shape own = {.dim_in = dim, .dim_out = dim};
    return nf_dist_new(&nfi_logistic_type, &own, NULL, NULL, 0);
}
