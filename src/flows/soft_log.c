/* The soft-log tail layer (Andrade 2024, LOFT), elementwise: the identity up to t, a logarithm beyond,

       y = sign(x) (min(|x|, t) + log(1 + e)),   e = max(|x| - t, 0),   log|det dy/dx| = -sum log(1 + e)
       x = sign(y) (min(|y|, t) + exp(e) - 1),   e = max(|y| - t, 0),   log|det dx/dy| = sum e.

   With s = sign if e > 0 and 0 elsewhere, and each direction's own e,

       forward: gx = (gy - s g_log_det) / (1 + e),   inverse: gy = gx exp(e) + s g_log_det.

   The slope is continuous, its derivative jumps at t. Forward, everything finite stays finite. The inverse overflows
   to infinity where exp(e) does, beyond t + 709 (double) or t + 88 (float). Conditioning: an image keeps the absolute
   error of numbers of size t, so that large x come back with a relative error of t roundings. */
#include "core/memory.h"
#include "core/vec.h"
#include "flows/types.h"

/* |x| - t beyond t, 0 elsewhere; NaN stays. *within: min(|x|, t) */
NFI_INLINE nf_real excess(nf_real t, nf_real x, nf_real *within)
{
    const nf_real size = nfi_abs(x);
    *within = size > t ? t : size;
    return size - *within;
}

NFI_INLINE nf_real with_sign(nf_real x, nf_real size)
{
    return x < 0 ? -size : size;
}

NFI_INLINE void apply_rows(bool forward, size_t dim, size_t ld, nf_real t, const nf_real *restrict x,
                           nf_real *restrict y, double *restrict log_det)
{
    ld = nfi_lanes(ld);
    for (size_t i = 0; i < dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            nf_real within;
            const nf_real e = excess(t, x[i * ld + s], &within), l = forward ? nfi_log1p(e) : e;
            y[i * ld + s] = with_sign(x[i * ld + s], within + (forward ? l : nfi_expm1(e)));
            log_det[s] += (double)(forward ? -l : l);
        }
    }
}

/* to = from times the direction's slope at x, or divided by it; with g_log_det: gx. A zero stays one, whatever the
 * slope. */
NFI_INLINE void scale_rows(bool forward, bool divide, size_t dim, size_t ld, nf_real t, const nf_real *restrict x,
                           const nf_real *restrict from, const nf_real *restrict g_log_det, nf_real *restrict to)
{
    ld = nfi_lanes(ld);
    for (size_t i = 0; i < dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            nf_real within;
            const nf_real v = x[i * ld + s], e = excess(t, v, &within), u = from[i * ld + s];
            const nf_real sign = e > 0 ? with_sign(v, 1) : 0, g_l = g_log_det ? sign * g_log_det[s] : 0;
            if (forward)
                to[i * ld + s] = divide ? u * (1 + e) : (u - g_l) / (1 + e);
            else
                to[i * ld + s] = (u == 0 ? 0 : u * nfi_exp(divide ? -e : e)) + g_l;
        }
    }
}

NFI_CLONES static void soft_log_apply(nf_direction d, size_t dim, size_t ld, nf_real t, const nf_real *x, nf_real *y,
                                      double *log_det)
{
    if (d == NF_FORWARD)
        apply_rows(true, dim, ld, t, x, y, log_det);
    else
        apply_rows(false, dim, ld, t, x, y, log_det);
}

NFI_CLONES static void soft_log_scale(nf_direction d, bool divide, size_t dim, size_t ld, nf_real t, const nf_real *x,
                                      const nf_real *from, const nf_real *g_log_det, nf_real *to)
{
    if (d == NF_FORWARD && divide)
        scale_rows(true, true, dim, ld, t, x, from, NULL, to);
    else if (d == NF_FORWARD)
        scale_rows(true, false, dim, ld, t, x, from, g_log_det, to);
    else if (divide)
        scale_rows(false, true, dim, ld, t, x, from, NULL, to);
    else
        scale_rows(false, false, dim, ld, t, x, from, g_log_det, to);
}

/* ---- hooks; nothing is saved ---- */

static nf_real threshold(const nf_object *o)
{
    return (nf_real)((const nf_soft_log_options *)nf_self(o))->threshold;
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    (void)saved;
    soft_log_apply(d, nf_object_shape(o)->dim_in, p->ld, threshold(o), x, y, log_det);
    return NF_OK;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)y, (void)saved, (void)g;
    soft_log_scale(d, false, nf_object_shape(o)->dim_in, p->ld, threshold(o), x, gy, g_log_det, gx);
    return NF_OK;
}

static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    (void)y, (void)saved;
    soft_log_scale(d, true, nf_object_shape(o)->dim_in, p->ld, threshold(o), x, gx, NULL, gy);
    return NF_OK;
}

static nf_status describe(const nf_object *o, nf_writer *w)
{
    return nf_write_number(w, "threshold", ((const nf_soft_log_options *)nf_self(o))->threshold);
}

static nf_flow *rebuild(nf_reader *r)
{
    nf_soft_log_options q = {.threshold = 0};
    if (nf_read_number(r, "threshold", &q.threshold) != NF_OK)
        return NULL;
    return nf_soft_log(nf_read_dim_in(r), &q);
}

const nf_flow_type nfi_soft_log_type = {
    .part = {.name = "soft_log", .describe = describe, .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_jt,
    .rebuild = rebuild,
};

nf_flow *nf_soft_log(size_t dim, const nf_soft_log_options *options)
{
    nf_soft_log_options q = options ? *options : (nf_soft_log_options){.threshold = 0};
    q.threshold = q.threshold != 0 ? q.threshold : 100;
    if (dim == 0 || !(q.threshold > 0 && q.threshold <= 1e15)) {
        nf_error(NF_EARG, "nf_soft_log: `dim` is %zu, `threshold` is %g, which must be above 0 and at most 1e15", dim,
                 q.threshold);
        return NULL;
    }
    nf_soft_log_options *self = nfi_calloc(1, sizeof *self);
    if (!self)
        return NULL;
    *self = q;
    const nf_shape own = {.dim_in = dim, .dim_out = dim, .flags = NF_PER_SAMPLE};
    return nf_flow_new(&nfi_soft_log_type, &own, self, NULL, 0);
}
