/* See matching.h. */
#include "density/matching.h"

void nfi_matching_path(size_t dim, size_t ld, nf_real left, nf_real speed, const nf_real *a, const nf_real *x0,
                       const nf_real *x1, nf_real *z, nf_real *v)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < dim; r++) {
        const nf_real *from = x0 + r * ld, *to = x1 + r * ld;
        nf_real *at = z + r * ld, *way = v + r * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            at[s] = (1 - left * a[s]) * from[s] + a[s] * to[s];
            way[s] = speed * (to[s] - left * from[s]);
        }
    }
}

void nfi_matching_loss(size_t dim, size_t ld, const nf_real *f, const nf_real *v, double *loss, double *square)
{
    ld = nfi_lanes(ld);
    for (size_t s = 0; s < ld; s++)
        loss[s] = square[s] = 0;
    for (size_t r = 0; r < dim; r++) {
        const nf_real *is = f + r * ld, *wanted = v + r * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const double goal = (double)wanted[s], off = (double)is[s] - goal;
            loss[s] += off * off;
            square[s] += goal * goal;
        }
    }
}

void nfi_matching_gradient(size_t dim, size_t ld, const nf_real *w, const nf_real *f, const nf_real *v, nf_real *gf)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < dim; r++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            gf[r * ld + s] = 2 * w[s] * (f[r * ld + s] - v[r * ld + s]);
    }
}

void nfi_matching_costs(size_t dim, size_t n, size_t ld, const nf_real *draws, const nf_real *x, double *cost)
{
    for (size_t j = 0; j < n; j++)
        cost[j] = 0;
    for (size_t r = 0; r < dim; r++) {
        const double at = (double)x[r];
        NFI_SIMD
        for (size_t j = 0; j < n; j++) {
            const double off = (double)draws[r * ld + j] - at;
            cost[j] += off * off;
        }
    }
    NFI_SIMD
    for (size_t j = 0; j < n; j++)
        cost[j] = cost[j] <= 1e150 ? cost[j] : 0;
}
