/* Affine flow with a low-rank matrix: y = m + e^s (x + W W^T x), W [dim x r], that is, y = m + D M x with D = diag(e^s)
   and M = I + W W^T. With C = I + W^T W [r x r] = R R^T (Cholesky),

       log|det dy/dx| = sum s + log det C = sum s + 2 sum log R_kk        (Sylvester's determinant identity)
       M^-1 = I - W C^-1 W^T                                              (Woodbury).

   A standard normal x gives y the covariance D M^2 D, and M^2 = I + W (2 I + W^T W) W^T. For any V [dim x r] with
   singular values v_k, the W of the same singular vectors and singular values w_k, w_k^2 = sqrt(1 + v_k^2) - 1, has
   M^2 = I + V V^T, since w^2 (2 + w^2) = v^2. So the covariances are exactly D^2 + U U^T, U = D V any [dim x r]
   matrix: those of factor analysis. (M is symmetric, and so needs no r of its own for a rotation.)

   Backward, with t = W^T x, x on the base's side, and on the target's side the cotangent w, forward gy and inverse -gx:

       forward gx = M D gy, inverse gx = D^-1 M^-1 gy;   u = D w,   q = W^T u,   gm += w,   gs += u (x + W t) + g_l,
       gW += u t^T + x q^T + 2 g_l W C^-1,   g_l the log-det's cotangent (inverse: its negative).

   W = 0 is a saddle of every loss in W; so W starts small, but not there. Conditioning: cond(M) = 1 + |W|^2, of which
   the inverse loses the digits; |W|^2 must not overflow. */
#include "core/memory.h"
#include "flows/param.h"
#include "flows/root_scale.h"
#include "flows/types.h"
#include <math.h>

/* theta: m [dim], s [dim], W [dim x r] by rows. */
typedef struct sizes {
    size_t dim, r;
} sizes;

/* What follows from theta alone, a row of nfi_param_columns each: e^(s/2) [dim], R [r (r + 1) / 2] by rows. */
NFI_INLINE size_t factor_at(size_t k, size_t l)
{
    return k * (k + 1) / 2 + l;
}

NFI_INLINE void prepare(size_t stride, sizes n, size_t ld, const nf_real *theta, nf_real *root, nf_real *R)
{
    const size_t c = nfi_param_columns(stride, nfi_lanes(ld));
    const nf_real *W = theta + 2 * n.dim * c;
    nfi_root_scales(n.dim * c, 1, theta + n.dim * c, root);
    for (size_t k = 0; k < n.r; k++)
        for (size_t l = 0; l <= k; l++) {
            nf_real *restrict to = R + factor_at(k, l) * c;
            NFI_SIMD
            for (size_t s = 0; s < c; s++)
                to[s] = k == l;
            for (size_t i = 0; i < n.dim; i++) {
                const nf_real *a = W + (i * n.r + k) * c, *b = W + (i * n.r + l) * c;
                NFI_SIMD
                for (size_t s = 0; s < c; s++)
                    to[s] += a[s] * b[s];
            }
        }
    for (size_t k = 0; k < n.r; k++) /* C, of which the lower half is there, to R in place */
        for (size_t l = 0; l <= k; l++) {
            nf_real *restrict to = R + factor_at(k, l) * c;
            for (size_t j = 0; j < l; j++) {
                const nf_real *a = R + factor_at(k, j) * c, *b = R + factor_at(l, j) * c;
                NFI_SIMD
                for (size_t s = 0; s < c; s++)
                    to[s] -= a[s] * b[s];
            }
            const nf_real *pivot = R + factor_at(l, l) * c;
            NFI_SIMD
            for (size_t s = 0; s < c; s++)
                to[s] = k == l ? nfi_sqrt(to[s]) : to[s] / pivot[s];
        }
}

NFI_INLINE void add_log_det(size_t stride, double sign, sizes n, size_t ld, const nf_real *log_scale, const nf_real *R,
                            double *restrict log_det)
{
    ld = nfi_lanes(ld);
    for (size_t i = 0; i < n.dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            log_det[s] += sign * (double)nfi_param(log_scale, stride, ld, i, s);
    }
    for (size_t k = 0; k < n.r; k++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            log_det[s] += sign * 2 * (double)nfi_log(nfi_param(R, stride, ld, factor_at(k, k), s));
    }
}

