/* y[i] = x[order[i]]: a fixed permutation. Its Jacobian is orthogonal, so J^-T = J and the log-det is 0. */
#include "base/memory.h"
#include "flows/types.h"
#include "object/tree.h"
#include <nflow/linear.h>
#include <string.h>

typedef struct permutation {
    size_t dim, order[];
} permutation;

/* The forward map is to[i] = from[order[i]] (gather). The transpose, which is also the inverse, is to[order[i]] =
   from[i]. */
static void permute(const permutation *q, bool gather, size_t ld, const nf_real *from, nf_real *to)
{
    for (size_t i = 0; i < q->dim; i++) {
        size_t j = q->order[i];
        memcpy(to + (gather ? i : j) * ld, from + (gather ? j : i) * ld, ld * sizeof(nf_real));
    }
}

static nf_status permutation_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                                   double *log_det, void **saved)
{
    (void)log_det, (void)saved;
    permute(nf_self(o), d == NF_FORWARD, p->ld, x, y);
    return NF_OK;
}

static nf_status permutation_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                 const nf_real *y, void *saved, const nf_real *gy, const nf_real *g_log_det,
                                 nf_real *gx, const nf_grad *g)
{
    (void)x, (void)y, (void)saved, (void)g_log_det, (void)g;
    permute(nf_self(o), d != NF_FORWARD, p->ld, gy, gx);
    return NF_OK;
}

static nf_status permutation_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                      const nf_real *y, void *saved, const nf_real *gx, nf_real *gy)
{
    (void)x, (void)y, (void)saved;
    permute(nf_self(o), d == NF_FORWARD, p->ld, gx, gy);
    return NF_OK;
}

static nf_status permutation_describe(const nf_object *o, nf_writer *w)
{
    const permutation *q = nf_self(o);
    return nf_write_integers(w, "order", q->dim, q->order);
}

static nf_flow *permutation_rebuild(nf_reader *r)
{
    size_t dim = nf_read_length(r, "order");
    size_t *order = nfi_calloc(dim, sizeof *order);
    nf_flow *f = NULL;
    if (order && nf_read_integers(r, "order", dim, order) == NF_OK)
        f = nf_permutation(dim, order);
    nfi_free(order);
    return f;
}

const nf_flow_type nfi_permutation_type = {
    .part = {.name = "permutation", .describe = permutation_describe, .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = permutation_apply,
    .vjp = permutation_vjp,
    .solve_jt = permutation_solve_jt,
    .rebuild = permutation_rebuild,
};

/* Checks that every entry is in range and that none comes twice. seen [dim] must be zeros. */
static nf_status check(size_t dim, const size_t *order, bool *seen)
{
    for (size_t i = 0; i < dim; i++) {
        if (order[i] >= dim)
            return nf_error(NF_EARG, "nf_permutation: order[%zu] is %zu, but `dim` is %zu", i, order[i], dim);
        if (seen[order[i]])
            return nf_error(NF_EARG, "nf_permutation: order[%zu] is %zu, which an earlier entry is already", i,
                            order[i]);
        seen[order[i]] = true;
    }
    return NF_OK;
}

nf_flow *nf_permutation(size_t dim, const size_t *order)
{
    size_t bytes;
    if (dim == 0 || !order || !nfi_mul(dim, sizeof(size_t), &bytes) || !nfi_add(bytes, sizeof(permutation), &bytes)) {
        nf_error(NF_EARG, "nf_permutation: `dim` is %zu, `order` is %s", dim, order ? "given" : "NULL");
        return NULL;
    }
    permutation *q = nfi_calloc(1, bytes);
    bool *seen = nfi_calloc(dim, sizeof *seen);
    if (!q || !seen || check(dim, order, seen) != NF_OK) {
        nfi_free(q);
        nfi_free(seen);
        return NULL;
    }
    nfi_free(seen);
    q->dim = dim;
    memcpy(q->order, order, dim * sizeof *order);
    nf_shape shape = {.dim_in = dim, .dim_out = dim, .flags = NF_PER_SAMPLE | NFI_SAVES_ALIKE};
    return nf_flow_new(&nfi_permutation_type, &shape, q, NULL, 0);
}

/* Makes the permutation of `order`, and frees `order`. Returns NULL if there is no memory or dim is 0. */
static nf_flow *permutation_by(size_t dim, size_t *order, const char *who)
{
    nf_flow *f = order && dim ? nf_permutation(dim, order) : NULL;
    if (dim == 0)
        nf_error(NF_EARG, "%s: `dim` is 0", who);
    nfi_free(order);
    return f;
}

nf_flow *nf_reverse(size_t dim)
{
    size_t *order = nfi_calloc(dim, sizeof *order);
    for (size_t i = 0; order && i < dim; i++)
        order[i] = dim - 1 - i;
    return permutation_by(dim, order, "nf_reverse");
}

nf_flow *nf_random_permutation(size_t dim, uint64_t seed)
{
    size_t *order = nfi_calloc(dim, sizeof *order);
    if (order)
        nf_noise_permutation(&(nf_noise){.seed = seed}, dim, order);
    return permutation_by(dim, order, "nf_random_permutation");
}
