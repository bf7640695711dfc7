/*
 * First-order rules, elementwise over a block of parameters; learning rate a, gradient g, step t = 1, 2, ...
 *
 *     SGD       theta -= a g
 *     momentum  v = mu v + g;                 theta -= a v
 *     RMSProp   s = rho s + (1 - rho) g^2;    d = g / (sqrt(s) + eps);  v = mu v + d;  theta -= a v
 *               (Tieleman & Hinton 2012, lecture 6.5; if mu = 0, theta -= a d and v is not kept)
 *     Adam      m = b1 m + (1 - b1) g;  s = b2 s + (1 - b2) g^2;  theta -= a (m / c1) / (sqrt(s / c2) + eps),
 *               c = 1 - b^t  (Kingma & Ba 2015, algorithm 1), computed as a' m / (sqrt(s) + eps'),
 *               a' = a sqrt(c2) / c1, eps' = eps sqrt(c2)
 *     Adamax    m as above;  u = max(b2 u, |g|);  theta -= (a / c1) m / (u + eps)  (algorithm 2, with eps for u = 0)
 *
 * and the moving average of parameters, average = d average + (1 - d) theta.
 */
#include "fit/optimizers.h"
#include "math/vec.h"

void nfi_sgd(size_t n, nf_real a, const nf_real *restrict g, nf_real *restrict theta)
{
    NFI_SIMD
    for (size_t i = 0; i < n; i++)
        theta[i] -= a * g[i];
}

void nfi_momentum(size_t n, nf_real a, nf_real mu, const nf_real *restrict g, nf_real *restrict v,
                  nf_real *restrict theta)
{
    NFI_SIMD
    for (size_t i = 0; i < n; i++) {
        v[i] = mu * v[i] + g[i];
        theta[i] -= a * v[i];
    }
}

void nfi_rmsprop(size_t n, nf_real a, nf_real mu, nf_real rho, nf_real eps, const nf_real *restrict g,
                 nf_real *restrict sq, nf_real *restrict v, nf_real *restrict theta)
{
    const nf_real rest = 1 - rho;
    if (mu > 0) {
        NFI_SIMD
        for (size_t i = 0; i < n; i++) {
            sq[i] = rho * sq[i] + rest * g[i] * g[i];
            v[i] = mu * v[i] + g[i] / (nfi_sqrt(sq[i]) + eps);
            theta[i] -= a * v[i];
        }
    } else {
        NFI_SIMD
        for (size_t i = 0; i < n; i++) {
            sq[i] = rho * sq[i] + rest * g[i] * g[i];
            theta[i] -= a * g[i] / (nfi_sqrt(sq[i]) + eps);
        }
    }
}

void nfi_adam(size_t n, nf_real a, nf_real b1, nf_real b2, nf_real eps, const nf_real *restrict g, nf_real *restrict m,
              nf_real *restrict sq, nf_real *restrict theta)
{
    const nf_real r1 = 1 - b1, r2 = 1 - b2;
    NFI_SIMD
    for (size_t i = 0; i < n; i++) {
        m[i] = b1 * m[i] + r1 * g[i];
        sq[i] = b2 * sq[i] + r2 * g[i] * g[i];
        theta[i] -= a * m[i] / (nfi_sqrt(sq[i]) + eps);
    }
}

void nfi_adamax(size_t n, nf_real a, nf_real b1, nf_real b2, nf_real eps, const nf_real *restrict g,
                nf_real *restrict m, nf_real *restrict u, nf_real *restrict theta)
{
    const nf_real r1 = 1 - b1;
    NFI_SIMD
    for (size_t i = 0; i < n; i++) {
        nf_real size = nfi_abs(g[i]), old = b2 * u[i];
        m[i] = b1 * m[i] + r1 * g[i];
        u[i] = old > size ? old : size;
        theta[i] -= a * m[i] / (u[i] + eps);
    }
}

void nfi_average(size_t n, nf_real d, const nf_real *restrict theta, nf_real *restrict average)
{
    const nf_real rest = 1 - d;
    NFI_SIMD
    for (size_t i = 0; i < n; i++)
        average[i] = d * average[i] + rest * theta[i];
}