/* t = C^-1 t, t [r x columns]: by R, then by R^T. */
NFI_INLINE void solve(size_t stride, sizes n, size_t ld, size_t columns, const nf_real *R, nf_real *t)
{
    for (size_t pass = 0; pass < 2; pass++)
        for (size_t step = 0; step < n.r; step++) {
            const size_t k = pass ? n.r - 1 - step : step;
            nf_real *restrict to = t + k * columns;
            for (size_t j = pass ? k + 1 : 0; j < (pass ? n.r : k); j++) {
                const nf_real *from = t + j * columns;
                NFI_SIMD
                for (size_t s = 0; s < columns; s++)
                    to[s] -= nfi_param(R, stride, ld, pass ? factor_at(j, k) : factor_at(k, j), s) * from[s];
            }
            NFI_SIMD
            for (size_t s = 0; s < columns; s++)
                to[s] /= nfi_param(R, stride, ld, factor_at(k, k), s);
        }
}

/* out = D in, or D^-1 in; with m: out = m + D in, or D^-1 (in - m). in may be out. */
NFI_INLINE void scale(size_t stride, bool divide, sizes n, size_t ld, const nf_real *m, const nf_real *root,
                      const nf_real *in, nf_real *out)
{
    for (size_t i = 0; i < n.dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real e = nfi_param(root, stride, ld, i, s), shift = m ? nfi_param(m, stride, ld, i, s) : 0;
            out[i * ld + s] = divide ? (in[i * ld + s] - shift) / e / e : in[i * ld + s] * e * e + shift;
        }
    }
}

/* t = W^T in [r x ld] */
NFI_INLINE void project(size_t stride, sizes n, size_t ld, const nf_real *W, const nf_real *in, nf_real *t)
{
    for (size_t i = 0; i < n.dim; i++)
        for (size_t k = 0; k < n.r; k++) {
            nf_real *restrict to = t + k * ld;
            NFI_SIMD
            for (size_t s = 0; s < ld; s++)
                to[s] = (i ? to[s] : 0) + nfi_param(W, stride, ld, i * n.r + k, s) * in[i * ld + s];
        }
}

/* row = in + sign (W t)_i for row i of in; row may be in. */
NFI_INLINE void expand(size_t stride, nf_real sign, sizes n, size_t ld, size_t i, const nf_real *W, const nf_real *t,
                       const nf_real *in, nf_real *row)
{
    for (size_t k = 0; k < n.r; k++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            row[s] = (k ? row[s] : in[s]) + sign * nfi_param(W, stride, ld, i * n.r + k, s) * t[k * ld + s];
    }
}

/* out = M in with t = W^T in, or M^-1 in with t = C^-1 W^T in. in may be out. */
NFI_INLINE void times_M(size_t stride, bool divide, sizes n, size_t ld, const nf_real *W, const nf_real *R,
                        const nf_real *in, nf_real *t, nf_real *out)
{
    project(stride, n, ld, W, in, t);
    if (divide)
        solve(stride, n, ld, ld, R, t);
    for (size_t i = 0; i < n.dim; i++)
        expand(stride, divide ? -1 : 1, n, ld, i, W, t, in + i * ld, out + i * ld);
}

/* out = m + D M in; divide: M^-1 D^-1 (in - m); transposed: M D in; both: D^-1 M^-1 in. t [r x ld]: as times_M. */
NFI_INLINE void multiply(size_t stride, bool divide, bool transposed, sizes n, size_t ld, const nf_real *theta,
                         const nf_real *root, const nf_real *R, const nf_real *in, nf_real *t, nf_real *out)
{
    ld = nfi_lanes(ld);
    const nf_real *W = theta + 2 * n.dim * nfi_param_columns(stride, ld), *m = transposed ? NULL : theta;
    const bool scale_first = divide != transposed;
    if (scale_first)
        scale(stride, divide, n, ld, m, root, in, out);
    times_M(stride, divide, n, ld, W, R, scale_first ? out : in, t, out);
    if (!scale_first)
        scale(stride, divide, n, ld, m, root, out, out);
}

/* w: gy, or the inverse's gx, of which `sign` makes the top comment's w; likewise t, which multiply has left, and q. x:
   the base's side; work [(2 r + 2) x ld]: W^T x, a row of W C^-1, two rows. */
