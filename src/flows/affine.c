/* Elementwise affine flow: y = x exp(s) + m, log|det dy/dx| = sum s; x = (y - m) exp(-s).

       gx = gy e^s,   gm += gy,   gs += gy (y - m) + g_log_det           (forward; y - m = x e^s)
       gx = gy e^-s,  gm -= gx,   gs -= gy y + g_log_det                 (inverse; y is the base side)

   e^s x is taken as (e^(s/2) x) e^(s/2), see root_scale.h.
   A row of the tile needs m and s only, shared or one a sample (theta_stride 1: the amortised posterior of a VAE).
   Conditioning: both directions are exact to rounding of x e^s and m. */
#include "core/kernel.h"
#include "flows/affine.h"
#include "flows/compose.h"
#include "flows/root_scale.h"
#include "flows/types.h"

NFI_INLINE void apply_row(size_t ld, bool forward, bool per_sample, const nf_real *m, const nf_real *s,
                          const nf_real *restrict x, nf_real *restrict y, double *restrict log_det)
{
    nf_real sign = forward ? 1 : -1, scale = nfi_root_scale(sign * s[0]);
    NFI_SIMD
    for (size_t i = 0; i < ld; i++) {
        nf_real e = per_sample ? nfi_root_scale(sign * s[i]) : scale, shift = m[per_sample ? i : 0];
        y[i] = forward ? x[i] * e * e + shift : (x[i] - shift) * e * e;
        log_det[i] += (double)(sign * s[per_sample ? i : 0]);
    }
}

NFI_INLINE void apply_rows(size_t dim, size_t ld, bool forward, bool per_sample, const nf_real *theta, const nf_real *x,
                           nf_real *y, double *log_det)
{
    ld = nfi_lanes(ld);
    size_t step = per_sample ? ld : 1;
    for (size_t r = 0; r < dim; r++)
        apply_row(ld, forward, per_sample, theta + r * step, theta + (dim + r) * step, x + r * ld, y + r * ld, log_det);
}

/* gx = gy / scale is what solve_jt wants: the same with the sign turned. */
NFI_INLINE void scale_row(size_t ld, nf_real sign, bool per_sample, const nf_real *s, const nf_real *restrict gy,
                          nf_real *restrict gx)
{
    nf_real scale = nfi_root_scale(sign * s[0]);
    NFI_SIMD
    for (size_t i = 0; i < ld; i++) {
        nf_real e = per_sample ? nfi_root_scale(sign * s[i]) : scale;
        gx[i] = gy[i] * e * e;
    }
}

NFI_INLINE void scale_rows(size_t dim, size_t ld, bool forward, bool per_sample, const nf_real *theta,
                           const nf_real *gy, nf_real *gx)
{
    ld = nfi_lanes(ld);
    size_t step = per_sample ? ld : 1;
    for (size_t r = 0; r < dim; r++)
        scale_row(ld, forward ? 1 : -1, per_sample, theta + (dim + r) * step, gy + r * ld, gx + r * ld);
}

/* base: x or y, whichever stands on the base side. */
NFI_INLINE void gradient_rows(size_t dim, size_t ld, bool forward, bool per_sample, const nf_real *base,
                              const nf_real *gy, const nf_real *gx, const nf_real *g_log_det, nf_real *g_theta)
{
    ld = nfi_lanes(ld);
    size_t step = per_sample ? ld : 1;
    for (size_t r = 0; r < dim; r++) {
        nf_real sum_m = 0, sum_s = 0, *gm = g_theta + r * step, *gs = g_theta + (dim + r) * step;
        const nf_real *b = base + r * ld, *u = gy + r * ld, *v = gx + r * ld;
        NFI_SIMD_SUM(sum_m, sum_s)
        for (size_t i = 0; i < ld; i++) {
            nf_real dm = forward ? u[i] : -v[i];
            nf_real ds = forward ? (b[i] == 0 ? 0 : v[i] * b[i]) + g_log_det[i] : -(u[i] * b[i] + g_log_det[i]);
            if (per_sample) {
                gm[i] += dm;
                gs[i] += ds;
            } else {
                sum_m += dm;
                sum_s += ds;
            }
        }
        if (!per_sample) {
            *gm += sum_m;
            *gs += sum_s;
        }
    }
}

/* The four cases of a body, each with constants that the compiler can see. */
#define NFI_CASES(body, ...)                          \
    do {                                              \
        if (d == NF_FORWARD && stride)                \
            body(dim, ld, true, true, __VA_ARGS__);   \
        else if (d == NF_FORWARD)                     \
            body(dim, ld, true, false, __VA_ARGS__);  \
        else if (stride)                              \
            body(dim, ld, false, true, __VA_ARGS__);  \
        else                                          \
            body(dim, ld, false, false, __VA_ARGS__); \
    } while (0)

NFI_CLONES static void apply_tile(nf_direction d, size_t dim, size_t ld, size_t stride, const nf_real *theta,
                                  const nf_real *x, nf_real *y, double *log_det)
{
    NFI_CASES(apply_rows, theta, x, y, log_det);
}

NFI_CLONES static void scale_tile(nf_direction d, size_t dim, size_t ld, size_t stride, const nf_real *theta,
                                  const nf_real *gy, nf_real *gx)
{
    NFI_CASES(scale_rows, theta, gy, gx);
}

NFI_CLONES static void gradient_tile(nf_direction d, size_t dim, size_t ld, size_t stride, const nf_real *base,
                                     const nf_real *gy, const nf_real *gx, const nf_real *g_log_det, nf_real *g_theta)
{
    NFI_CASES(gradient_rows, base, gy, gx, g_log_det, g_theta);
}

nf_status nfi_affine_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                           double *log_det, void **saved)
{
    (void)saved;
    apply_tile(d, nf_object_shape(o)->dim_in, p->ld, p->theta_stride, p->theta, x, y, log_det);
    return NF_OK;
}

nf_status nfi_affine_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                         void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)saved;
    size_t dim = nf_object_shape(o)->dim_in;
    scale_tile(d, dim, p->ld, p->theta_stride, p->theta, gy, gx);
    if (g->theta)
        gradient_tile(d, dim, p->ld, p->theta_stride, d == NF_FORWARD ? x : y, gy, gx, g_log_det, g->theta);
    return NF_OK;
}

nf_status nfi_affine_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                              void *saved, const nf_real *gx, nf_real *gy)
{
    (void)x, (void)y, (void)saved;
    scale_tile(nfi_opposite(d), nf_object_shape(o)->dim_in, p->ld, p->theta_stride, p->theta, gx, gy);
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
    nf_shape shape = {.dim_in = dim, .dim_out = dim, .n_params = 2 * dim, .flags = NF_PER_SAMPLE};
    return nf_flow_new(&nfi_affine_type, &shape, NULL, NULL, 0);
}
