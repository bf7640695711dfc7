/* The score, its gradients, and samples of independent Student's t in every dimension, with location 0, scale 1 and n
   degrees of freedom:

       log q(x) = c(n) - (n + 1) / 2 log(1 + a^2),    a = |x| / sqrt(n),
       d/dx = -(n + 1) / sqrt(n) sign(x) a / (1 + a^2),
       d/dn = c'(n) - log(1 + a^2) / 2 + (n + 1) / (2 n) a^2 / (1 + a^2).

   a^2 is never formed. With r = min(a, 1/a), log(1 + a^2) = log1p(r^2) + 2 log max(a, 1), and
   a / (1 + a^2) = r / (1 + r^2). So scores and gradients are finite at every finite x. Samples are an explicit function
   of n and two uniforms (dist/student_t.h). */
#include "dist/kernels.h"
#include "dist/student_t.h"

/* The terms of the score and its derivatives. */
typedef struct parts {
    nf_real log1p, bend, share; /* log(1 + a^2), a / (1 + a^2), a^2 / (1 + a^2) */
} parts;

NFI_INLINE parts parts_of(nf_real x, nf_real inverse_root)
{
    nf_real a = nfi_abs(x) * inverse_root;
    bool far = a > 1;
    nf_real r = far ? 1 / a : a, q = r * r, within = 1 / (1 + q);
    return (parts){nfi_log1p(q) + (far ? 2 * nfi_log(a) : 0), r * within, far ? within : q * within};
}

void nfi_student_t_score(size_t dim, size_t ld, const nf_real *prep, const nf_real *x, double *log_p)
{
    ld = nfi_lanes(ld);
    for (size_t d = 0; d < dim; d++) {
        nf_real df = prep[d], c = prep[dim + d], half = NF_R(0.5) * (df + 1), inverse_root = 1 / nfi_sqrt(df);
        const nf_real *xd = x + d * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            log_p[s] += (double)(c - half * parts_of(xd[s], inverse_root).log1p);
    }
}

void nfi_student_t_draw(size_t dim, size_t ld, const nf_real *prep, const double *uniform, nf_real *x, nf_real *slope)
{
    ld = nfi_lanes(ld);
    for (size_t d = 0; d < dim; d++) {
        const double *u = uniform + 2 * d * ld, *v = u + ld, df = (double)prep[d];
        nf_real *xd = x + d * ld, *sd = slope + d * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            double rate, draw = nfi_t_draw(df, u[s], v[s], &rate);
            xd[s] = (nf_real)draw;
            sd[s] = (nf_real)rate;
        }
    }
}

/* One dimension; x and the other arrays are [ld]. Returns the gradient in df, without the part that comes through the
   constant c. slope and gx are read only if x is a sample. If wants_x, `out` receives the score's gradient in x. */
NFI_INLINE nf_real gradient_row(bool of_sample, bool wants_x, size_t ld, nf_real df, const nf_real *restrict x,
                                const nf_real *restrict slope, const nf_real *restrict gx,
                                const nf_real *restrict g_log_p, nf_real *restrict out)
{
    nf_real inverse_root = 1 / nfi_sqrt(df), steep = (df + 1) * inverse_root, half = NF_R(0.5) * (df + 1) / df;
    nf_real sum[NFI_SUMS] = {0};
    for (size_t s = 0; s < ld; s += NFI_SUMS) {
        NFI_SIMD
        for (size_t k = 0; k < NFI_SUMS; k++) {
            const size_t i = s + k;
            parts p = parts_of(x[i], inverse_root);
            nf_real towards = -steep * (x[i] < 0 ? -p.bend : p.bend) * g_log_p[i];
            sum[k] += g_log_p[i] * (half * p.share - NF_R(0.5) * p.log1p);
            if (of_sample)
                sum[k] += (gx[i] + towards) * slope[i];
            if (wants_x)
                out[i] = towards;
        }
    }
    return nfi_row_sum(NFI_SUMS, sum);
}

void nfi_student_t_gradient(size_t dim, size_t ld, const nf_real *prep, const nf_real *x, const nf_real *g_log_p,
                            nf_real *gx, nf_real *g_prep)
{
    ld = nfi_lanes(ld);
    for (size_t d = 0; d < dim; d++) {
        const nf_real *xd = x + d * ld;
        nf_real g_df = gx ? gradient_row(false, true, ld, prep[d], xd, NULL, NULL, g_log_p, gx + d * ld)
                          : gradient_row(false, false, ld, prep[d], xd, NULL, NULL, g_log_p, NULL);
        if (g_prep) {
            g_prep[d] += g_df;
            g_prep[dim + d] += nfi_row_sum(ld, g_log_p);
        }
    }
}

void nfi_student_t_sample_gradient(size_t dim, size_t ld, const nf_real *prep, const nf_real *x, const nf_real *slope,
                                   const nf_real *gx, const nf_real *g_log_p, nf_real *g_prep)
{
    ld = nfi_lanes(ld);
    for (size_t d = 0; d < dim; d++) {
        const size_t at = d * ld;
        g_prep[d] += gradient_row(true, false, ld, prep[d], x + at, slope + at, gx + at, g_log_p, NULL);
        g_prep[dim + d] += nfi_row_sum(ld, g_log_p);
    }
}
