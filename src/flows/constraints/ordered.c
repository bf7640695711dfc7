/* Ordered numbers: y[k] = y[k-1] + e^x[k]; the first is x[0] itself, or e^x[0] if all are to be positive.

       log-det = sum of the x that are exponents,   x[k] = log(y[k] - y[k-1]).

   Forward gx[k] = e^x[k] (gy[k] + gy[k+1] + ...) + gl. Inverse: h[k] = (gy[k] - gl) / (y[k] - y[k-1]), gx[k] = h[k] -
   h[k+1]. Conditioning: a difference y[k] - y[k-1] that is small beside y[k] has lost its last digits. */
#include "core/memory.h"
#include "flows/constraints/constraint.h"

typedef struct ordered {
    bool positive;
} ordered;

NFI_CLONES static void ordered_forward(size_t K, bool positive, size_t ld, const nf_real *restrict x,
                                       nf_real *restrict y, double *restrict log_det)
{
    ld = nfi_lanes(ld);
    for (size_t k = 0; k < K; k++) {
        const nf_real *restrict xk = x + k * ld;
        nf_real *restrict yk = y + k * ld;
        const bool exponent = k || positive;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            yk[s] = (k ? y[(k - 1) * ld + s] : 0) + (exponent ? nfi_exp(xk[s]) : xk[s]);
            log_det[s] += exponent ? (double)xk[s] : 0;
        }
    }
}

/* tail [ld]: gy[k] + gy[k+1] + ... */
NFI_CLONES static void ordered_forward_vjp(size_t K, bool positive, size_t ld, const nf_real *restrict x,
                                           const nf_real *restrict gy, const nf_real *restrict gl, nf_real *restrict gx,
                                           nf_real *restrict tail)
{
    ld = nfi_lanes(ld);
    for (size_t k = K; k-- > 0;) {
        const bool exponent = k || positive;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            tail[s] = gy[k * ld + s] + (k + 1 < K ? tail[s] : 0);
            gx[k * ld + s] = exponent ? tail[s] * nfi_slope_exp(x[k * ld + s]) + gl[s] : tail[s];
        }
    }
}

NFI_CLONES static void ordered_inverse(size_t K, bool positive, size_t ld, const nf_real *restrict y,
                                       nf_real *restrict x, double *restrict log_det)
{
    ld = nfi_lanes(ld);
    for (size_t k = 0; k < K; k++) {
        const bool exponent = k || positive;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real u = y[k * ld + s] - (k ? y[(k - 1) * ld + s] : 0);
            x[k * ld + s] = exponent ? nfi_log(nfi_inside(u)) : u;
            log_det[s] += exponent ? nfi_support(u) - (double)x[k * ld + s] : 0;
        }
    }
}

NFI_CLONES static void ordered_inverse_vjp(size_t K, bool positive, size_t ld, const nf_real *restrict y,
                                           const nf_real *restrict gx, const nf_real *restrict gl, nf_real *restrict gy)
{
    ld = nfi_lanes(ld);
    for (size_t k = 0; k < K; k++) {
        const bool exponent = k || positive;
        nf_real *restrict g = gy + k * ld, *before = k ? g - ld : g;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real u = y[k * ld + s] - (k ? y[(k - 1) * ld + s] : 0), from = gx[k * ld + s];
            const nf_real h = exponent ? (from - gl[s]) * nfi_inside_slope(u) : from;
            if (k)
                before[s] -= h;
            g[s] = h;
        }
    }
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    (void)saved;
    const ordered *q = nf_self(o);
    (d == NF_FORWARD ? ordered_forward : ordered_inverse)(nf_object_shape(o)->dim_in, q->positive, p->ld, x, y,
                                                          log_det);
    return NF_OK;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)y, (void)saved, (void)g;
    const ordered *q = nf_self(o);
    const size_t K = nf_object_shape(o)->dim_in;
    if (d == NF_INVERSE) {
        ordered_inverse_vjp(K, q->positive, p->ld, x, gy, g_log_det, gx);
        return NF_OK;
    }
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *tail = nf_arena_reals(p->scratch, 1, p->ld);
    if (tail)
        ordered_forward_vjp(K, q->positive, p->ld, x, gy, g_log_det, gx, tail);
    nf_arena_rewind(p->scratch, mark);
    return tail ? NF_OK : NF_ENOMEM;
}

static nf_status describe(const nf_object *o, nf_writer *w)
{
    const ordered *q = nf_self(o);
    return nf_write_integer(w, "positive", q->positive);
}

static nf_flow *rebuild(nf_reader *r)
{
    uint64_t positive = 0;
    if (nf_read_integer(r, "positive", &positive) != NF_OK)
        return NULL;
    return (positive ? nf_positive_ordered : nf_ordered)(nf_read_dim_in(r));
}

const nf_flow_type nfi_ordered_type = {
    .part = {.name = "ordered", .describe = describe, .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = nfi_constraint_solve_jt,
    .rebuild = rebuild,
};

static nf_flow *new_ordered(const char *who, size_t K, bool positive)
{
    if (K == 0) {
        nf_error(NF_EARG, "%s: `K` is 0", who);
        return NULL;
    }
    ordered *q = nfi_calloc(1, sizeof *q);
    if (!q)
        return NULL;
    q->positive = positive;
    return nfi_constraint_new(&nfi_ordered_type, K, K, 0, q);
}

nf_flow *nf_ordered(size_t K)
{
    return new_ordered("nf_ordered", K, false);
}

nf_flow *nf_positive_ordered(size_t K)
{
    return new_ordered("nf_positive_ordered", K, true);
}
