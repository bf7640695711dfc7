/* Sylvester flows (van den Berg et al. 2018): y = x + Q R tanh(R~ Q^T x + b), R and R~ upper triangular [M x M], Q
   [D x M] with orthonormal columns. With u = Q^T x this is y = x + Q w, where u -> u + w is the triangular map of
   sylvester_kernels.c. That file has the log-det, the inverse, and all gradients except those in Q. sylvester_pass.c
   puts the map and Q together.

   Q is a permutation (the triangular kind) or the first M columns of H_0 ... H_{n-1}, a product of reflections. Then
   M = D (the paper's Householder kind) or M = n (for the paper's orthogonal kind).

   For the orthogonal kind the paper iterates Q_{k+1} = Q_k (I + (I - Q_k^T Q_k) / 2) until it converges
   (eq. 13 and 14). Reflections have as many parameters and give every Q with orthonormal columns, up to the signs of
   the columns; the signs are not lost, since R and R~ have them, too. (Householder's QR writes the Q of a matrix
   [D x M] in this way.) Reflections are orthogonal to rounding at any parameters, without an iteration, and have the
   exact gradient. Q itself is never needed: Q^T x costs D n products, whereas one round of the iteration costs 2 D
   M^2. */
#include "base/kernel.h"
#include "base/memory.h"
#include "flows/residual/sylvester.h"
#include "flows/types.h"
#include "object/options.h"
#include <math.h>

/* ---- initial parameters ---- */

/* Makes v_j of unit length from v [dim], which holds normal numbers. The reflection takes rows j.. of the normal
   vector to a multiple of e_j. If all columns of Q are drawn so, Q is uniform up to the signs of its columns (Stewart
   1980). R makes up for the signs, since its initial distribution is symmetric. */
static void draw_reflection(size_t j, size_t dim, nf_real *v)
{
    const size_t first = j < dim ? j : 0;
    double squares = 0;
    for (size_t i = 0; i < dim; i++) {
        v[i] = i < first ? 0 : v[i];
        squares += (double)v[i] * (double)v[i];
    }
    v[first] += (nf_real)(v[first] < 0 ? -sqrt(squares) : sqrt(squares));
    squares = 0;
    for (size_t i = first; i < dim; i++)
        squares += (double)v[i] * (double)v[i];
    for (size_t i = first; i < dim; i++)
        v[i] = (nf_real)((double)v[i] / sqrt(squares));
}

/* Initial parameters: near the identity, but each layer has directions of its own. R is about 0 and R~ about tanh(1)
   I, so that the gradient in R is not 0. */
static const double spread = 0.1, alpha_tilde = 1;

static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    (void)batch, (void)state;
    const nfi_sylvester *q = nf_self(o);
    const nf_shape *shape = nf_object_shape(o);
    const size_t m = q->m;
    nf_noise_normal(noise, shape->n_params, 1, 1, theta);
    for (size_t j = 0; j < q->n; j++)
        draw_reflection(j, shape->dim_in, theta + j * shape->dim_in);
    nf_real *above = theta + q->n * shape->dim_in, *alpha = above + m * (m - 1), *b = alpha + 2 * m;
    for (size_t k = 0; k < m * (m - 1); k++)
        above[k] = (nf_real)(spread * (double)above[k] / sqrt((double)m));
    for (size_t i = 0; i < m; i++) {
        alpha[i] = (nf_real)(spread * (double)alpha[i]);
        alpha[m + i] = (nf_real)(alpha_tilde + spread * (double)alpha[m + i]);
        b[i] = 0;
    }
    return NF_OK;
}

/* ---- structure ---- */

static const char *const kinds[] = {[NF_SYLVESTER_ORTHOGONAL] = "orthogonal",
                                    [NF_SYLVESTER_HOUSEHOLDER] = "householder",
                                    [NF_SYLVESTER_TRIANGULAR] = "triangular"};

static const nf_choices what_Q_is = NFI_CHOICES("kind", kinds);
static const nf_option options_of_type[] = {
    {NF_OPTION(NF_OPTION_CHOICE, nf_sylvester_options, kind), .choices = &what_Q_is, .help = "what Q is"},
    {NF_OPTION(NF_OPTION_SIZE, nf_sylvester_options, columns), .least = 1, .flags = NF_OPTION_DEPENDS,
     .help = "of Q, if it is orthogonal: 8, at most dim"},
    {NF_OPTION(NF_OPTION_SIZE, nf_sylvester_options, reflections), .least = 1, .flags = NF_OPTION_DEPENDS,
     .help = "whose product is Q, of kind householder: 8, at most dim"},
    {NF_OPTION(NF_OPTION_BOOL, nf_sylvester_options, reversed), .help = "Q reverses the features, if triangular"},
};
static const nf_option_table table = NF_OPTION_TABLE("nf_sylvester", nf_sylvester_options, options_of_type, NULL);

