/*
 * The best normal approximation with a diagonal covariance, N(m, diag(e^2s)), by fixed draws: the ELBO
 *
 *     F(m, s) = mean of log p(m + e^s z_i) + sum of s_j,   i = 1 .. DRAWS,
 *
 * whose draws z_i stay the same, is a smooth function, and L-BFGS climbs it like any target (Giordano, Ingram &
 * Broderick 2024, deterministic ADVI). The draws come in pairs z and -z, and each coordinate's have a mean square of 1;
 * so for a normal target F is the ELBO itself, whatever the draws.
 *
 * What curvature along a path to a mode cannot give: where log p grows without bound, as that of a scale and of many
 * effects that it scales, the paths go by what has the mass. F does not grow there, because of the entropy.
 */
#include "vi/gaussian.h"
#include "base/memory.h"
#include <math.h>
#include <nflow/noise.h>
#include <string.h>

enum {
    PAIRS = 15,
    DRAWS = 2 * PAIRS,
    ITERATIONS = 150,
    SITE = 0x57a8 /* of the draws */
};
static const double NARROW = 0.1; /* deviations before the first step */

typedef struct fixed_draws {
    const nf_target *behind;
    size_t d;
    double *z;     /* [PAIRS x d]; the other half is -z */
    double *x, *g; /* [DRAWS x d] */
    double *log_p; /* [DRAWS] */
    unsigned char *rejected;
} fixed_draws;

static nf_status begin(fixed_draws *f, const nf_target *t, uint64_t seed, uint64_t path)
{
    const size_t d = t->d, ld = (PAIRS + 15) / 16 * 16;
    *f = (fixed_draws){.behind = t, .d = d};
    nf_real *noise = nfi_calloc(ld, d * sizeof *noise);
    f->z = nfi_calloc(5 * PAIRS, (d + 1) * sizeof *f->z);
    if (!noise || !f->z) {
        nfi_free(noise);
        nfi_free(f->z);
        return NF_ENOMEM;
    }
    f->x = f->z + PAIRS * d;
    f->g = f->x + DRAWS * d;
    f->log_p = f->g + DRAWS * d;
    f->rejected = (unsigned char *)(f->log_p + DRAWS);
    nf_noise_normal(&(nf_noise){.seed = seed, .step = path, .site = SITE}, d, PAIRS, ld, noise);
    for (size_t j = 0; j < d; j++) {
        double square = 0;
        for (size_t i = 0; i < PAIRS; i++)
            square += (double)noise[j * ld + i] * (double)noise[j * ld + i];
        const double unit = sqrt(PAIRS / square);
        for (size_t i = 0; i < PAIRS; i++)
            f->z[i * d + j] = unit * (double)noise[j * ld + i];
    }
    nfi_free(noise);
    return NF_OK;
}

/* F at (m, s) and its gradient. */
static nf_status elbo(fixed_draws *f, const double *m, double *value, double *grad, unsigned char *rejected)
{
    const size_t d = f->d;
    const double *s = m + d;
    for (size_t i = 0; i < DRAWS; i++)
        for (size_t j = 0; j < d; j++)
            f->x[i * d + j] = m[j] + (i < PAIRS ? 1 : -1) * exp(s[j]) * f->z[i % PAIRS * d + j];
    const nf_status st = nfi_target_draws(f->behind, 0, DRAWS, f->x, f->log_p, f->g, f->rejected);
    *value = 0;
    for (size_t j = 0; j < d; j++) {
        double sum = 0, stretch = 0;
        for (size_t i = 0; i < DRAWS; i++) {
            sum += f->g[i * d + j];
            stretch += (i < PAIRS ? 1 : -1) * f->g[i * d + j] * f->z[i % PAIRS * d + j];
        }
        *value += s[j];
        grad[j] = sum / DRAWS;
        grad[d + j] = exp(s[j]) * stretch / DRAWS + 1;
    }
    for (size_t i = 0; i < DRAWS; i++) {
        *value += f->log_p[i] / DRAWS;
        *rejected |= f->rejected[i];
    }
    return st;
}

/* An nf_target_fn over (m, s). */
static int elbos(void *user, size_t n, size_t d2, const double *m, double *value, double *grad, unsigned char *rejected)
{
    nf_status st = NF_OK;
    for (size_t i = 0; i < n && !st; i++)
        st = elbo(user, m + i * d2, value + i, grad + i * d2, rejected + i);
    return (int)st;
}

nf_status nfi_gaussian_mean_field(nfi_gaussian *a, const nf_target *t, const double *x0, uint64_t seed, uint64_t number,
                                  bool *usable)
{
    const size_t d = t->d;
    fixed_draws f;
    nfi_path path = {0};
    nf_status st = begin(&f, t, seed, number);
    if (st)
        return st;
    nf_target *of_fit = nf_target_callback(2 * d, elbos, &f, NF_SERIAL);
    double *m = of_fit ? nfi_calloc(2 * d, sizeof *m) : NULL;
    st = m ? nfi_path_begin(&path, 2 * d, ITERATIONS) : of_fit ? NF_ENOMEM : nf_error_status();
    if (!st) {
        memcpy(m, x0, d * sizeof *m);
        for (size_t j = 0; j < d; j++)
            m[d + j] = log(NARROW);
        st = nfi_path_climb(&path, of_fit, m);
    }
    for (size_t j = 0; j < d && !st && path.n; j++) {
        const double *end = path.x + (path.n - 1) * 2 * d;
        a->mean[j] = end[j];
        a->l[a->diagonal ? j : j * d + j] = exp(end[d + j]);
    }
    *usable = path.n > 0;
    a->elbo = -INFINITY;
    a->point = path.n ? path.n - 1 : 0;
    nfi_free(m);
    nf_target_free(of_fit);
    nfi_path_end(&path);
    nfi_free(f.z);
    return st;
}
