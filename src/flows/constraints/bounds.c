/* Elementwise constraints, of a kind of its own for each feature (Stan Reference Manual, "Constraint Transforms"):
   none, a lower or an upper bound, both, or offset and multiplier. The formulas are in bounds_maps.h. */
#include "object/options.h"
#include "base/memory.h"
#include "flows/constraints/constraint.h"
#include "flows/constraints/kernels.h"
#include <math.h>

typedef struct row {
    nfi_bound_kind is;
    double first, second; /* bounds, or offset and multiplier, as the caller gave them */
    nfi_bound at;
} row;

typedef struct bounds {
    size_t dim;
    row row[];
} bounds;

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    (void)saved;
    const bounds *b = nf_self(o);
    for (size_t i = 0; i < b->dim; i++) {
        const size_t at = i * p->ld;
        nfi_bounds_apply(b->row[i].is, d, b->row[i].at, p->ld, x + at, y + at, log_det);
    }
    return NF_OK;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)y, (void)saved, (void)g;
    const bounds *b = nf_self(o);
    for (size_t i = 0; i < b->dim; i++) {
        const size_t at = i * p->ld;
        nfi_bounds_pull_back(b->row[i].is, d, b->row[i].at, p->ld, x + at, gy + at, g_log_det, gx + at);
    }
    return NF_OK;
}

/* ---- structure ---- */

static const char *const kinds[NFI_N_BOUND_KINDS] = {[NFI_IDENTITY] = "identity",
                                                     [NFI_LOWER] = "lower",
                                                     [NFI_UPPER] = "upper",
                                                     [NFI_INTERVAL] = "interval",
                                                     [NFI_SCALED] = "scaled"};

static nf_status describe(const nf_object *o, nf_writer *w)
{
    const bounds *b = nf_self(o);
    size_t *is = nfi_calloc(b->dim, sizeof *is);
    double *number = nfi_calloc(2 * b->dim, sizeof *number);
    nf_status status = is && number ? NF_OK : NF_ENOMEM;
    for (size_t i = 0; i < b->dim && status == NF_OK; i++) {
        is[i] = b->row[i].is;
        number[i] = b->row[i].first;
        number[b->dim + i] = b->row[i].second;
    }
    if (status == NF_OK)
        status = nf_write_choices(w, "kinds", NFI_N_NAMES(kinds), kinds, b->dim, is);
    if (status == NF_OK)
        status = nf_write_numbers(w, "first", b->dim, number);
    if (status == NF_OK)
        status = nf_write_numbers(w, "second", b->dim, number + b->dim);
    nfi_free(is);
    nfi_free(number);
    return status;
}

/* Sets the map of one feature, with its numbers also in the library's precision. Returns whether the numbers are valid.
 */
static bool set_row(row *r, nfi_bound_kind is, double first, double second)
{
    *r = (row){.is = is, .first = first, .second = second};
    nfi_bound *q = &r->at;
    if (is == NFI_LOWER || is == NFI_INTERVAL || is == NFI_SCALED)
        q->a = (nf_real)first;
    if (is == NFI_UPPER || is == NFI_INTERVAL)
        q->b = (nf_real)second;
    if (is == NFI_INTERVAL || is == NFI_SCALED)
        q->w = is == NFI_INTERVAL ? q->b - q->a : (nf_real)second;
    if (is == NFI_INTERVAL || is == NFI_SCALED)
        q->log_w = log((double)q->w);
    return isfinite(q->a) && isfinite(q->b) && isfinite(q->log_w);
}

static bounds *new_bounds(size_t dim, const char *who)
{
    size_t bytes;
    if (dim == 0 || !nfi_mul(dim, sizeof(row), &bytes) || !nfi_add(bytes, sizeof(bounds), &bytes)) {
        nf_error(NF_EARG, "%s: `dim` is %zu", who, dim);
        return NULL;
    }
    bounds *b = nfi_calloc(1, bytes);
    if (b)
        b->dim = dim;
    return b;
}

static nf_flow *finish(bounds *b)
{
    return nfi_constraint_new(&nfi_bounds_type, b->dim, b->dim, b);
}

