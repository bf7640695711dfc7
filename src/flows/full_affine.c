/* Affine flow with a triangular matrix: y = m + L x, L_ii = e^s_i, L_ij = l_ij for j < i, so that a standard normal
   becomes any normal, of covariance L L^T. log|det dy/dx| = sum s.

   The inverse is forward substitution. With u the cotangent on the target's side (forward gy; inverse -gx, where
   gx = L^-T gy) and x the base's side,

       gm += u,   gl_ij += u_i x_j,   gs_i += u_i x_i e^s_i + g_log_det (inverse: - g_log_det).

   All four of L, L^-1, L^T, L^-T are one loop over rows, of 16 samples at a time, so that they stay in cache. A
   parameter is read once a tile (theta_stride 0) or once a sample (1: amortised full covariances).
   Conditioning: substitution is backward stable; the inverse loses about log10 of L's condition number in digits. */
#include "core/memory.h"
#include "flows/param.h"
#include "flows/root_scale.h"
#include "flows/types.h"

/* theta: m [dim], s [dim], then row i of L below the diagonal, i numbers, for i = 1 .. dim - 1. */
NFI_INLINE size_t lower_at(size_t dim, size_t i, size_t j)
{
    return 2 * dim + i * (i - 1) / 2 + j;
}

typedef enum product { TIMES, SOLVE, TIMES_TRANSPOSED, SOLVE_TRANSPOSED } product;

/* out = m + L in, L^-1 (in - m), L^T in or L^-T in. root: e^(s/2), or e^(-s/2) to solve. */
NFI_INLINE void multiply(size_t stride, product kind, size_t dim, size_t ld, const nf_real *theta, const nf_real *root,
                         const nf_real *in, nf_real *out)
{
    const bool transposed = kind == TIMES_TRANSPOSED || kind == SOLVE_TRANSPOSED;
    const bool solve = kind == SOLVE || kind == SOLVE_TRANSPOSED;
    const nf_real *known = solve ? out : in;
    for (size_t s = 0; s < ld; s += NFI_LANES)
        for (size_t k = 0; k < dim; k++) {
            const size_t i = transposed ? dim - 1 - k : k;
            const nfi_vec e = NFI_PARAM_LANES(root, stride, ld, i, s), x = NFI_CONST_LANES_AT(in + i * ld + s);
            nfi_vec sum = {0};
            for (size_t j = transposed ? i + 1 : 0; j < (transposed ? dim : i); j++) {
                const size_t at = transposed ? lower_at(dim, j, i) : lower_at(dim, i, j);
                sum += NFI_PARAM_LANES(theta, stride, ld, at, s) * NFI_CONST_LANES_AT(known + j * ld + s);
            }
            if (!transposed)
                sum += NFI_PARAM_LANES(theta, stride, ld, i, s);
            NFI_LANES_AT(out + i * ld + s) = solve ? (x - sum) * e * e : x * e * e + sum;
        }
}

NFI_INLINE void multiply_kinds(size_t stride, product kind, size_t dim, size_t ld, const nf_real *theta, nf_real *root,
                               const nf_real *in, nf_real *out)
{
    ld = nfi_lanes(ld);
    const nf_real sign = kind == TIMES || kind == TIMES_TRANSPOSED ? 1 : -1;
    const size_t columns = nfi_param_columns(stride, ld);
    nfi_root_scales(dim * columns, sign, theta + dim * columns, root);
    switch (kind) {
    case TIMES:
        multiply(stride, TIMES, dim, ld, theta, root, in, out);
        break;
    case SOLVE:
        multiply(stride, SOLVE, dim, ld, theta, root, in, out);
        break;
    case TIMES_TRANSPOSED:
        multiply(stride, TIMES_TRANSPOSED, dim, ld, theta, root, in, out);
        break;
    case SOLVE_TRANSPOSED:
        multiply(stride, SOLVE_TRANSPOSED, dim, ld, theta, root, in, out);
        break;
    }
}

NFI_INLINE void add_log_det(size_t stride, nf_real sign, size_t dim, size_t ld, const nf_real *restrict log_scale,
                            double *restrict log_det)
{
    ld = nfi_lanes(ld);
    for (size_t i = 0; i < dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            log_det[s] += (double)(sign * nfi_param(log_scale, stride, ld, i, s));
    }
}

