/* Flows that apply a formula y = f(x) to each feature: the hooks that all of them share.

   The formula gives the forward direction with its vector-Jacobian product. The inverse is the formula's own, or the
   solution of f(x) = y; the gradients of the inverse are the library's, by the implicit-function theorem (flow.c),
   where J^-T is division by the slope. Nothing is saved: a formula is computed again from x where its slope is needed.

   Where a sample has no result (its log-slope is NaN, or no root was found), both its number and its log-det are NaN.
 */
#include "base/memory.h"
#include "flows/elementwise/monotone.h"
#include "object/parts.h"
#include "object/table.h"
#include <string.h>

/* What a flow keeps in front of its options, to which `self` points, as it does for other types with options. */
typedef struct own {
    _Alignas(64) nf_formula formula;
    size_t n_params; /* of a feature */
} own;

static const own *own_of(const nf_object *o)
{
    return (const own *)nf_self(o) - 1;
}

const void *nf_formula_options(const nf_object *flow)
{
    return nf_self(flow);
}

static nf_feature feature(const nf_object *o, const nf_pass *p, size_t i, const nf_grad *g)
{
    const own *q = own_of(o);
    const nf_shape *s = nf_object_shape(o);
    const size_t context = i * (s->n_ctx / s->dim_in) * p->ld; /* where its part begins */
    return (nf_feature){.flow = o,
                        .options = nf_self(o),
                        .index = i,
                        .n_params = q->n_params,
                        .ld = p->ld,
                        .theta_stride = p->theta_stride,
                        .theta = p->theta + i * q->n_params * (p->theta_stride ? p->ld : 1),
                        .ctx = s->n_ctx ? p->ctx + context : NULL,
                        .g_ctx = g && g->ctx && s->n_ctx ? g->ctx + context : NULL,
                        .pass = p,
                        .grad = g};
}

/* ---- the inverse ---- */

typedef struct equation {
    const nf_formula *formula;
    const nf_feature *feature;
} equation;

static nf_status value_and_slope(void *user, const nf_real *x, nf_real *y, nf_real *slope)
{
    const equation *e = user;
    const nf_status status = e->formula->forward(e->feature, x, y, slope);
    nfi_formula_slope(e->feature->ld, slope, slope);
    return status;
}

/* x = f^-1(y) by iteration; log_slope is that of f, at x. */
static nf_status solve(const nf_formula *formula, const nf_feature *f, const nf_real *y, nf_real *x, nf_real *log_slope)
{
    const nf_mark mark = nf_arena_mark(f->pass->scratch);
    nf_real *again = nf_arena_reals(f->pass->scratch, 1, f->ld);
    nf_status status = again ? NF_OK : NF_ENOMEM;
    if (status == NF_OK)
        status = nf_monotone_solve(f->ld, value_and_slope, &(equation){formula, f}, y, x, f->pass->scratch);
    if (status == NF_OK)
        status = formula->forward(f, x, again, log_slope);
    for (size_t s = 0; status == NF_OK && s < f->ld; s++)
        log_slope[s] = x[s] == x[s] ? log_slope[s] : x[s]; /* NaN if there is no root, whatever the formula says */
    nf_arena_rewind(f->pass->scratch, mark);
    return status;
}

/* ---- hooks ---- */

