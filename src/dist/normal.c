/* The standard normal (normal_kernels.c). It has no parameters; learnt and conditional normals are this one pushed
   through an affine flow (dist/compose.c). */
#include "object/tree.h"
#include "dist/kernels.h"
#include "dist/types.h"

static nf_status sample(const nf_object *o, const nf_pass *p, nf_real *x, double *log_q, void **saved)
{
    (void)saved;
    nf_noise_normal(&p->noise, o->total.dim_out, p->n, p->ld, x);
    nfi_normal_score(o->total.dim_out, p->ld, x, log_q);
    return NF_OK;
}

static nf_status score(const nf_object *o, const nf_pass *p, const nf_real *x, double *log_p, void **saved)
{
    (void)saved;
    nfi_normal_score(o->total.dim_out, p->ld, x, log_p);
    return NF_OK;
}

static nf_status score_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *g_log_p,
                           nf_real *gx, const nf_grad *g)
{
    (void)saved, (void)g;
    if (gx)
        nfi_normal_gradient(o->total.dim_out, p->ld, x, g_log_p, gx);
    return NF_OK;
}

static nf_dist *rebuild(nf_reader *r)
{
    return nf_normal(nf_read_dim_out(r));
}

const nf_dist_type nfi_normal_type = {
    .part = {.name = "normal"},
    .abi = sizeof(nf_dist_type),
    .sample = sample,
    .sample_vjp = nfi_sample_vjp_none,
    .score = score,
    .score_vjp = score_vjp,
    .rebuild = rebuild,
};

nf_dist *nf_normal(size_t dim)
{
    if (dim == 0) {
        nf_error(NF_EARG, "nf_normal: `dim` is 0");
        return NULL;
    }
    const nf_shape own = {.dim_in = dim, .dim_out = dim, .flags = NF_PER_SAMPLE};
    return nf_dist_new(&nfi_normal_type, &own, NULL, NULL, 0);
}
