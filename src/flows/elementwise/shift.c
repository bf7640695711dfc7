/* Elementwise shift: y = x + m, log-det 0 (the additive coupling law of Dinh et al. 2014, NICE, section 3.2).

       gx = gy,   gm += gy   (forward),   gm -= gy   (inverse). */
#include "math/rows.h"
#include "flows/types.h"
#include "object/tree.h"
#include <nflow/elementwise.h>
#include <string.h>

static nf_real sign_of(nf_direction d)
{
    return d == NF_FORWARD ? 1 : -1;
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    (void)log_det, (void)saved;
    const size_t dim = nf_object_shape(o)->dim_in;
    if (p->theta_stride)
        nfi_move(dim * p->ld, sign_of(d), x, p->theta, y);
    else
        nfi_add_to_rows(dim, p->ld, sign_of(d), p->theta, x, y);
    return NF_OK;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)x, (void)y, (void)saved, (void)g_log_det;
    const size_t dim = nf_object_shape(o)->dim_in;
    memcpy(gx, gy, dim * p->ld * sizeof *gx);
    if (g->theta && p->theta_stride)
        nfi_add_scaled(dim * p->ld, sign_of(d), gy, g->theta);
    else if (g->theta)
        nfi_add_row_sums(dim, p->ld, sign_of(d), gy, g->theta);
    return NF_OK;
}

static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    (void)d, (void)x, (void)y, (void)saved;
    memcpy(gy, gx, nf_object_shape(o)->dim_in * p->ld * sizeof *gy);
    return NF_OK;
}

static void slices(const nf_object *o, nf_slice_fn *each, void *user)
{
    each(user, "m", 0, 1, &nf_object_shape(o)->dim_in);
}

static nf_flow *rebuild(nf_reader *r)
{
    return nf_shift(nf_read_dim_in(r));
}

const nf_flow_type nfi_shift_type = {
    .part = {.name = "shift", .slices = slices},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_jt,
    .rebuild = rebuild,
};

nf_flow *nf_shift(size_t dim)
{
    if (dim == 0) {
        nf_error(NF_EARG, "nf_shift: `dim` is 0");
        return NULL;
    }
    const nf_shape shape = {.dim_in = dim, .dim_out = dim, .n_params = dim, .flags = NF_PER_SAMPLE | NFI_SAVES_ALIKE};
    return nf_flow_new(&nfi_shift_type, &shape, NULL, NULL, 0);
}
