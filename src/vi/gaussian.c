/*
 * Normal approximations N(m, H) along a path x_0, x_1, ... to a mode, with gradients g_k of log p:
 *
 *     m = x_k + H_k g_k,   H_k the inverse Hessian of -log p that BFGS makes of the steps so far,
 *
 * of which the one with the largest ELBO is taken (Zhang, Carpenter, Gelman & Vehtari 2022, Pathfinder; here H is a
 * full matrix and not one of low rank). BFGS, with s = x_{k+1} - x_k, y = g_k - g_{k+1} and r = 1 / y.s:
 *
 *     H += (r^2 y.Hy + r) s s^T - r (s (Hy)^T + (Hy) s^T),   H = y.s / y.y I before the first step.
 *
 * Diagonal approximations update H = diag(h) instead by Gilbert & Lemarechal (1989), as Pathfinder does:
 *
 *     1 / h_i = (a / h_i + y_i^2 - a s_i^2 / (c h_i^2)) / y.s,   a = sum of h_i y_i^2, c = sum of s_i^2 / h_i.
 *
 * And Laplace's approximation at the end of the path, with second derivatives from differences of gradients. Its mean
 * is Newton's next point, so that the path need not end exactly at the mode.
 */
#include "vi/gaussian.h"
#include "base/memory.h"
#include "dist/types.h"
#include "math/cholesky.h"
#include <math.h>
#include <nflow/noise.h>
#include <string.h>

enum {
    FACTORS = 200000000, /* floating point operations that may go into Cholesky factors along a path */
    SITE = 0x57a7        /* of the shared draws */
};

nf_status nfi_gaussian_begin(nfi_gaussian *a, size_t d, bool diagonal)
{
    size_t count;
    *a = (nfi_gaussian){.d = d, .diagonal = diagonal, .elbo = -INFINITY, .se = INFINITY};
    if (!nfi_mul(d, diagonal ? 2 : d + 1, &count))
        return nf_error(NF_ENOMEM, "out of memory: a covariance in %zu dimensions", d);
    a->mean = nfi_calloc(count, sizeof *a->mean);
    if (!a->mean)
        return NF_ENOMEM;
    a->l = a->mean + d;
    return NF_OK;
}

void nfi_gaussian_end(nfi_gaussian *a)
{
    nfi_free(a->mean);
    *a = (nfi_gaussian){0};
}

nf_status nfi_comparison_begin(nfi_comparison *c, const nf_target *t, size_t n, uint64_t seed)
{
    const size_t d = nf_target_dim(t), ld = (n + 15) / 16 * 16;
    *c = (nfi_comparison){.target = t, .d = d, .n = n};
    c->memory = nfi_calloc(n, (2 * d + 2) * sizeof *c->memory);
    nf_real *noise = nfi_calloc(ld, d * sizeof *noise);
    if (!c->memory || !noise) {
        nfi_free(noise);
        nfi_comparison_end(c);
        return NF_ENOMEM;
    }
    c->z = c->memory;
    c->x = c->z + n * d;
    c->log_p = c->x + n * d;
    c->rejected = (unsigned char *)(c->log_p + n);
    nf_noise_normal(&(nf_noise){.seed = seed, .site = SITE}, d, n, ld, noise);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < d; j++)
            c->z[i * d + j] = (double)noise[j * ld + i];
    nfi_free(noise);
    return NF_OK;
}

void nfi_comparison_end(nfi_comparison *c)
{
    nfi_free(c->memory);
    *c = (nfi_comparison){0};
}

