/* Dense algebra of I + dg/dx for each sample, and the terms of power series. A matrix of a sample is spread over the
   rows of a tile: number (i, j) of sample s is at [(i dim + j) ld + s]. */
#include "flows/residual/contraction.h"
#include "math/vec.h"
#include <math.h>

void nfi_contraction_lu(size_t dim, size_t ld, const nf_real *J, nf_real *lu, double *log_det)
{
    ld = nfi_lanes(ld);
    for (size_t i = 0; i < dim * dim; i++) {
        const nf_real one = i % (dim + 1) == 0;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            lu[i * ld + s] = J[i * ld + s] + one;
    }
    for (size_t k = 0; k < dim; k++) {
        const nf_real *restrict pivots = lu + (k * dim + k) * ld;
        for (size_t i = k + 1; i < dim; i++) {
            nf_real *restrict factor = lu + (i * dim + k) * ld;
            NFI_SIMD
            for (size_t s = 0; s < ld; s++)
                factor[s] /= pivots[s];
            for (size_t j = k + 1; j < dim; j++) {
                const nf_real *restrict above = lu + (k * dim + j) * ld;
                nf_real *restrict a = lu + (i * dim + j) * ld;
                NFI_SIMD
                for (size_t s = 0; s < ld; s++)
                    a[s] -= factor[s] * above[s];
            }
        }
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            log_det[s] += (double)(pivots[s] > 0 ? nfi_log(pivots[s]) : NF_R(NAN));
    }
}

/* b[i] -= a b[j], or b[i] /= a. */
NFI_INLINE void eliminate(size_t ld, const nf_real *restrict a, const nf_real *restrict b_j, nf_real *restrict b_i)
{
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        b_i[s] -= a[s] * b_j[s];
}
NFI_INLINE void divide_by_pivots(size_t ld, const nf_real *restrict a, nf_real *restrict b_i)
{
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        b_i[s] /= a[s];
}

void nfi_contraction_lu_solve(size_t dim, size_t ld, const nf_real *lu, bool transposed, nf_real *b)
{
    ld = nfi_lanes(ld);
#define AT(i, j) (lu + ((i)*dim + (j)) * ld)
    for (size_t i = 0; i < dim; i++) {
        for (size_t j = 0; j < i; j++)
            eliminate(ld, transposed ? AT(j, i) : AT(i, j), b + j * ld, b + i * ld);
        if (transposed)
            divide_by_pivots(ld, AT(i, i), b + i * ld);
    }
    for (size_t i = dim; i-- > 0;) {
        for (size_t j = i + 1; j < dim; j++)
            eliminate(ld, transposed ? AT(j, i) : AT(i, j), b + j * ld, b + i * ld);
        if (!transposed)
            divide_by_pivots(ld, AT(i, i), b + i * ld);
    }
#undef AT
}

void nfi_contraction_transposed(size_t dim, size_t ld, const nf_real *J, const nf_real *gy, nf_real *gx)
{
    ld = nfi_lanes(ld);
    for (size_t j = 0; j < dim; j++) {
        nf_real *restrict out = gx + j * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            out[s] = gy[j * ld + s];
        for (size_t i = 0; i < dim; i++) {
            const nf_real *restrict a = J + (i * dim + j) * ld;
            NFI_SIMD
            for (size_t s = 0; s < ld; s++)
                out[s] += a[s] * gy[i * ld + s];
        }
    }
}

void nfi_contraction_unit(size_t dim, size_t ld, size_t r, const nf_real *value, nf_real *e)
{
    ld = nfi_lanes(ld);
    for (size_t i = 0; i < dim; i++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            e[i * ld + s] = i != r ? 0 : value ? value[s] : 1;
    }
}

size_t nfi_contraction_coefficients(size_t ld, nf_real sign, double share, const nf_real *u, nf_real *c)
{
    const nf_real value = (nf_real)((double)sign / share);
    size_t n = 0;
    for (size_t s = 0; s < ld; s++) {
        const bool present = (double)u[s] < share;
        c[s] = present ? value : 0;
        n += present;
    }
    return n;
}

void nfi_contraction_add(size_t rows, size_t ld, const nf_real *c, const nf_real *s, nf_real *w)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < rows; r++) {
        NFI_SIMD
        for (size_t i = 0; i < ld; i++)
            w[r * ld + i] += c[i] * s[r * ld + i];
    }
}

void nfi_contraction_term(size_t rows, size_t ld, double scale, const nf_real *c, const nf_real *v, const nf_real *s,
                          double *term)
{
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t i = 0; i < ld; i++)
        term[i] = 0;
    for (size_t r = 0; r < rows; r++) {
        NFI_SIMD
        for (size_t i = 0; i < ld; i++)
            term[i] += scale * (double)c[i] * (double)v[r * ld + i] * (double)s[r * ld + i];
    }
}

void nfi_contraction_scale(size_t rows, size_t ld, nf_real scale, const nf_real *c, const nf_real *v, nf_real *out)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < rows; r++) {
        NFI_SIMD
        for (size_t i = 0; i < ld; i++)
            out[r * ld + i] = scale * c[i] * v[r * ld + i];
    }
}
