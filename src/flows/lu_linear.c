/* y = W x + b with W = P L V, V = U + diag(sign e^s) (Kingma & Dhariwal 2018, section 3.2, eq. 10): L unit lower, U
   strictly upper triangular, P a fixed permutation, so that log|det W| = sum s costs nothing.

   Prepared once a step: W, W^-1 = V^-1 L^-1 P^T (triangular solves) and sum s. Tiles then need one product in either
   direction. Gradients with respect to W and W^-1 are summed over the batch and pulled back once:

       G = gW - W^-T g(W^-1) W^-T,   gL = P^T G V^T,   gV = L^T P^T G,   gs = gV_jj sign e^s + g(sum s).

   Conditioning: both triangular solves are stable as long as L and V are well scaled; the inverse direction loses
   about log10 of W's condition number in digits. */
#include "core/blas.h"
#include "core/kernel.h"
#include "core/memory.h"
#include "flows/types.h"
#include <math.h>
#include <string.h>

typedef struct lu_linear {
    size_t dim;
    uint64_t seed;
    size_t *order; /* [dim]: row i of W is row order[i] of L V */
    nf_real *sign; /* [dim] of the diagonal */
} lu_linear;

/* Parts of theta: row r of L holds r numbers, row j of U holds dim - 1 - j. */
static size_t lower_at(size_t r)
{
    return r * (r - 1) / 2;
}

static size_t upper_at(size_t dim, size_t j)
{
    return dim * (dim - 1) / 2 + j * (2 * dim - j - 1) / 2;
}

static size_t scale_at(size_t dim)
{
    return dim * (dim - 1);
}

static size_t bias_at(size_t dim)
{
    return dim * dim;
}

/* y += a x and <x, y> over n numbers. */
NFI_CLONES static void add_scaled(size_t n, nf_real a, const nf_real *restrict x, nf_real *restrict y)
{
    NFI_SIMD
    for (size_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

NFI_CLONES static nf_real dot(size_t n, const nf_real *x, const nf_real *y)
{
    nf_real sum = 0;
    NFI_SIMD_SUM(sum)
    for (size_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

static nf_real diagonal(const lu_linear *q, const nf_real *theta, size_t j)
{
    return q->sign[j] * (nf_real)exp((double)theta[scale_at(q->dim) + j]);
}

/* ---- once a step ---- */

/* B = V^-1 L^-1 P^T, [dim x dim]: substitution on all columns at once. */
static void invert(const lu_linear *q, const nf_real *theta, nf_real *b)
{
    size_t d = q->dim;
    memset(b, 0, d * d * sizeof *b);
    for (size_t i = 0; i < d; i++)
        b[q->order[i] * d + i] = 1;
    for (size_t r = 1; r < d; r++)
        for (size_t j = 0; j < r; j++)
            add_scaled(d, -theta[lower_at(r) + j], b + j * d, b + r * d);
    for (size_t r = d; r-- > 0;) {
        const nf_real *u = theta + upper_at(d, r);
        for (size_t j = r + 1; j < d; j++)
            add_scaled(d, -u[j - r - 1], b + j * d, b + r * d);
        nf_real pivot = diagonal(q, theta, r);
        for (size_t i = 0; i < d; i++)
            b[r * d + i] /= pivot;
    }
}

static nf_status lu_prepare(const nf_object *o, nf_mode mode, const nf_real *theta, nf_real *state, nf_real *prep)
{
    (void)mode, (void)state;
    const lu_linear *q = nf_self(o);
    size_t d = q->dim;
    nf_real *w = prep;
    memset(w, 0, d * d * sizeof *w);
    for (size_t j = 0; j < d; j++) {
        nf_real pivot = diagonal(q, theta, j);
        for (size_t i = 0; i < d; i++) {
            size_t r = q->order[i];
            if (r < j)
                continue;
            nf_real l = r == j ? 1 : theta[lower_at(r) + j];
            w[i * d + j] += l * pivot;
            add_scaled(d - 1 - j, l, theta + upper_at(d, j), w + i * d + j + 1);
        }
    }
    invert(q, theta, prep + d * d);
    double log_det = 0;
    for (size_t j = 0; j < d; j++)
        log_det += (double)theta[scale_at(d) + j];
    prep[2 * d * d] = (nf_real)log_det;
    return NF_OK;
}

/* G -= A^T B A^T for A, B, G [d x d]; B is overwritten by B A^T, by way of `row` [d]. Loops of our own: outside tiles
   BLAS may use several threads, and then its sums depend on how many. */
static void subtract_congruence(size_t d, const nf_real *a, nf_real *b, nf_real *row, nf_real *g)
{
    for (size_t i = 0; i < d; i++) {
        for (size_t j = 0; j < d; j++)
            row[j] = dot(d, b + i * d, a + j * d);
        memcpy(b + i * d, row, d * sizeof *row);
    }
    for (size_t i = 0; i < d; i++)
        for (size_t k = 0; k < d; k++)
            add_scaled(d, -a[k * d + i], b + k * d, g + i * d);
}

static bool all_zero(size_t n, const nf_real *x)
{
    for (size_t i = 0; i < n; i++)
        if (!(x[i] == 0))
            return false;
    return true;
}

static nf_status lu_prepare_vjp(const nf_object *o, const nf_real *theta, const nf_real *state, const nf_real *prep,
                                nf_real *g_prep, nf_real *g_theta)
{
    (void)state;
    const lu_linear *q = nf_self(o);
    size_t d = q->dim;
    nf_real *g = g_prep, *g_inverse = g_prep + d * d, g_log_det = g_prep[2 * d * d], *row = g_prep + 2 * d * d + 1;
    if (!all_zero(d * d, g_inverse)) /* W^-1 is used by one of the two directions only */
        subtract_congruence(d, prep + d * d, g_inverse, row, g);
    for (size_t j = 0; j < d; j++) {
        nf_real pivot = diagonal(q, theta, j);
        const nf_real *u = theta + upper_at(d, j);
        nf_real *gu = g_theta + upper_at(d, j), g_pivot = 0;
        for (size_t i = 0; i < d; i++) { /* row i of G is row r of P^T G */
            size_t r = q->order[i], rest = d - 1 - j;
            const nf_real *gr = g + i * d + j;
            if (r < j)
                continue;
            nf_real l = r == j ? 1 : theta[lower_at(r) + j];
            g_pivot += l * gr[0];
            add_scaled(rest, l, gr + 1, gu);
            if (r > j)
                g_theta[lower_at(r) + j] += gr[0] * pivot + dot(rest, gr + 1, u);
        }
        g_theta[scale_at(d) + j] += g_pivot * pivot + g_log_det;
    }
    return NF_OK;
}

/* ---- tiles ---- */

/* to = from - b of each row. */
NFI_CLONES static void subtract_bias(size_t dim, size_t ld, const nf_real *b, const nf_real *from, nf_real *to)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < dim; r++)
        NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        to[r * ld + s] = from[r * ld + s] - b[r];
}

NFI_CLONES static void add_bias(size_t dim, size_t ld, const nf_real *b, nf_real *y)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < dim; r++)
        NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        y[r * ld + s] += b[r];
}