nf_status nfi_gaussian_elbo(nfi_gaussian *a, const nfi_comparison *c, size_t n)
{
    const size_t d = a->d;
    a->elbo = -INFINITY;
    a->se = INFINITY;
    for (size_t i = 0; i < n; i++) {
        const double *z = c->z + i * d;
        double *x = c->x + i * d;
        for (size_t j = 0; j < d && a->diagonal; j++)
            x[j] = a->mean[j] + a->l[j] * z[j];
        if (!a->diagonal)
            nfi_lower_times(d, a->mean, a->l, z, x);
    }
    const nf_status st = nfi_target_draws(c->target, 0, n, c->x, c->log_p, NULL, c->rejected);
    double log_det = 0, sum = 0, squares = 0;
    for (size_t j = 0; j < d; j++)
        log_det += log(a->l[a->diagonal ? j : j * d + j]);
    double taken = 0;
    for (size_t i = 0; i < n && !st; i++) {
        if (c->rejected[i])
            continue;
        double log_q = -log_det - NFI_HALF_LOG_2PI * (double)d;
        for (size_t j = 0; j < d; j++)
            log_q -= c->z[i * d + j] * c->z[i * d + j] / 2;
        const double one = c->log_p[i] - log_q;
        sum += one;
        squares += one * one;
        taken++;
    }
    if (st || taken == 0 || !isfinite(sum))
        return st;
    const double share = taken / (double)n, mean = sum / taken;
    a->elbo = mean + log(share);
    a->se = sqrt(fmax(squares / taken - mean * mean, 0) / taken + (1 - share) / taken);
    return NF_OK;
}

/* ---- along a path ---- */

/* An inverse Hessian that learns from the steps of a path. */
typedef struct hessian {
    size_t d;
    bool diagonal, begun;
    double *h;          /* [d x d], of which the lower triangle counts; [d] if diagonal */
    double *s, *y, *hy; /* [d] */
} hessian;

/* out = H v */
static void times(const hessian *b, const double *v, double *out)
{
    const size_t d = b->d;
    for (size_t i = 0; i < d; i++) {
        double sum = b->diagonal ? b->h[i] * v[i] : 0;
        for (size_t j = 0; j < d && !b->diagonal; j++)
            sum += (j <= i ? b->h[i * d + j] : b->h[j * d + i]) * v[j];
        out[i] = sum;
    }
}

static void update_full(const hessian *b, double ys)
{
    const size_t d = b->d;
    double yhy = 0;
    times(b, b->y, b->hy);
    for (size_t j = 0; j < d; j++)
        yhy += b->y[j] * b->hy[j];
    const double r = 1 / ys, both = r * r * yhy + r;
    for (size_t i = 0; i < d; i++)
        for (size_t j = 0; j <= i; j++)
            b->h[i * d + j] += both * b->s[i] * b->s[j] - r * (b->s[i] * b->hy[j] + b->hy[i] * b->s[j]);
}

static void update_diagonal(const hessian *b, double ys)
{
    double a = 0, c = 0;
    for (size_t j = 0; j < b->d; j++) {
        a += b->h[j] * b->y[j] * b->y[j];
        c += b->s[j] * b->s[j] / b->h[j];
    }
    for (size_t j = 0; j < b->d; j++) {
        const double s = b->s[j] / b->h[j], inverse = (a / b->h[j] + b->y[j] * b->y[j] - a * s * s / c) / ys;
        b->h[j] = inverse > 0 ? 1 / inverse : b->h[j];
    }
}

/* Learns from the step to point k. false: it says nothing about the curvature. */
static bool learn(hessian *b, const nfi_path *p, size_t k)
{
    const size_t d = b->d;
    const double *x = p->x + k * d, *g = p->g + k * d;
    double ys = 0, yy = 0, ss = 0;
    for (size_t j = 0; j < d; j++) {
        b->s[j] = x[j] - (x - d)[j];
        b->y[j] = (g - d)[j] - g[j];
        ys += b->y[j] * b->s[j];
        yy += b->y[j] * b->y[j];
        ss += b->s[j] * b->s[j];
    }
    if (!(ys > 1e-10 * sqrt(yy * ss)) || !isfinite(yy))
        return false;
    for (size_t i = 0; i < d && !b->begun; i++)
        b->h[b->diagonal ? i : i * d + i] = ys / yy;
    b->begun = true;
    (b->diagonal ? update_diagonal : update_full)(b, ys);
    return true;
}

/* The approximation at point k; false if H is not positive definite. */
static bool at_point(nfi_gaussian *a, const hessian *b, const nfi_path *p, size_t k)
{
    const size_t d = b->d;
    times(b, p->g + k * d, a->mean);
    for (size_t i = 0; i < d; i++)
        a->mean[i] += p->x[k * d + i];
    a->point = k;
    if (!b->diagonal) {
        memcpy(a->l, b->h, d * d * sizeof *b->h);
        return nfi_cholesky(d, a->l);
    }
    for (size_t i = 0; i < d; i++)
        a->l[i] = sqrt(b->h[i]);
    return true;
}

