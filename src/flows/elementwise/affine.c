/* The hooks of the elementwise affine flow. The formulas are in affine_kernels.c. */
#include "flows/elementwise/affine.h"
#include "flows/compose.h"
#include "flows/types.h"
#include "object/tree.h"

nf_status nfi_affine_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                           double *log_det, void **saved)
{
    (void)saved;
    nfi_affine_map(p->theta_stride, d, nf_object_shape(o)->dim_in, p->ld, p->theta, x, y, log_det);
    return NF_OK;
}

nf_status nfi_affine_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                         void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)saved;
    size_t dim = nf_object_shape(o)->dim_in;
    nfi_affine_scale(p->theta_stride, d, dim, p->ld, p->theta, gy, gx);
    if (g->theta)
        nfi_affine_add_gradient(p->theta_stride, d, dim, p->ld, d == NF_FORWARD ? x : y, gy, gx, g_log_det, g->theta);
    return NF_OK;
}

nf_status nfi_affine_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                              void *saved, const nf_real *gx, nf_real *gy)
{
    (void)x, (void)y, (void)saved;
    nfi_affine_scale(p->theta_stride, nfi_opposite(d), nf_object_shape(o)->dim_in, p->ld, p->theta, gx, gy);
    return NF_OK;
}

void nfi_affine_slices(const nf_object *o, nf_slice_fn *each, void *user)
{
    size_t dim = nf_object_shape(o)->dim_in;
    each(user, "m", 0, 1, &dim);
    each(user, "s", dim, 1, &dim);
}

static nf_flow *affine_rebuild(nf_reader *r)
{
    return nf_affine(nf_read_dim_in(r));
}

const nf_flow_type nfi_affine_type = {
    .part = {.name = "affine", .slices = nfi_affine_slices},
    .abi = sizeof(nf_flow_type),
    .apply = nfi_affine_apply,
    .vjp = nfi_affine_vjp,
    .solve_jt = nfi_affine_solve_jt,
    .rebuild = affine_rebuild,
};

nf_flow *nf_affine(size_t dim)
{
    if (dim == 0 || dim > SIZE_MAX / 2) {
        nf_error(NF_EARG, "nf_affine: `dim` is %zu", dim);
        return NULL;
    }
    nf_shape shape = {.dim_in = dim, .dim_out = dim, .n_params = 2 * dim, .flags = NF_PER_SAMPLE | NFI_SAVES_ALIKE};
    return nf_flow_new(&nfi_affine_type, &shape, NULL, NULL, 0);
}