NFI_INLINE void add_gradient(size_t stride, nf_real sign, sizes n, size_t ld, const nf_real *theta, const nf_real *root,
                             const nf_real *R, const nf_real *x, const nf_real *w, const nf_real *t,
                             const nf_real *g_log_det, nf_real *work, nf_real *g)
{
    ld = nfi_lanes(ld);
    const size_t c = nfi_param_columns(stride, ld);
    const nf_real *W = theta + 2 * n.dim * c;
    nf_real *tx = work, *wc = work + n.r * ld, *restrict u = wc + n.r * ld, *restrict row = u + ld;
    nf_real *gW = g + 2 * n.dim * c, all = 0;
    for (size_t s = 0; s < ld; s++)
        all += g_log_det[s];
    project(stride, n, ld, W, x, tx);
    for (size_t i = 0; i < n.dim; i++) {
        const nf_real *xi = x + i * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            u[s] = sign * w[i * ld + s];
        nfi_param_add(stride, ld, u, NULL, g + i * c);
        expand(stride, 1, n, ld, i, W, tx, xi, row);
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real e = nfi_param(root, stride, ld, i, s);
            u[s] = u[s] * e * e;
            row[s] = u[s] * row[s] + sign * g_log_det[s];
        }
        nfi_param_add(stride, ld, row, NULL, g + (n.dim + i) * c);
        for (size_t k = 0; k < n.r * c; k++)
            wc[k] = W[i * n.r * c + k];
        solve(stride, n, ld, c, R, wc);
        for (size_t k = 0; k < n.r; k++) {
            NFI_SIMD
            for (size_t s = 0; s < ld; s++)
                row[s] = u[s] * tx[k * ld + s] + sign * xi[s] * t[k * ld + s] +
                         (stride ? 2 * sign * g_log_det[s] * wc[k * ld + s] : 0);
            nfi_param_add(stride, ld, row, NULL, gW + (i * n.r + k) * c);
            if (!stride)
                gW[i * n.r + k] += 2 * sign * all * wc[k];
        }
    }
}

NFI_SPECIALISE(low_rank_affine, prepare, (sizes n, size_t ld, const nf_real *theta, nf_real *root, nf_real *R), n, ld,
               theta, root, R)
NFI_SPECIALISE(low_rank_affine, add_log_det,
               (double sign, sizes n, size_t ld, const nf_real *log_scale, const nf_real *R, double *log_det), sign, n,
               ld, log_scale, R, log_det)
NFI_SPECIALISE(low_rank_affine, multiply,
               (bool divide, bool transposed, sizes n, size_t ld, const nf_real *theta, const nf_real *root,
                const nf_real *R, const nf_real *in, nf_real *t, nf_real *out),
               divide, transposed, n, ld, theta, root, R, in, t, out)
NFI_SPECIALISE(low_rank_affine, add_gradient,
               (nf_real sign, sizes n, size_t ld, const nf_real *theta, const nf_real *root, const nf_real *R,
                const nf_real *x, const nf_real *w, const nf_real *t, const nf_real *g_log_det, nf_real *work,
                nf_real *g),
               sign, n, ld, theta, root, R, x, w, t, g_log_det, work, g)

/* ---- hooks ---- */

static sizes sizes_of(const nf_object *o)
{
    return *(const sizes *)nf_self(o);
}

/* What is derived from theta, and t; saved where there is a tape. */
typedef struct derived {
    nf_real *root, *R, *t;
} derived;

static bool derive(const nf_object *o, const nf_pass *p, nf_arena *memory, derived *v)
{
    const sizes n = sizes_of(o);
    const size_t c = nfi_param_columns(p->theta_stride, p->ld);
    v->root = nf_arena_reals(memory, n.dim, c);
    v->R = nf_arena_reals(memory, factor_at(n.r, 0), c);
    v->t = nf_arena_reals(memory, n.r, p->ld);
    if (!v->root || !v->R || !v->t)
        return false;
    (p->theta_stride ? low_rank_affine_prepare_each : low_rank_affine_prepare_shared)(n, p->ld, p->theta, v->root,
                                                                                      v->R);
    return true;
}

