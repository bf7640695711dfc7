/* Elementwise constraints, each row with its own (Stan Reference Manual, "Constraint Transforms"): none, a lower or an
   upper bound, both, offset and multiplier. bounds_maps.h has the formulas. */
#include "core/memory.h"
#include "flows/constraints/bounds_maps.h"
#include <math.h>

typedef struct row {
    kind is;
    double first, second; /* bounds, or offset and multiplier, as given */
    limits at;
} row;

typedef struct bounds {
    size_t dim;
    row row[];
} bounds;

NFI_INLINE void apply_row(kind is, nf_direction d, limits q, size_t ld, const nf_real *restrict x, nf_real *restrict y,
                          double *restrict log_det)
{
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const point at = point_at(is, d, q, x[s]);
        y[s] = at.y;
        log_det[s] += at.l;
    }
}

NFI_INLINE void pull_back_row(kind is, nf_direction d, limits q, size_t ld, const nf_real *restrict x,
                              const nf_real *restrict gy, const nf_real *restrict g_log_det, nf_real *restrict gx)
{
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const point at = point_at(is, d, q, x[s]);
        gx[s] = gy[s] * at.dy + g_log_det[s] * at.dl;
    }
}

/* body(kind, direction, ...) with constants that the compiler can see. */
#define KIND_CASE(body, is, ...)               \
    case is:                                   \
        if (d == NF_FORWARD)                   \
            body(is, NF_FORWARD, __VA_ARGS__); \
        else                                   \
            body(is, NF_INVERSE, __VA_ARGS__); \
        break;
#define KIND_CASES(body, ...)              \
    KIND_CASE(body, LOWER, __VA_ARGS__)    \
    KIND_CASE(body, UPPER, __VA_ARGS__)    \
    KIND_CASE(body, INTERVAL, __VA_ARGS__) \
    KIND_CASE(body, SCALED, __VA_ARGS__)   \
    KIND_CASE(body, IDENTITY, __VA_ARGS__) \
    default:                               \
        break;

NFI_CLONES static void bounds_apply_row(const row *r, nf_direction d, size_t ld, const nf_real *x, nf_real *y,
                                        double *log_det)
{
    switch (r->is) {
        KIND_CASES(apply_row, r->at, ld, x, y, log_det)
    }
}

NFI_CLONES static void bounds_pull_back_row(const row *r, nf_direction d, size_t ld, const nf_real *x,
                                            const nf_real *gy, const nf_real *g_log_det, nf_real *gx)
{
    switch (r->is) {
        KIND_CASES(pull_back_row, r->at, ld, x, gy, g_log_det, gx)
    }
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    (void)saved;
    const bounds *b = nf_self(o);
    for (size_t i = 0; i < b->dim; i++)
        bounds_apply_row(&b->row[i], d, p->ld, x + i * p->ld, y + i * p->ld, log_det);
    return NF_OK;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)y, (void)saved, (void)g;
    const bounds *b = nf_self(o);
    for (size_t i = 0; i < b->dim; i++) {
        const size_t at = i * p->ld;
        bounds_pull_back_row(&b->row[i], d, p->ld, x + at, gy + at, g_log_det, gx + at);
    }
    return NF_OK;
}

/* ---- structure ---- */

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
        status = nf_write_integers(w, "kinds", b->dim, is);
    if (status == NF_OK)
        status = nf_write_numbers(w, "first", b->dim, number);
    if (status == NF_OK)
        status = nf_write_numbers(w, "second", b->dim, number + b->dim);
    nfi_free(is);
    nfi_free(number);
    return status;
}

/* The row in the library's precision; whether its numbers make one. */
static bool set_row(row *r, kind is, double first, double second)
{
    *r = (row){.is = is, .first = first, .second = second};
    limits *q = &r->at;
    if (is == LOWER || is == INTERVAL || is == SCALED)
        q->a = (nf_real)first;
    if (is == UPPER || is == INTERVAL)
        q->b = (nf_real)second;
    if (is == INTERVAL || is == SCALED)
        q->w = is == INTERVAL ? q->b - q->a : (nf_real)second;
    if (is == INTERVAL || is == SCALED)
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
    bool identity = true;
    for (size_t i = 0; i < b->dim; i++)
        identity = identity && b->row[i].is == IDENTITY;
    return nfi_constraint_new(&nfi_bounds_type, b->dim, b->dim, identity ? NF_VOLUME_PRESERVING : 0, b);
}

static nf_flow *rebuild(nf_reader *r)
{
    const size_t dim = nf_read_length(r, "kinds");
    bounds *b = new_bounds(dim, "nf_load");
    size_t *is = nfi_calloc(dim, sizeof *is);
    double *number = nfi_calloc(dim, 2 * sizeof *number);
    bool good = b && is && number && nf_read_integers(r, "kinds", dim, is) == NF_OK &&
                nf_read_numbers(r, "first", dim, number) == NF_OK &&
                nf_read_numbers(r, "second", dim, number + dim) == NF_OK;
    for (size_t i = 0; i < dim && good; i++)
        if (is[i] >= N_KINDS || !set_row(&b->row[i], (kind)is[i], number[i], number[dim + i])) {
            nf_error(NF_EFORMAT, "bounds: row %zu is none", i);
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

/* Bounds per row, or one pair for all: stride 1 or 0. */
static nf_flow *make_bounds(const char *who, size_t dim, size_t stride, const double *lower, const double *upper)
{
    bounds *b = new_bounds(dim, who);
    for (size_t i = 0; b && i < dim; i++) {
        const double low = lower ? lower[i * stride] : -(double)INFINITY, high = upper ? upper[i * stride] : HUGE_VAL;
        const bool below = low > -(double)INFINITY, above = high < (double)INFINITY;
        const kind is = below && above ? INTERVAL : below ? LOWER : above ? UPPER : IDENTITY;
        if (!(low < high) || !set_row(&b->row[i], is, below ? low : 0, above ? high : 0)) {
            nf_error(NF_EARG, "%s: row %zu is to be between %g and %g", who, i, low, high);
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

/* The constructors of one bound, which must be one. */
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
        if (!set_row(&b->row[i], SCALED, m, s)) {
            nf_error(NF_EARG, "nf_offset_multiplier: row %zu has offset %g and multiplier %g", i, m, s);
            nfi_free(b);
            return NULL;
        }
    }
    return b ? finish(b) : NULL;
}
