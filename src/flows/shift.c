/* Elementwise shift: y = x + m, log-det 0 (the additive coupling law of Dinh et al. 2014, NICE, section 3.2).

       gx = gy,   gm += gy   (forward),   gm -= gy   (inverse). */
#include "flows/param.h"
#include "flows/types.h"
#include <string.h>

NFI_INLINE void move(size_t stride, size_t dim, size_t ld, nf_direction d, const nf_real *restrict m,
                     const nf_real *restrict x, nf_real *restrict y)
{
    ld = nfi_lanes(ld);
    const nf_real sign = d == NF_FORWARD ? 1 : -1;
    for (size_t i = 0; i < dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            y[i * ld + s] = x[i * ld + s] + sign * nfi_param(m, stride, ld, i, s);
    }
}

NFI_INLINE void pull_back(size_t stride, size_t dim, size_t ld, nf_direction d, const nf_real *restrict gy,
                          nf_real *restrict gm)
{
    ld = nfi_lanes(ld);
    const nf_real sign = d == NF_FORWARD ? 1 : -1;
    for (size_t i = 0; i < dim; i++) {
        nf_real sum = 0;
        NFI_SIMD_SUM(sum)
        for (size_t s = 0; s < ld; s++) {
            if (stride)
                gm[i * ld + s] += sign * gy[i * ld + s];
            sum += gy[i * ld + s];
        }
        if (!stride)
            gm[i] += sign * sum;
    }
}

NFI_SPECIALISE(shift, move, (size_t dim, size_t ld, nf_direction d, const nf_real *m, const nf_real *x, nf_real *y),
               dim, ld, d, m, x, y)
NFI_SPECIALISE(shift, pull_back, (size_t dim, size_t ld, nf_direction d, const nf_real *gy, nf_real *gm), dim, ld, d,
               gy, gm)

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    (void)log_det, (void)saved;
    (p->theta_stride ? shift_move_each : shift_move_shared)(nf_object_shape(o)->dim_in, p->ld, d, p->theta, x, y);
    return NF_OK;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)x, (void)y, (void)saved, (void)g_log_det;
    const size_t dim = nf_object_shape(o)->dim_in;
    memcpy(gx, gy, dim * p->ld * sizeof *gx);
    if (g->theta)
        (p->theta_stride ? shift_pull_back_each : shift_pull_back_shared)(dim, p->ld, d, gy, g->theta);
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
    const nf_shape shape = {
        .dim_in = dim, .dim_out = dim, .n_params = dim, .flags = NF_PER_SAMPLE | NF_VOLUME_PRESERVING};
    return nf_flow_new(&nfi_shift_type, &shape, NULL, NULL, 0);
}