static void run(const nf_object *o, bool divide, bool transposed, const nf_pass *p, const derived *v, const nf_real *in,
                nf_real *out)
{
    (p->theta_stride ? low_rank_affine_multiply_each : low_rank_affine_multiply_shared)(
        divide, transposed, sizes_of(o), p->ld, p->theta, v->root, v->R, in, v->t, out);
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    const sizes n = sizes_of(o);
    const nf_mark mark = nf_arena_mark(p->scratch);
    derived local, *v = p->tape ? nf_arena_alloc(p->tape, sizeof *v) : &local;
    if (!v || !derive(o, p, p->tape ? p->tape : p->scratch, v))
        return NF_ENOMEM;
    run(o, d == NF_INVERSE, false, p, v, x, y);
    (p->theta_stride ? low_rank_affine_add_log_det_each : low_rank_affine_add_log_det_shared)(
        d == NF_FORWARD ? 1 : -1, n, p->ld, p->theta + n.dim * nfi_param_columns(p->theta_stride, p->ld), v->R,
        log_det);
    nf_arena_rewind(p->scratch, mark);
    if (p->tape)
        *saved = v;
    return NF_OK;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    const bool forward = d == NF_FORWARD;
    const sizes n = sizes_of(o);
    const nf_mark mark = nf_arena_mark(p->scratch);
    derived v = *(const derived *)saved;
    v.t = nf_arena_reals(p->scratch, n.r, p->ld);
    nf_real *work = nf_arena_reals(p->scratch, 2 * n.r + 2, p->ld);
    if (!v.t || !work)
        return NF_ENOMEM;
    run(o, !forward, true, p, &v, gy, gx);
    if (g->theta)
        (p->theta_stride ? low_rank_affine_add_gradient_each : low_rank_affine_add_gradient_shared)(
            forward ? 1 : -1, n, p->ld, p->theta, v.root, v.R, forward ? x : y, forward ? gy : gx, v.t, g_log_det, work,
            g->theta);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    (void)x, (void)y;
    const nf_mark mark = nf_arena_mark(p->scratch);
    derived v = *(const derived *)saved;
    v.t = nf_arena_reals(p->scratch, sizes_of(o).r, p->ld);
    if (!v.t)
        return NF_ENOMEM;
    run(o, d == NF_FORWARD, true, p, &v, gx, gy);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

/* |W|^2 is about r / 100. */
static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    (void)batch, (void)state;
    const sizes n = sizes_of(o);
    nf_real *W = theta + 2 * n.dim;
    nf_noise_normal(noise, n.dim * n.r, 1, 1, W);
    for (size_t i = 0; i < n.dim * n.r; i++)
        W[i] = (nf_real)(0.1 / sqrt((double)n.dim) * (double)W[i]);
    return NF_OK;
}

static void slices(const nf_object *o, nf_slice_fn *each, void *user)
{
    const sizes n = sizes_of(o);
    each(user, "m", 0, 1, &n.dim);
    each(user, "s", n.dim, 1, &n.dim);
    each(user, "W", 2 * n.dim, 2, (size_t[]){n.dim, n.r});
}

static nf_status describe(const nf_object *o, nf_writer *w)
{
    return nf_write_integer(w, "rank", sizes_of(o).r);
}

static nf_flow *rebuild(nf_reader *r)
{
    uint64_t rank = 0;
    if (nf_read_integer(r, "rank", &rank) != NF_OK)
        return NULL;
    return nf_low_rank_affine(nf_read_dim_in(r), (size_t)rank);
}

const nf_flow_type nfi_low_rank_affine_type = {
    .part = {.name = "low_rank_affine", .init = init, .describe = describe, .slices = slices, .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_jt,
    .rebuild = rebuild,
};

nf_flow *nf_low_rank_affine(size_t dim, size_t rank)
{
    size_t n_params;
    if (dim == 0 || rank == 0 || rank > dim || !nfi_mul(dim, rank + 2, &n_params)) {
        nf_error(NF_EARG, "nf_low_rank_affine: `dim` is %zu and `rank` is %zu, which must be from 1 to dim", dim, rank);
        return NULL;
    }
    sizes *self = nfi_calloc(1, sizeof *self);
    if (!self)
        return NULL;
    *self = (sizes){.dim = dim, .r = rank};
    const nf_shape own = {.dim_in = dim,
                          .dim_out = dim,
                          .n_params = n_params,
                          .n_saved = dim + rank * (rank + 3) / 2,
                          .flags = NF_PER_SAMPLE};
    return nf_flow_new(&nfi_low_rank_affine_type, &own, self, NULL, 0);
}
