/* y = W x + b with W = P M, M = L V, V = U + diag(sign e^s) (Kingma & Dhariwal 2018, section 3.2, eq. 10): L is unit
   lower triangular, U strictly upper triangular, P a fixed permutation. So log|det W| = sum s needs no further work.

   M, M^-1 and sum s are prepared once a step (lu_factors.c). Tiles then need one product in either direction, and add
   to the gradients in M or M^-1. P needs no product: the rows of W are those of M in another order; and x = M^-1 u,
   where u has the features of y - b in the order of M. */
#include "flows/linear/lu_linear.h"
#include "base/memory.h"
#include "math/product.h"
#include "math/rows.h"
#include "flows/types.h"
#include "object/options.h"
#include "object/tree.h"
#include "nn/activation.h"
#include "nn/dense.h"
#include <string.h>

/* ---- tiles: products include the padding, which remains copies or zeros ---- */

/* W in the prepared numbers. */
static nfi_matrix W_of(const nfi_lu_linear *q)
{
    return (nfi_matrix){.n_rows = q->dim, .width = q->dim, .stride = nfi_lu_stride(q->dim), .offset = q->row};
}

/* M^-1 in the prepared numbers. */
static nfi_matrix inverse_of(const nfi_lu_linear *q)
{
    return (nfi_matrix){.n_rows = q->dim, .width = q->dim, .stride = nfi_lu_stride(q->dim)};
}

/* u = P^T (x - b) on scratch: the features of x - b in the order of M. NULL if there is no memory. */
static const nf_real *in_order_of_m(const nfi_lu_linear *q, const nf_pass *p, const nf_real *x)
{
    const nf_real *b = p->theta + nfi_lu_bias_at(q->dim);
    const size_t ld = p->ld;
    nf_real *u = nf_arena_reals(p->scratch, q->dim, ld);
    if (u && !q->order)
        nfi_add_to_rows(q->dim, ld, -1, b, x, u);
    for (size_t i = 0; u && q->order && i < q->dim; i++)
        nfi_add_to_rows(1, ld, -1, b + i, x + i * ld, u + q->order[i] * ld);
    return u;
}

/* gx = W^-T gy = P M^-T gy */
static nf_status times_inverse_transposed(const nfi_lu_linear *q, const nf_pass *p, const nf_real *gy, nf_real *gx)
{
    const nfi_matrix A = inverse_of(q);
    const nf_mark mark = nf_arena_mark(p->scratch);
    const size_t ld = p->ld;
    nf_real *rows = q->order ? nf_arena_reals(p->scratch, q->dim, ld) : gx;
    if (!rows)
        return NF_ENOMEM;
    nfi_times_transposed(&A, p->prep + nfi_lu_inverse_at(q->dim), 0, q->dim, ld, ld, gy, false, rows);
    for (size_t i = 0; q->order && i < q->dim; i++)
        memcpy(gx + i * ld, rows + q->order[i] * ld, ld * sizeof *gx);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static nf_status lu_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                          double *log_det, void **saved)
{
    (void)saved;
    const nfi_lu_linear *q = nf_self(o);
    const nfi_matrix W = W_of(q), A = inverse_of(q);
    const size_t dim = q->dim, ld = p->ld;
    double sum = (double)p->prep[nfi_lu_log_det_at(q->dim)];
    if (d == NF_FORWARD) {
        nfi_times(&W, p->prep, 0, dim, ld, ld, x, false, y);
        nfi_activate(NF_IDENTITY, dim, ld, p->theta + nfi_lu_bias_at(dim), y);
    } else {
        const nf_mark mark = nf_arena_mark(p->scratch);
        const nf_real *u = in_order_of_m(q, p, x);
        if (!u)
            return NF_ENOMEM;
        nfi_times(&A, p->prep + nfi_lu_inverse_at(q->dim), 0, dim, ld, ld, u, false, y);
        nf_arena_rewind(p->scratch, mark);
        sum = -sum;
    }
    for (size_t s = 0; s < ld; s++)
        log_det[s] += sum;
    return NF_OK;
}

/* Forward: gx = W^T gy, gW += gy x^T. Inverse: gx = W^-T gy, g(M^-1) += gy u^T, and the gradient in b is -gx. */
static nf_status lu_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                        void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)y, (void)saved;
    const nfi_lu_linear *q = nf_self(o);
    const bool forward = d == NF_FORWARD;
    const nfi_matrix A = forward ? W_of(q) : inverse_of(q);
    const size_t dim = q->dim, ld = p->ld, at = forward ? 0 : nfi_lu_inverse_at(q->dim);
    nf_status status = NF_OK;
    if (forward)
        nfi_times_transposed(&A, p->prep, 0, dim, ld, ld, gy, false, gx);
    else
        status = times_inverse_transposed(q, p, gy, gx);
    if (status == NF_OK && g->theta)
        nfi_add_row_sums(dim, ld, forward ? 1 : -1, forward ? gy : gx, g->theta + nfi_lu_bias_at(dim));
    if (status != NF_OK || !g->prep)
        return status;
    nfi_add_row_sums(1, ld, forward ? 1 : -1, g_log_det, g->prep + nfi_lu_log_det_at(q->dim));
    const nf_mark mark = nf_arena_mark(p->scratch);
    const nf_real *in = forward ? x : in_order_of_m(q, p, x);
    status = in ? nfi_weight_gradient(p, &A, dim, in, gy, true, g->prep + at) : NF_ENOMEM;
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status lu_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                             void *saved, const nf_real *gx, nf_real *gy)
{
    (void)x, (void)y, (void)saved;
    const nfi_lu_linear *q = nf_self(o);
    const nfi_matrix W = W_of(q);
    if (d == NF_FORWARD)
        return times_inverse_transposed(q, p, gx, gy);
    nfi_times_transposed(&W, p->prep, 0, q->dim, p->ld, p->ld, gx, false, gy);
    return NF_OK;
}

