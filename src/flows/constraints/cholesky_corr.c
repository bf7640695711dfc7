/* The Cholesky factor L [K x K] of a correlation matrix (Stan Reference Manual; Lewandowski et al. 2009). x fills the
   strict lower triangle row by row; row i, with c_j = 1 + (i - 1 - j) / 2 counting the later factors, is

       w_0 = 1,   L_ij = w_j tanh x_j,   w_{j+1} = w_j sech x_j,   L_ii = w_i,   log-det = sum c_j log(1 - tanh^2 x_j).

   Forward VJP, from the diagonal back with A the cotangent of w_{j+1}:
       gx_j = w_j sech x_j (sech x_j gL_j - tanh x_j A) - 2 gl c_j tanh x_j,   A <- tanh x_j gL_j + sech x_j A.

   Inverse: r_i = L_ii, t = L_ij / r_{j+1} = sinh x_j, r_j = r_{j+1} cosh x_j: nothing cancels, and only ratios within
   the row matter; log-det = sum 2 c_j log cosh x_j. Its VJP, with u = tanh x_j = L_ij / r_j and b the cotangent of log
   r_j: e = gx_j + (2 gl c_j + b) u,   gL_ij = e / r_j,   b <- b - e u,   b = 0 before j = 0,   gL_ii = b / L_ii. */
#include "core/memory.h"
#include "flows/constraints/constraint.h"

/* sech x */
NFI_INLINE nf_real sech(nf_real x)
{
    const nf_real e = nfi_exp(-nfi_abs(x));
    return 2 * e / (1 + e * e);
}

NFI_INLINE nf_real later(size_t i, size_t j)
{
    return NF_R(1) + NF_R(0.5) * (nf_real)(i - 1 - j);
}

/* Row i: x [i x ld], L its entry (i, 0), the next ones `step` further. */
NFI_CLONES static void cholesky_corr_forward(size_t i, size_t step, size_t ld, const nf_real *restrict x,
                                             nf_real *restrict L, double *restrict log_det)
{
    ld = nfi_lanes(ld);
    nf_real *restrict w = L + i * step;
    for (size_t s = 0; s < ld; s++)
        w[s] = 1;
    for (size_t j = 0; j < i; j++) {
        const nf_real c = later(i, j);
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real from = x[j * ld + s], size = nfi_abs(from), e = nfi_exp(-2 * size);
            L[j * step + s] = w[s] * nfi_tanh(from);
            w[s] *= sech(from);
            log_det[s] += 2 * (double)c * ((double)(NF_R(0.69314718055994531) - nfi_log1p(e)) - (double)size);
        }
    }
}

/* w: [2 rows x ld] */
NFI_CLONES static void cholesky_corr_forward_vjp(size_t i, size_t step, size_t ld, const nf_real *restrict x,
                                                 const nf_real *restrict gL, const nf_real *restrict gl,
                                                 nf_real *restrict gx, nf_real *restrict work)
{
    ld = nfi_lanes(ld);
    nf_real *restrict w = work, *restrict A = work + ld;
    for (size_t s = 0; s < ld; s++) {
        w[s] = 1;
        A[s] = gL[i * step + s];
    }
    for (size_t j = 0; j < i; j++) { /* gx holds w_{j+1} = w_j sech x_j */
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            gx[j * ld + s] = w[s] *= sech(x[j * ld + s]);
    }
    for (size_t j = i; j-- > 0;) {
        const nf_real c = later(i, j);
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real h = sech(x[j * ld + s]), t = nfi_tanh(x[j * ld + s]), g = gL[j * step + s];
            gx[j * ld + s] = gx[j * ld + s] * (h * g - t * A[s]) - 2 * c * gl[s] * t;
            A[s] = t * g + h * A[s];
        }
    }
}

/* sqrt(1 + t^2) */
NFI_INLINE nf_real length(nf_real t)
{
    const nf_real size = nfi_abs(t), most = size > 1 ? size : 1, part = (size > 1 ? 1 : size) / most;
    return most * nfi_sqrt(1 + part * part);
}

