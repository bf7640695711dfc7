/* The uniform distribution on the cube [low, high]^dim: log q(x) = -dim log(high - low) inside and -infinity outside.
   If x is NaN, log q is NaN. A sample is low + (high - low) u. */
#include "dist/kernels.h"
#include <math.h>

void nfi_uniform_score(size_t dim, size_t ld, nf_real low, nf_real high, const nf_real *x, double *log_p)
{
    ld = nfi_lanes(ld);
    double inside = -log((double)high - (double)low), outside = -(double)INFINITY;
    for (size_t d = 0; d < dim; d++) {
        const nf_real *xd = x + d * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            log_p[s] += xd[s] < low || xd[s] > high ? outside : inside + 0 * (double)xd[s];
    }
}

void nfi_uniform_draw(size_t n, nf_real low, nf_real high, const double *u, nf_real *x)
{
    double from = (double)low, to = (double)high;
    NFI_SIMD
    for (size_t i = 0; i < n; i++) {
        double v = from + (to - from) * u[i];
        x[i] = (nf_real)(v < to ? v : to);
    }
}
