/* S = L L^T for lower triangular L with a positive diagonal: what stands between a Cholesky factor and its matrix. As
   maps of the chart's entries, with j counted from 0,

       covariance    lower triangle to lower triangle                 log-det = K log 2 + sum (K - j) log L_jj
       correlation   strict lower triangle to the same, L's rows of length 1   log-det = sum (K - 1 - j) log L_jj.

   For a correlation matrix S_jj = 1 is written and taken for granted. Forward VJP: gL = (gS + gS^T) L, lower triangle,
   and gL_jj += gl c_j / L_jj with the log-det's coefficient c_j. Inverse: Cholesky-Banachiewicz by columns, reading S's
   lower triangle; its VJP goes through it backwards (Murray 2016, arXiv:1602.07527, section 3.2).

   Entries of L beyond NFI_MOST are taken for that. A pivot that is negative is outside; one below NFI_LEAST makes the
   column under it 0. Entry (i, j) stands in row j K + i. */
#include "core/memory.h"
#include "flows/constraints/constraint.h"
#include <string.h>

typedef struct gram {
    size_t K;
    bool correlation;
} gram;

static nf_real coefficient(const gram *q, size_t j)
{
    return (nf_real)(q->K - j - q->correlation);
}

/* A tile's entry (i, j). */
#define AT(i, j) (((j)*K + (i)) * ld)

NFI_INLINE nf_real limited(nf_real x)
{
    const nf_real least = x < -NFI_MOST ? -NFI_MOST : x;
    return least > NFI_MOST ? NFI_MOST : least;
}

/* to += sign a b, rows of a tile. */
NFI_INLINE void add_product(size_t ld, nf_real sign, const nf_real *a, const nf_real *b, nf_real *restrict to)
{
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        to[s] += sign * limited(a[s]) * limited(b[s]);
}

/* ---- forward ---- */

NFI_CLONES static void gram_forward(size_t K, bool correlation, size_t ld, const nf_real *restrict L,
                                    nf_real *restrict S)
{
    ld = nfi_lanes(ld);
    for (size_t i = 0; i < K; i++)
        for (size_t j = 0; j <= i; j++) {
            nf_real *restrict to = S + AT(i, j);
            const bool one = correlation && i == j;
            for (size_t s = 0; s < ld; s++)
                to[s] = one ? 1 : 0;
            for (size_t k = 0; k <= j && !one; k++)
                add_product(ld, 1, L + AT(i, k), L + AT(j, k), to);
            if (i != j)
                memcpy(S + AT(j, i), to, ld * sizeof *to);
        }
}

NFI_CLONES static void gram_add_log(size_t ld, double c, const nf_real *restrict L, double *restrict log_det)
{
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        log_det[s] += c * (double)nfi_log(L[s] < NFI_TINY ? NFI_TINY : limited(L[s]));
}

/* gL_jj += gl c / L_jj */
NFI_CLONES static void gram_add_slope(size_t ld, nf_real c, const nf_real *restrict L, const nf_real *restrict gl,
                                      nf_real *restrict gL)
{
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        gL[s] += L[s] > NFI_MOST || L[s] < NFI_TINY ? 0 : c * gl[s] / L[s];
}

/* sum [ld] */
NFI_CLONES static void gram_forward_vjp(size_t K, bool correlation, size_t ld, const nf_real *restrict L,
                                        const nf_real *restrict gS, nf_real *restrict gL, nf_real *restrict sum)
{
    ld = nfi_lanes(ld);
    for (size_t i = 0; i < K; i++)
        for (size_t k = 0; k < K; k++) {
            const nf_real *a = gS + AT(i, k), *b = gS + AT(k, i);
            const bool given = correlation && i == k; /* not an entry of the chart */
            NFI_SIMD
            for (size_t s = 0; s < ld; s++)
                sum[s] = given ? 0 : a[s] + b[s];
            for (size_t j = 0; j <= i && j <= k; j++)
                add_product(ld, 1, sum, L + AT(k, j), gL + AT(i, j));
        }
}

/* ---- inverse ---- */

/* Column j of the factor below a pivot, which stands in L_jj: L_jj = sqrt(pivot), L_ij /= L_jj. */
NFI_CLONES static void gram_column(size_t K, size_t j, size_t ld, nf_real *restrict L, double *restrict log_det)
{
    ld = nfi_lanes(ld);
    nf_real *restrict d = L + AT(j, j);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        log_det[s] += nfi_support(d[s]);
        d[s] = nfi_sqrt(nfi_inside(d[s]));
    }
    const nf_real least = nfi_sqrt(NFI_LEAST);
    for (size_t i = j + 1; i < K; i++) {
        nf_real *restrict below = L + AT(i, j);
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            below[s] = d[s] > least ? below[s] / d[s] : 0;
    }
}

NFI_CLONES static void gram_inverse(size_t K, bool correlation, size_t ld, const nf_real *restrict S,
                                    nf_real *restrict L, double *restrict log_det)
{
    ld = nfi_lanes(ld);
    for (size_t j = 0; j < K; j++) {
        for (size_t i = 0; i < K; i++) {
            nf_real *restrict to = L + AT(i, j);
            const nf_real *restrict from = S + AT(i, j);
            NFI_SIMD
            for (size_t s = 0; s < ld; s++)
                to[s] = i < j ? 0 : correlation && i == j ? 1 : from[s];
            for (size_t k = 0; k < j && i >= j; k++)
                add_product(ld, -1, L + AT(i, k), L + AT(j, k), to);
        }
        gram_column(K, j, ld, L, log_det);
    }
}

