/* The standard logistic in every dimension (logistic_kernels.c). It has no parameters; an affine flow gives location
   and scale. */
#include "math/noise.h"
#include "object/tree.h"
#include "dist/kernels.h"
#include "dist/types.h"

static nf_status sample(const nf_object *o, const nf_pass *p, nf_real *x, double *log_q, void **saved)
{
    (void)saved;
    size_t dim = o->total.dim_out;
    nf_mark mark = nf_arena_mark(p->scratch);
    double *u = nf_arena_alloc(p->scratch, dim * p->ld * sizeof *u);
    if (u) {
        nfi_noise_uniform_d(&p->noise, dim, p->n, p->ld, u);
        nfi_logistic_quantile(dim, p->ld, u, x);
        nfi_logistic_score(dim, p->ld, x, log_q);
    }
    nf_arena_rewind(p->scratch, mark);
    return u ? NF_OK : NF_ENOMEM;
}

static nf_status score(const nf_object *o, const nf_pass *p, const nf_real *x, double *log_p, void **saved)
{
    (void)saved;
    nfi_logistic_score(o->total.dim_out, p->ld, x, log_p);
    return NF_OK;
}

static nf_status score_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *g_log_p,
                           nf_real *gx, const nf_grad *g)
{
    (void)saved, (void)g;
    if (gx)
        nfi_logistic_gradient(o->total.dim_out, p->ld, x, g_log_p, gx);
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
    nf_shape own = {.dim_in = dim, .dim_out = dim, .flags = NF_PER_SAMPLE};
    return nf_dist_new(&nfi_logistic_type, &own, NULL, NULL, 0);
}