/* Every how many points of a path an approximation is tried. */
static size_t stride_of(const nfi_path *p, bool diagonal)
{
    const double d = (double)p->d, tries = diagonal ? 100 : fmax(FACTORS / (d * d * d), 4);
    return (size_t)fmax(ceil((double)p->n / tries), 1);
}

nf_status nfi_gaussian_along(nfi_gaussian *best, const nfi_path *p, const nfi_comparison *c, size_t draws)
{
    const size_t d = p->d, stride = stride_of(p, best->diagonal);
    nfi_gaussian a;
    best->elbo = -INFINITY;
    hessian b = {.d = d, .diagonal = best->diagonal};
    b.h = nfi_calloc(d, ((b.diagonal ? 1 : d) + 3) * sizeof *b.h);
    nf_status st = nfi_gaussian_begin(&a, d, best->diagonal);
    if (!b.h || st) {
        nfi_gaussian_end(&a);
        nfi_free(b.h);
        return NF_ENOMEM;
    }
    b.s = b.h + (b.diagonal ? d : d * d);
    b.y = b.s + d;
    b.hy = b.y + d;
    for (size_t k = 1; k < p->n && !st; k++) {
        if (!learn(&b, p, k) || (k % stride != 0 && k + 1 != p->n) || !at_point(&a, &b, p, k))
            continue;
        st = nfi_gaussian_elbo(&a, c, draws);
        if (!st && a.elbo > best->elbo) {
            const nfi_gaussian worse = *best;
            *best = a;
            a = worse;
        }
    }
    nfi_gaussian_end(&a);
    nfi_free(b.h);
    return st;
}

/* ---- Laplace ---- */

/* h [d x d] = -d^2 log p / dx^2 at x, whose lower triangle counts, from gradients at x +- step (1 + |x_j|) e_j. False
   if the target rejects one of these points or has no finite gradient there. */
static bool second_derivatives(const nf_target *t, size_t d, const double *x, double *memory, double *h, nf_status *st)
{
    double *points = memory, *g = points + 2 * d, *log_p = g + 2 * d;
    unsigned char rejected[2];
    bool usable = true;
    for (size_t j = 0; j < d && usable; j++) {
        const double step = 0x1p-17 * (1 + fabs(x[j]));
        for (size_t k = 0; k < 2; k++) {
            memcpy(points + k * d, x, d * sizeof *x);
            points[k * d + j] += k ? step : -step;
        }
        *st = nfi_target_draws(t, 0, 2, points, log_p, g, rejected);
        usable = !*st && !rejected[0] && !rejected[1];
        for (size_t i = 0; i < d && usable; i++)
            h[i * d + j] = (g[i] - g[d + i]) / (points[d + j] - points[j]);
    }
    for (size_t i = 0; i < d; i++)
        for (size_t j = 0; j < i; j++)
            h[i * d + j] = (h[i * d + j] + h[j * d + i]) / 2;
    return usable;
}

nf_status nfi_gaussian_laplace(nfi_gaussian *a, const nfi_path *p, const nf_target *t, bool *usable)
{
    const size_t d = p->d;
    const double *x = p->x + (p->n - 1) * d, *g = p->g + (p->n - 1) * d;
    nf_status st = NF_OK;
    double *memory = nfi_calloc(4 * d + 2, sizeof *memory);
    if (!memory)
        return NF_ENOMEM;
    *usable = second_derivatives(t, d, x, memory, a->l, &st) && nfi_cholesky_of_inverse(d, a->l);
    nfi_free(memory);
    if (st || !*usable)
        return st;
    for (size_t i = 0; i < d; i++) { /* mean = x + L L^T g */
        a->mean[i] = 0;
        for (size_t k = i; k < d; k++)
            a->mean[i] += a->l[k * d + i] * g[k];
    }
    for (size_t i = d; i-- > 0;) {
        double sum = x[i];
        for (size_t k = 0; k <= i; k++)
            sum += a->l[i * d + k] * a->mean[k];
        a->mean[i] = sum;
    }
    a->laplace = true;
    a->point = p->n - 1;
    return NF_OK;
}