/* g /= L_jj; 0 where the pivot was none. */
NFI_INLINE void divide(size_t ld, const nf_real *restrict d, nf_real *restrict g)
{
    const nf_real least = nfi_sqrt(NFI_LEAST);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        g[s] = d[s] > least ? g[s] / d[s] : 0;
}

/* g: L's cotangent, lower triangle, becomes that of S's entries. */
NFI_CLONES static void gram_inverse_vjp(size_t K, size_t ld, const nf_real *restrict L, nf_real *restrict g)
{
    ld = nfi_lanes(ld);
    for (size_t j = K; j-- > 0;) {
        nf_real *pivot = g + AT(j, j);
        for (size_t i = j + 1; i < K; i++) {
            divide(ld, L + AT(j, j), g + AT(i, j));
            add_product(ld, -1, L + AT(i, j), g + AT(i, j), pivot);
        }
        divide(ld, L + AT(j, j), pivot);
        for (size_t k = 0; k < j; k++)
            for (size_t i = j; i < K; i++) {
                add_product(ld, -1, g + AT(i, j), L + AT(i, k), g + AT(j, k));
                if (i > j)
                    add_product(ld, -1, g + AT(i, j), L + AT(j, k), g + AT(i, k));
            }
        for (size_t s = 0; s < ld; s++)
            pivot[s] *= NF_R(0.5);
    }
}
/* ---- hooks ---- */

/* log_det += sign times the forward log-det at L; gL's log-det terms likewise. */
static void add_log_det(const gram *q, nf_real sign, size_t ld, const nf_real *L, double *log_det)
{
    const size_t K = q->K;
    const double constant = q->correlation ? 0 : (double)K * log(2);
    for (size_t s = 0; s < ld; s++)
        log_det[s] += (double)sign * constant;
    for (size_t j = 0; j < K; j++)
        gram_add_log(ld, (double)(sign * coefficient(q, j)), L + AT(j, j), log_det);
}

static void add_slopes(const gram *q, nf_real sign, size_t ld, const nf_real *L, const nf_real *gl, nf_real *gL)
{
    const size_t K = q->K;
    for (size_t j = 0; j < K; j++)
        gram_add_slope(ld, sign * coefficient(q, j), L + AT(j, j), gl, gL + AT(j, j));
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    (void)saved;
    const gram *q = nf_self(o);
    if (d == NF_FORWARD) {
        gram_forward(q->K, q->correlation, p->ld, x, y);
        add_log_det(q, 1, p->ld, x, log_det);
    } else {
        gram_inverse(q->K, q->correlation, p->ld, x, y, log_det);
        add_log_det(q, -1, p->ld, y, log_det);
    }
    return NF_OK;
}

static nf_status forward_vjp(const gram *q, const nf_pass *p, const nf_real *L, const nf_real *gS, const nf_real *gl,
                             nf_real *gL)
{
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *sum = nf_arena_reals(p->scratch, 1, p->ld);
    if (!sum)
        return NF_ENOMEM;
    nfi_clear(gL, q->K * q->K, p->ld);
    gram_forward_vjp(q->K, q->correlation, p->ld, L, gS, gL, sum);
    add_slopes(q, 1, p->ld, L, gl, gL);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static void inverse_vjp(const gram *q, size_t ld, const nf_real *L, const nf_real *gL, const nf_real *gl, nf_real *gS)
{
    const size_t K = q->K;
    for (size_t i = 0; i < K; i++)
        for (size_t j = 0; j < K; j++) {
            if (j <= i)
                memcpy(gS + AT(i, j), gL + AT(i, j), ld * sizeof *gS);
            else
                nfi_clear(gS + AT(i, j), 1, ld);
        }
    add_slopes(q, -1, ld, L, gl, gS);
    gram_inverse_vjp(K, ld, L, gS);
    for (size_t j = 0; j < K && q->correlation; j++)
        nfi_clear(gS + AT(j, j), 1, ld);
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)saved, (void)g;
    const gram *q = nf_self(o);
    if (d == NF_FORWARD)
        return forward_vjp(q, p, x, gy, g_log_det, gx);
    inverse_vjp(q, p->ld, y, gy, g_log_det, gx);
    return NF_OK;
}

static nf_status describe(const nf_object *o, nf_writer *w)
{
    const gram *q = nf_self(o);
    return nf_write_integers(w, "gram", 2, (size_t[]){q->K, q->correlation});
}

nf_flow *nfi_gram(size_t K, bool correlation)
{
    gram *q = nfi_calloc(1, sizeof *q);
    if (!q)
        return NULL;
    *q = (gram){K, correlation};
    return nfi_constraint_new(&nfi_gram_type, K * K, K * K, 0, q);
}

static nf_flow *rebuild(nf_reader *r)
{
    size_t q[2], entries;
    if (nf_read_integers(r, "gram", 2, q) != NF_OK)
        return NULL;
    if (q[0] == 0 || q[1] > 1 || !nfi_mul(q[0], q[0], &entries)) {
        nf_error(NF_EFORMAT, "gram: %zu rows of kind %zu", q[0], q[1]);
        return NULL;
    }
    return nfi_gram(q[0], q[1] != 0);
}

const nf_flow_type nfi_gram_type = {
    .part = {.name = "gram", .describe = describe, .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = nfi_constraint_solve_jt,
    .rebuild = rebuild,
};