/* r [ld] */
NFI_CLONES static void cholesky_corr_inverse(size_t i, size_t step, size_t ld, const nf_real *restrict L,
                                             nf_real *restrict x, double *restrict log_det, nf_real *restrict r)
{
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        r[s] = nfi_inside(L[i * step + s]);
        log_det[s] += nfi_support(L[i * step + s]);
    }
    for (size_t j = i; j-- > 0;) {
        const nf_real c = later(i, j);
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real t = L[j * step + s] / r[s], h = length(t), size = nfi_abs(t);
            const nf_real a = nfi_log1p(size + size * (size / (1 + h)));
            x[j * ld + s] = t < 0 ? -a : a;
            r[s] *= h;
            log_det[s] += (double)(2 * c * nfi_log(h));
        }
    }
}

/* gL's entries beyond the diagonal are zeros already; b [ld] */
NFI_CLONES static void cholesky_corr_inverse_vjp(size_t i, size_t step, size_t ld, const nf_real *restrict L,
                                                 const nf_real *restrict gx, const nf_real *restrict gl,
                                                 nf_real *restrict gL, nf_real *restrict b)
{
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        gL[i * step + s] = nfi_inside(L[i * step + s]);
        b[s] = 0;
    }
    for (size_t j = i; j-- > 0;) { /* gL holds r_j */
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real r = gL[(j + 1) * step + s];
            gL[j * step + s] = r * length(L[j * step + s] / r);
        }
    }
    for (size_t j = 0; j < i; j++) {
        const nf_real c = later(i, j);
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real r = gL[j * step + s], u = L[j * step + s] / r;
            const nf_real e = gx[j * ld + s] + (2 * c * gl[s] + b[s]) * u;
            gL[j * step + s] = e / r;
            b[s] -= e * u;
        }
    }
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        gL[i * step + s] = b[s] * nfi_inside_slope(L[i * step + s]);
}

static size_t size_of(const nf_object *o)
{
    const size_t *K = nf_self(o);
    return *K;
}

/* Entry (0, 0) is 1; rows 1 .. K - 1 each for itself. */
static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    (void)saved;
    const size_t K = size_of(o), ld = p->ld, step = K * ld;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *r = nf_arena_reals(p->scratch, 1, ld);
    if (!r)
        return NF_ENOMEM;
    if (d == NF_FORWARD) {
        nfi_clear(y, K * K, ld);
        for (size_t s = 0; s < ld; s++)
            y[s] = 1;
    }
    for (size_t i = 1; i < K; i++) {
        const size_t at = i * (i - 1) / 2 * ld;
        if (d == NF_FORWARD)
            cholesky_corr_forward(i, step, ld, x + at, y + i * ld, log_det);
        else
            cholesky_corr_inverse(i, step, ld, x + i * ld, y + at, log_det, r);
    }
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)y, (void)saved, (void)g;
    const size_t K = size_of(o), ld = p->ld, step = K * ld;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *work = nf_arena_reals(p->scratch, 2, ld);
    if (!work)
        return NF_ENOMEM;
    if (d == NF_INVERSE)
        nfi_clear(gx, K * K, ld);
    for (size_t i = 1; i < K; i++) {
        const size_t at = i * (i - 1) / 2 * ld;
        if (d == NF_FORWARD)
            cholesky_corr_forward_vjp(i, step, ld, x + at, gy + i * ld, g_log_det, gx + at, work);
        else
            cholesky_corr_inverse_vjp(i, step, ld, x + i * ld, gy + at, g_log_det, gx + i * ld, work);
    }
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static nf_status describe(const nf_object *o, nf_writer *w)
{
    return nf_write_integer(w, "K", size_of(o));
}

static nf_flow *rebuild(nf_reader *r)
{
    uint64_t K;
    return nf_read_integer(r, "K", &K) == NF_OK ? nf_cholesky_corr((size_t)K) : NULL;
}

const nf_flow_type nfi_cholesky_corr_type = {
    .part = {.name = "cholesky_corr", .describe = describe, .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = nfi_constraint_solve_jt,
    .rebuild = rebuild,
};

nf_flow *nf_cholesky_corr(size_t K)
{
    size_t entries;
    if (K < 2 || !nfi_mul(K, K, &entries)) {
        nf_error(NF_EARG, "nf_cholesky_corr: `K` is %zu", K);
        return NULL;
    }
    size_t *self = nfi_calloc(1, sizeof *self);
    if (!self)
        return NULL;
    *self = K;
    return nfi_constraint_new(&nfi_cholesky_corr_type, K * (K - 1) / 2, entries, 0, self);
}
