/* y = W x + b with W = P L V, V = U + diag(sign e^s) (Kingma & Dhariwal 2018, section 3.2, eq. 10): L unit lower, U
   strictly upper triangular, P a fixed permutation, so that log|det W| = sum s costs nothing.

   W, W^-1 and sum s are prepared once a step (lu_factors.c). Tiles then need one product in either direction, and add
   to the gradients with respect to W or W^-1. */
#include "flows/lu_linear.h"
#include "core/memory.h"
#include "core/product.h"
#include "core/rows.h"
#include "flows/types.h"
#include "nn/activation.h"
#include "nn/dense.h"

/* ---- tiles: products run over their padding too, which then is as it was, copies or zeros ---- */

static nfi_matrix square_of(size_t dim)
{
    return (nfi_matrix){.n_rows = dim, .width = dim, .stride = dim};
}

static nf_status lu_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                          double *log_det, void **saved)
{
    (void)saved;
    size_t dim = nf_object_shape(o)->dim_in, square = dim * dim, ld = p->ld;
    const nf_real *b = p->theta + nfi_lu_bias_at(dim);
    const nfi_matrix W = square_of(dim);
    double sum = (double)p->prep[2 * square];
    if (d == NF_FORWARD) {
        nfi_times(&W, p->prep, 0, dim, ld, ld, x, false, y);
        nfi_activate(NF_IDENTITY, dim, ld, b, y);
    } else {
        nf_mark mark = nf_arena_mark(p->scratch);
        nf_real *u = nf_arena_reals(p->scratch, dim, ld);
        if (!u)
            return NF_ENOMEM;
        nfi_add_to_rows(dim, ld, -1, b, x, u);
        nfi_times(&W, p->prep + square, 0, dim, ld, ld, u, false, y);
        nf_arena_rewind(p->scratch, mark);
        sum = -sum;
    }
    for (size_t s = 0; s < ld; s++)
        log_det[s] += sum;
    return NF_OK;
}

/* gx = A^T gy, gA += gy x^T for y = A x; in the inverse A = W^-1 and x stands for x - b, whose gradient is gx too. */
static nf_status lu_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                        void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)y, (void)saved;
    bool forward = d == NF_FORWARD;
    size_t dim = nf_object_shape(o)->dim_in, square = dim * dim, ld = p->ld, a = forward ? 0 : square;
    const nfi_matrix A = square_of(dim);
    nfi_times_transposed(&A, p->prep + a, 0, dim, ld, ld, gy, false, gx);
    if (g->theta)
        nfi_add_row_sums(dim, ld, forward ? 1 : -1, forward ? gy : gx, g->theta + nfi_lu_bias_at(dim));
    if (!g->prep)
        return NF_OK;
    nfi_add_row_sums(1, ld, forward ? 1 : -1, g_log_det, g->prep + 2 * square);
    nf_mark mark = nf_arena_mark(p->scratch);
    if (!forward) {
        nf_real *u = nf_arena_reals(p->scratch, dim, ld);
        if (!u)
            return NF_ENOMEM;
        nfi_add_to_rows(dim, ld, -1, p->theta + nfi_lu_bias_at(dim), x, u);
        x = u;
    }
    nf_status status = nfi_weight_gradient(p, &A, dim, x, gy, true, g->prep + a);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status lu_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                             void *saved, const nf_real *gx, nf_real *gy)
{
    (void)x, (void)y, (void)saved;
    size_t dim = nf_object_shape(o)->dim_in, inverse = d == NF_FORWARD ? dim * dim : 0;
    const nfi_matrix A = square_of(dim);
    nfi_times_transposed(&A, p->prep + inverse, 0, dim, p->ld, p->ld, gx, false, gy);
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

static nf_status lu_describe(const nf_object *o, nf_writer *w)
{
    const nfi_lu_linear *q = nf_self(o);
    return nf_write_integer(w, "seed", q->seed);
}

static nf_flow *lu_rebuild(nf_reader *r)
{
    uint64_t seed = 0;
    return nf_read_integer(r, "seed", &seed) == NF_OK ? nf_lu_linear(nf_read_dim_in(r), seed) : NULL;
}

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
    nfi_free(q->order);
    nfi_free(q->sign);
    nfi_free(q);
}

const nf_flow_type nfi_lu_linear_type = {
    .part = {.name = "lu_linear",
             .prepare = lu_prepare,
             .prepare_vjp = lu_prepare_vjp,
             .describe = lu_describe,
             .slices = lu_slices,
             .destroy = lu_destroy},
    .abi = sizeof(nf_flow_type),
    .apply = lu_apply,
    .vjp = lu_vjp,
    .solve_jt = lu_solve_jt,
    .rebuild = lu_rebuild,
};

/* P and the signs: noise of the seed at sites 0 and 1, or none. */
static void draw(nfi_lu_linear *q)
{
    for (size_t j = 0; j < q->dim; j++) {
        q->order[j] = j;
        q->sign[j] = 1;
    }
    if (q->seed == NF_LU_IDENTITY)
        return;
    nf_noise noise = {.seed = q->seed};
    nf_noise_permutation(&noise, q->dim, q->order);
    noise.site = 1;
    nf_noise_uniform(&noise, q->dim, 1, 1, q->sign);
    for (size_t j = 0; j < q->dim; j++)
        q->sign[j] = q->sign[j] < NF_R(0.5) ? -1 : 1;
}

nf_flow *nf_lu_linear(size_t dim, uint64_t seed)
{
    size_t square, bytes;
    if (dim == 0 || !nfi_mul(dim, dim, &square) || !nfi_mul(square, 4 * sizeof(nf_real), &bytes)) {
        nf_error(NF_EARG, "nf_lu_linear: `dim` is %zu", dim);
        return NULL;
    }
    nfi_lu_linear *q = nfi_calloc(1, sizeof *q);
    if (!q)
        return NULL;
    q->dim = dim;
    q->seed = seed;
    q->order = nfi_calloc(dim, sizeof *q->order);
    q->sign = nfi_calloc(dim, sizeof *q->sign);
    if (!q->order || !q->sign) {
        lu_destroy(q);
        return NULL;
    }
    draw(q);
    nf_shape shape = {.dim_in = dim, .dim_out = dim, .n_params = square + dim, .n_prep = 2 * square + 1 + dim};
    return nf_flow_new(&nfi_lu_linear_type, &shape, q, NULL, 0);
}