/* g[r] += sign * sum of row r. */
NFI_CLONES static void add_row_sums(size_t dim, size_t ld, nf_real sign, const nf_real *x, nf_real *g)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < dim; r++) {
        nf_real sum = 0;
        NFI_SIMD_SUM(sum)
        for (size_t s = 0; s < ld; s++)
            sum += x[r * ld + s];
        g[r] += sign * sum;
    }
}

static nf_status lu_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                          double *log_det, void **saved)
{
    (void)saved;
    size_t dim = nf_object_shape(o)->dim_in, square = dim * dim, ld = p->ld;
    const nf_real *b = p->theta + bias_at(dim);
    double sum = (double)p->prep[2 * square];
    if (d == NF_FORWARD) {
        nfi_gemm(false, false, dim, ld, dim, 1, p->prep, dim, x, ld, 0, y, ld);
        add_bias(dim, ld, b, y);
    } else {
        nf_mark mark = nf_arena_mark(p->scratch);
        nf_real *u = nf_arena_reals(p->scratch, dim, ld);
        if (!u)
            return NF_ENOMEM;
        subtract_bias(dim, ld, b, x, u);
        nfi_gemm(false, false, dim, ld, dim, 1, p->prep + square, dim, u, ld, 0, y, ld);
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
    nfi_gemm(true, false, dim, ld, dim, 1, p->prep + a, dim, gy, ld, 0, gx, ld);
    if (g->theta)
        add_row_sums(dim, ld, forward ? 1 : -1, forward ? gy : gx, g->theta + bias_at(dim));
    if (!g->prep)
        return NF_OK;
    add_row_sums(1, ld, forward ? 1 : -1, g_log_det, g->prep + 2 * square);
    nf_mark mark = nf_arena_mark(p->scratch);
    if (!forward) {
        nf_real *u = nf_arena_reals(p->scratch, dim, ld);
        if (!u)
            return NF_ENOMEM;
        subtract_bias(dim, ld, p->theta + bias_at(dim), x, u);
        x = u;
    }
    nfi_gemm(false, true, dim, dim, p->n, 1, gy, ld, x, ld, 1, g->prep + a, dim);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static nf_status lu_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                             void *saved, const nf_real *gx, nf_real *gy)
{
    (void)x, (void)y, (void)saved;
    size_t dim = nf_object_shape(o)->dim_in, inverse = d == NF_FORWARD ? dim * dim : 0;
    nfi_gemm(true, false, dim, p->ld, dim, 1, p->prep + inverse, dim, gx, p->ld, 0, gy, p->ld);
    return NF_OK;
}

/* ---- structure ---- */

static nf_status lu_describe(const nf_object *o, nf_writer *w)
{
    const lu_linear *q = nf_self(o);
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
    each(user, "s", scale_at(dim), 1, &dim);
    each(user, "b", bias_at(dim), 1, &dim);
}

static void lu_destroy(void *self)
{
    lu_linear *q = self;
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
static void draw(lu_linear *q)
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
    lu_linear *q = nfi_calloc(1, sizeof *q);
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