/* ---- once a step ---- */

static nf_status lu_prepare(const nf_object *o, nf_mode mode, const nf_real *theta, nf_real *state, nf_real *prep)
{
    (void)mode, (void)state;
    nfi_lu_prepare(nf_self(o), theta, prep);
    return NF_OK;
}

static nf_status lu_prepare_vjp(const nf_object *o, const nf_real *theta, const nf_real *state, const nf_real *prep,
                                nf_real *g_prep, nf_real *g_theta)
{
    (void)state;
    nfi_lu_prepare_vjp(nf_self(o), theta, prep, g_prep, g_theta);
    return NF_OK;
}

/* ---- structure ---- */

static const nf_option options_of_type[] = {{.name = "seed",
                                             .kind = NF_OPTION_INTEGER,
                                             .flags = NF_OPTION_REQUIRED,
                                             .help = "of the permutation and the signs"}};
static const nf_option_table table = NF_OPTION_TABLE("nf_lu_linear", uint64_t, options_of_type, NULL);

NFI_REBUILD(flow, uint64_t, nf_lu_linear(nf_read_dim_in(r), *q))

static void lu_slices(const nf_object *o, nf_slice_fn *each, void *user)
{
    size_t dim = nf_object_shape(o)->dim_in, n_lower = dim * (dim - 1) / 2;
    if (n_lower) {
        each(user, "l", 0, 1, &n_lower);
        each(user, "u", n_lower, 1, &n_lower);
    }
    each(user, "s", nfi_lu_scale_at(dim), 1, &dim);
    each(user, "b", nfi_lu_bias_at(dim), 1, &dim);
}

static void lu_destroy(void *self)
{
    nfi_lu_linear *q = self;
    nfi_free(q->sign);
    nfi_free(q->order);
    nfi_free(q->row);
    nfi_free(q->lower);
    nfi_free(q->upper);
    nfi_free(q);
}

const nf_flow_type nfi_lu_linear_type = {
    .part = {.name = "lu_linear",
             .prepare = lu_prepare,
             .prepare_vjp = lu_prepare_vjp,
             .slices = lu_slices,
             .destroy = lu_destroy},
    .abi = sizeof(nf_flow_type),
    .apply = lu_apply,
    .vjp = lu_vjp,
    .solve_jt = lu_solve_jt,
    .rebuild = rebuild,
    .options = &table,
};

/* Draws P and the signs: from noise of the seed at sites 0 and 1. Without a permutation all signs are 1. */
static void draw(nfi_lu_linear *q)
{
    for (size_t j = 0; j < q->dim; j++)
        q->sign[j] = 1;
    if (!q->order)
        return;
    nf_noise noise = {.seed = q->seed};
    nf_noise_permutation(&noise, q->dim, q->order);
    noise.site = 1;
    nf_noise_uniform(&noise, q->dim, 1, 1, q->sign);
    for (size_t j = 0; j < q->dim; j++) {
        q->sign[j] = q->sign[j] < NF_R(0.5) ? -1 : 1;
        q->row[j] = q->order[j] * nfi_lu_stride(q->dim);
    }
}

/* Where the rows of L and U are in theta. Row r of L has r numbers. Row r of U has dim - 1 - r numbers, for the
   columns from r + 1 on. */
static void place_factors(nfi_lu_linear *q)
{
    const size_t dim = q->dim, half = dim * (dim - 1) / 2;
    for (size_t r = 0, at = half; r < dim; at += dim - 1 - r, r++) {
        q->lower[r] = r * (r - (r > 0)) / 2;
        q->upper[r] = r + 1 < dim ? at - (r + 1) : 0;
    }
}

static nfi_lu_linear *new_lu(size_t dim, uint64_t seed)
{
    nfi_lu_linear *q = nfi_calloc(1, sizeof *q);
    const bool permuted = seed != NF_LU_IDENTITY;
    if (!q)
        return NULL;
    q->dim = dim;
    q->seed = seed;
    q->sign = nfi_calloc(dim, sizeof *q->sign);
    q->order = permuted ? nfi_calloc(dim, sizeof *q->order) : NULL;
    q->row = permuted ? nfi_calloc(dim, sizeof *q->row) : NULL;
    q->lower = nfi_calloc(dim, sizeof *q->lower);
    q->upper = nfi_calloc(dim, sizeof *q->upper);
    if (!q->sign || !q->lower || !q->upper || (permuted && (!q->order || !q->row))) {
        lu_destroy(q);
        return NULL;
    }
    draw(q);
    place_factors(q);
    return q;
}

nf_flow *nf_lu_linear(size_t dim, uint64_t seed)
{
    size_t square, bytes;
    if (dim == 0 || !nfi_mul(dim, dim, &square) || !nfi_mul(dim, nfi_lu_stride(dim), &bytes) ||
        !nfi_mul(bytes, 4 * sizeof(nf_real), &bytes)) {
        nf_error(NF_EARG, "nf_lu_linear: `dim` is %zu", dim);
        return NULL;
    }
    nfi_lu_linear *q = new_lu(dim, seed);
    if (!q)
        return NULL;
    const nf_shape shape = {.dim_in = dim,
                            .dim_out = dim,
                            .n_params = square + dim,
                            .n_prep = nfi_lu_diagonal_at(dim) + dim,
                            .flags = NFI_SAVES_ALIKE};
    return nf_flow_new(&nfi_lu_linear_type, &shape, q, NULL, 0);
}