/* w: gy, or the inverse's gx; sign: of u = w or -gx, and of the log-det; x: the base's side; root: e^(s/2); u [ld] */
NFI_INLINE void add_gradient(size_t stride, nf_real sign, size_t dim, size_t ld, const nf_real *theta, nf_real *root,
                             const nf_real *x, const nf_real *w, const nf_real *g_log_det, nf_real *u, nf_real *g)
{
    ld = nfi_lanes(ld);
    const size_t columns = nfi_param_columns(stride, ld);
    nfi_root_scales(dim * columns, 1, theta + dim * columns, root);
    for (size_t i = 0; i < dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            u[s] = sign * w[i * ld + s];
        nfi_param_add(stride, ld, u, NULL, g + i * columns);
        for (size_t j = 0; j < i; j++)
            nfi_param_add(stride, ld, u, x + j * ld, g + lower_at(dim, i, j) * columns);
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real e = nfi_param(root, stride, ld, i, s);
            u[s] = u[s] * (x[i * ld + s] * e * e) + sign * g_log_det[s];
        }
        nfi_param_add(stride, ld, u, NULL, g + (dim + i) * columns);
    }
}

NFI_SPECIALISE(full_affine, multiply_kinds,
               (product kind, size_t dim, size_t ld, const nf_real *theta, nf_real *root, const nf_real *in,
                nf_real *out),
               kind, dim, ld, theta, root, in, out)
NFI_SPECIALISE(full_affine, add_log_det,
               (nf_real sign, size_t dim, size_t ld, const nf_real *log_scale, double *log_det), sign, dim, ld,
               log_scale, log_det)
NFI_SPECIALISE(full_affine, add_gradient,
               (nf_real sign, size_t dim, size_t ld, const nf_real *theta, nf_real *root, const nf_real *x,
                const nf_real *w, const nf_real *g_log_det, nf_real *u, nf_real *g),
               sign, dim, ld, theta, root, x, w, g_log_det, u, g)

/* ---- hooks; nothing is saved ---- */

static size_t columns_of(const nf_pass *p)
{
    return nfi_param_columns(p->theta_stride, p->ld);
}

static nf_status run(const nf_object *o, product kind, const nf_pass *p, const nf_real *in, nf_real *out)
{
    const size_t dim = nf_object_shape(o)->dim_in;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *root = nf_arena_reals(p->scratch, dim, columns_of(p));
    if (!root)
        return NF_ENOMEM;
    (p->theta_stride ? full_affine_multiply_kinds_each : full_affine_multiply_kinds_shared)(kind, dim, p->ld, p->theta,
                                                                                            root, in, out);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    (void)saved;
    const size_t dim = nf_object_shape(o)->dim_in;
    (p->theta_stride ? full_affine_add_log_det_each : full_affine_add_log_det_shared)(
        d == NF_FORWARD ? 1 : -1, dim, p->ld, p->theta + dim * columns_of(p), log_det);
    return run(o, d == NF_FORWARD ? TIMES : SOLVE, p, x, y);
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)saved;
    const bool forward = d == NF_FORWARD;
    const size_t dim = nf_object_shape(o)->dim_in;
    nf_status status = run(o, forward ? TIMES_TRANSPOSED : SOLVE_TRANSPOSED, p, gy, gx);
    if (status != NF_OK || !g->theta)
        return status;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *root = nf_arena_reals(p->scratch, dim, columns_of(p)), *u = nf_arena_reals(p->scratch, 1, p->ld);
    if (!root || !u)
        return NF_ENOMEM;
    (p->theta_stride ? full_affine_add_gradient_each : full_affine_add_gradient_shared)(
        forward ? 1 : -1, dim, p->ld, p->theta, root, forward ? x : y, forward ? gy : gx, g_log_det, u, g->theta);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    (void)x, (void)y, (void)saved;
    return run(o, d == NF_FORWARD ? SOLVE_TRANSPOSED : TIMES_TRANSPOSED, p, gx, gy);
}

static void slices(const nf_object *o, nf_slice_fn *each, void *user)
{
    const size_t dim = nf_object_shape(o)->dim_in, below = dim * (dim - 1) / 2;
    each(user, "m", 0, 1, &dim);
    each(user, "s", dim, 1, &dim);
    each(user, "l", 2 * dim, 1, &below);
}

static nf_flow *rebuild(nf_reader *r)
{
    return nf_full_affine(nf_read_dim_in(r));
}

const nf_flow_type nfi_full_affine_type = {
    .part = {.name = "full_affine", .slices = slices},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_jt,
    .rebuild = rebuild,
};

nf_flow *nf_full_affine(size_t dim)
{
    size_t square;
    if (dim == 0 || !nfi_add(dim, 3, &square) || !nfi_mul(dim, square, &square)) {
        nf_error(NF_EARG, "nf_full_affine: `dim` is %zu", dim);
        return NULL;
    }
    const nf_shape own = {.dim_in = dim, .dim_out = dim, .n_params = square / 2, .flags = NF_PER_SAMPLE};
    return nf_flow_new(&nfi_full_affine_type, &own, NULL, NULL, 0);
}