static nf_flow *rebuild(nf_reader *r)
{
    const size_t dim = nf_read_length(r, "kinds");
    bounds *b = new_bounds(dim, "bounds");
    size_t *is = nfi_calloc(dim, sizeof *is);
    double *number = nfi_calloc(dim, 2 * sizeof *number);
    bool good = b && is && number && nf_read_choices(r, "kinds", NFI_N_NAMES(kinds), kinds, dim, is) == NF_OK &&
                nf_read_numbers(r, "first", dim, number) == NF_OK &&
                nf_read_numbers(r, "second", dim, number + dim) == NF_OK;
    for (size_t i = 0; i < dim && good; i++)
        if (!set_row(&b->row[i], (nfi_bound_kind)is[i], number[i], number[dim + i])) {
            nf_error(NF_EFORMAT, "bounds: feature %zu is none", i);
            good = false;
        }
    nfi_free(is);
    nfi_free(number);
    if (good)
        return finish(b);
    nfi_free(b);
    return NULL;
}

const nf_flow_type nfi_bounds_type = {
    .part = {.name = "bounds", .describe = describe, .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = nfi_constraint_solve_jt,
    .rebuild = rebuild,
};

/* Makes bounds for each feature (stride 1), or one pair of bounds for all features (stride 0). */
static nf_flow *make_bounds(const char *who, size_t dim, size_t stride, const double *lower, const double *upper)
{
    bounds *b = new_bounds(dim, who);
    for (size_t i = 0; b && i < dim; i++) {
        const double low = lower ? lower[i * stride] : -(double)INFINITY, high = upper ? upper[i * stride] : HUGE_VAL;
        const bool below = low > -(double)INFINITY, above = high < (double)INFINITY;
        const nfi_bound_kind is = below && above ? NFI_INTERVAL : below ? NFI_LOWER : above ? NFI_UPPER : NFI_IDENTITY;
        if (!(low < high) || !set_row(&b->row[i], is, below ? low : 0, above ? high : 0)) {
            nf_error(NF_EARG, "%s: feature %zu is to be between %g and %g", who, i, low, high);
            nfi_free(b);
            return NULL;
        }
    }
    return b ? finish(b) : NULL;
}

nf_flow *nf_bounds(size_t dim, const double *lower, const double *upper)
{
    return make_bounds("nf_bounds", dim, 1, lower, upper);
}

nf_flow *nf_identity(size_t dim)
{
    return make_bounds("nf_identity", dim, 0, NULL, NULL);
}

/* For the constructors whose bounds are the same for all features: each bound that is given must be finite. */
static nf_flow *make_bounded(const char *who, size_t dim, const double *lower, const double *upper)
{
    if ((!lower || isfinite(*lower)) && (!upper || isfinite(*upper)))
        return make_bounds(who, dim, 0, lower, upper);
    nf_error(NF_EARG, "%s: a bound is %g", who, lower && !isfinite(*lower) ? *lower : *upper);
    return NULL;
}

nf_flow *nf_lower(size_t dim, double a)
{
    return make_bounded("nf_lower", dim, &a, NULL);
}

nf_flow *nf_upper(size_t dim, double b)
{
    return make_bounded("nf_upper", dim, NULL, &b);
}

nf_flow *nf_interval(size_t dim, double a, double b)
{
    return make_bounded("nf_interval", dim, &a, &b);
}

nf_flow *nf_offset_multiplier(size_t dim, const double *offset, const double *multiplier)
{
    bounds *b = new_bounds(dim, "nf_offset_multiplier");
    for (size_t i = 0; b && i < dim; i++) {
        const double m = offset ? offset[i] : 0, s = multiplier ? multiplier[i] : 1;
        if (!set_row(&b->row[i], NFI_SCALED, m, s)) {
            nf_error(NF_EARG, "nf_offset_multiplier: feature %zu has offset %g and multiplier %g", i, m, s);
            nfi_free(b);
            return NULL;
        }
    }
    return b ? finish(b) : NULL;
}
