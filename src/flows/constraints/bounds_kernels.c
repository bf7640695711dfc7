/* The maps of single features in bounds.c, by the formulas of bounds_maps.h. */
#include "flows/constraints/bounds_maps.h"

NFI_INLINE void apply_row(nfi_bound_kind is, nf_direction d, nfi_bound q, size_t ld, const nf_real *restrict x,
                          nf_real *restrict y, double *restrict log_det)
{
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const point at = point_at(is, d, q, x[s]);
        y[s] = at.y;
        log_det[s] += at.l;
    }
}

NFI_INLINE void pull_back_row(nfi_bound_kind is, nf_direction d, nfi_bound q, size_t ld, const nf_real *restrict x,
                              const nf_real *restrict gy, const nf_real *restrict g_log_det, nf_real *restrict gx)
{
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const point at = point_at(is, d, q, x[s]);
        gx[s] = gy[s] * at.dy + g_log_det[s] * at.dl;
    }
}

/* Calls body(kind, direction, ...) with kind and direction as constants that the compiler can see. */
#define KIND_CASE(body, is, ...)               \
    case is:                                   \
        if (d == NF_FORWARD)                   \
            body(is, NF_FORWARD, __VA_ARGS__); \
        else                                   \
            body(is, NF_INVERSE, __VA_ARGS__); \
        break;
#define KIND_CASES(body, ...)                  \
    KIND_CASE(body, NFI_LOWER, __VA_ARGS__)    \
    KIND_CASE(body, NFI_UPPER, __VA_ARGS__)    \
    KIND_CASE(body, NFI_INTERVAL, __VA_ARGS__) \
    KIND_CASE(body, NFI_SCALED, __VA_ARGS__)   \
    KIND_CASE(body, NFI_IDENTITY, __VA_ARGS__) \
    default:                                   \
        break;

void nfi_bounds_apply(nfi_bound_kind is, nf_direction d, nfi_bound q, size_t ld, const nf_real *from, nf_real *to,
                      double *log_det)
{
    switch (is) {
        KIND_CASES(apply_row, q, ld, from, to, log_det)
    }
}

void nfi_bounds_pull_back(nfi_bound_kind is, nf_direction d, nfi_bound q, size_t ld, const nf_real *from,
                          const nf_real *g_to, const nf_real *gl, nf_real *g_from)
{
    switch (is) {
        KIND_CASES(pull_back_row, q, ld, from, g_to, gl, g_from)
    }
}