NFI_REBUILD(flow, nf_sylvester_options, nf_sylvester(nf_read_dim_in(r), q))

static void slices(const nf_object *o, nf_slice_fn *each, void *user)
{
    const nfi_sylvester *q = nf_self(o);
    const size_t dim = nf_object_shape(o)->dim_in, m = q->m, strict = m * (m - 1) / 2, first = q->n * dim;
    if (q->n)
        each(user, "v", 0, 2, (const size_t[]){q->n, dim});
    if (strict) {
        each(user, "r", first, 1, &strict);
        each(user, "r_tilde", first + strict, 1, &strict);
    }
    each(user, "alpha", first + 2 * strict, 1, &m);
    each(user, "alpha_tilde", first + 2 * strict + m, 1, &m);
    each(user, "b", first + 2 * strict + 2 * m, 1, &m);
}

const nf_flow_type nfi_sylvester_type = {
    .part = {.name = "sylvester", .init = init, .slices = slices, .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = nfi_sylvester_apply,
    .vjp = nfi_sylvester_vjp,
    .solve_jt = nfi_sylvester_solve_jt,
    .rebuild = rebuild,
    .options = &table,
};

static nf_status check(size_t dim, const nf_sylvester_options *q)
{
    if (dim == 0)
        return nf_error(NF_EARG, "nf_sylvester: `dim` is 0");
    if (q->columns && q->kind != NF_SYLVESTER_ORTHOGONAL)
        return nf_error(NF_EARG, "nf_sylvester: `columns` is %zu, but this kind has `dim` of them", q->columns);
    if (q->columns > dim)
        return nf_error(NF_EARG, "nf_sylvester: `columns` is %zu, but `dim` is %zu", q->columns, dim);
    if (q->reflections && q->kind != NF_SYLVESTER_HOUSEHOLDER)
        return nf_error(NF_EARG, "nf_sylvester: `reflections` is %zu, but this kind has no such choice",
                        q->reflections);
    if (q->reversed && q->kind != NF_SYLVESTER_TRIANGULAR)
        return nf_error(NF_EARG, "nf_sylvester: `reversed` is for NF_SYLVESTER_TRIANGULAR");
    return NF_OK;
}

/* The number of parameters: v, then the triangles. Returns false on overflow, also if the lanes of the gradients
   would overflow. */
static bool count_params(size_t dim, size_t n, size_t m, size_t *n_params)
{
    size_t v, square, bytes;
    return nfi_mul(n, dim, &v) && nfi_add(m, 2, &square) && nfi_mul(m, square, &square) &&
           nfi_add(v, square, n_params) && nfi_mul(*n_params, NFI_LANES * sizeof(nf_real), &bytes);
}

nf_flow *nf_sylvester(size_t dim, const nf_sylvester_options *options)
{
    enum { FEW = 8 };
    nf_sylvester_options filled;
    if (nf_options_settle(&table, options, &filled) != NF_OK || check(dim, &filled) != NF_OK)
        return NULL;
    const size_t few = dim < FEW ? dim : FEW;
    if (filled.kind == NF_SYLVESTER_ORTHOGONAL && filled.columns == 0)
        filled.columns = few;
    if (filled.kind == NF_SYLVESTER_HOUSEHOLDER && filled.reflections == 0)
        filled.reflections = few;
    const size_t m = filled.kind == NF_SYLVESTER_ORTHOGONAL ? filled.columns : dim;
    const size_t n = filled.kind == NF_SYLVESTER_ORTHOGONAL ? filled.columns : filled.reflections;
    size_t n_params;
    if (!count_params(dim, n, m, &n_params)) {
        nf_error(NF_EARG, "nf_sylvester: `dim` is %zu, with %zu reflections", dim, n);
        return NULL;
    }
    nfi_sylvester *q = nfi_calloc(1, sizeof *q);
    if (!q)
        return NULL;
    *q = (nfi_sylvester){.options = filled, .m = m, .n = n};
    const nf_shape own = {.dim_in = dim,
                          .dim_out = dim,
                          .n_params = n_params,
                          .n_saved = 2 * dim + n + 4 * m,
                          .flags = NF_PER_SAMPLE | NF_IMPLICIT_INVERSE};
    return nf_flow_new(&nfi_sylvester_type, &own, q, NULL, 0);
}