nf_status nf_formula_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                           double *log_det, void **saved)
{
    (void)saved;
    const nf_formula *formula = &own_of(o)->formula;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *log_slope = nf_arena_reals(p->scratch, 1, p->ld);
    nf_status status = log_slope ? NF_OK : NF_ENOMEM;
    for (size_t i = 0; i < nf_object_shape(o)->dim_in && status == NF_OK; i++) {
        const nf_feature f = feature(o, p, i, NULL);
        const bool solves = d == NF_INVERSE && !formula->inverse;
        const nf_real *from = x + i * p->ld;
        nf_real *to = y + i * p->ld;
        status = d == NF_FORWARD ? formula->forward(&f, from, to, log_slope)
                 : solves        ? solve(formula, &f, from, to, log_slope)
                                 : formula->inverse(&f, from, to, log_slope);
        if (status == NF_OK)
            nfi_formula_add(p->ld, solves ? -1 : 1, log_slope, to, log_det);
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

nf_status nf_formula_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                         void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)d, (void)y, (void)saved;
    const own *q = own_of(o);
    const size_t n = g->theta ? q->n_params : 0;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *rows = n ? nf_arena_reals(p->scratch, n, p->ld) : NULL;
    nf_status status = n && !rows ? NF_ENOMEM : NF_OK;
    for (size_t i = 0; i < nf_object_shape(o)->dim_in && status == NF_OK; i++) {
        const nf_feature f = feature(o, p, i, g);
        status = q->formula.vjp(&f, x + i * p->ld, gy + i * p->ld, g_log_det, gx + i * p->ld, rows);
        if (status == NF_OK && n)
            nfi_formula_gather(p->theta_stride, n, p->ld, rows, g->theta + (f.theta - p->theta));
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

nf_status nf_formula_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                              void *saved, const nf_real *gx, nf_real *gy)
{
    (void)d, (void)y, (void)saved;
    const own *q = own_of(o);
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *again = nf_arena_reals(p->scratch, 2, p->ld);
    nf_status status = again ? NF_OK : NF_ENOMEM;
    for (size_t i = 0; i < nf_object_shape(o)->dim_in && status == NF_OK; i++) {
        const nf_feature f = feature(o, p, i, NULL);
        status = q->formula.forward(&f, x + i * p->ld, again, again + p->ld);
        if (status == NF_OK)
            nfi_formula_divide(p->ld, again + p->ld, gx + i * p->ld, gy + i * p->ld);
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

void nf_formula_slices(const nf_object *o, nf_slice_fn *each, void *user)
{
    const own *q = own_of(o);
    if (q->n_params)
        each(user, q->formula.parameters, 0, 2, (const size_t[]){nf_object_shape(o)->dim_in, q->n_params});
}

void nf_formula_destroy(void *self)
{
    nfi_free((own *)self - 1);
}

/* ---- the constructor ---- */

static nf_status check(const nf_flow_type *type, const nf_formula *formula, const nf_shape *shape)
{
    static const char who[] = "nf_formula_flow";
    if (!type || !formula || !shape)
        return nf_error(NF_EARG, "%s: `type`, `formula` or `own` is NULL", who);
    const nf_status status =
        nfi_check_abi(who, "formula", formula->abi, NFI_END_OF(nf_formula, inverse), sizeof(nf_formula));
    if (status != NF_OK)
        return status;
    if (!formula->forward || !formula->vjp)
        return nf_error(NF_EARG, "%s: the formula of %s lacks `forward` or `vjp`", who, type->part.name);
    if (shape->dim_in == 0 || shape->n_params % shape->dim_in != 0 || shape->n_ctx % shape->dim_in != 0)
        return nf_error(NF_EARG, "%s: %s has %zu features, %zu parameters and %zu features of context", who,
                        type->part.name, shape->dim_in, shape->n_params, shape->n_ctx);
    return NF_OK;
}

nf_flow *nf_formula_flow(const nf_flow_type *type, const nf_formula *formula, const nf_shape *shape,
                         const void *options, size_t size, nf_object *const *children, size_t n_children)
{
    if (!nfi_parts_given("nf_formula_flow", n_children, children, NULL))
        return NULL;
    own *q = check(type, formula, shape) == NF_OK ? nfi_calloc(1, sizeof *q + size) : NULL;
    if (!q) {
        nfi_parts_release(n_children, children);
        return NULL;
    }
    nfi_complete_table(&q->formula, formula, formula->abi, sizeof q->formula);
    q->formula.parameters = formula->parameters ? formula->parameters : "theta";
    q->n_params = shape->n_params / shape->dim_in;
    if (size)
        memcpy(q + 1, options, size);
    nf_shape s = *shape;
    s.dim_out = s.dim_in;
    s.flags |= NF_IMPLICIT_INVERSE;
    return nf_flow_new(type, &s, q + 1, children, n_children);
}
