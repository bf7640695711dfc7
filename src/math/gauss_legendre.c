/* Nodes and weights of Gauss-Legendre quadrature on [0, 1] (Abramowitz & Stegun 25.4.29 and 22.16.6): the roots z of
   the Legendre polynomial P_n by Newton's iteration from cos(pi (i + 3/4) / (n + 1/2)), which is so near that each
   start finds its own root. With

       j P_j(z) = (2 j - 1) z P_(j-1)(z) - (j - 1) P_(j-2)(z),   P_n'(z) = n (P_(n-1)(z) - z P_n(z)) / (1 - z^2),

   the weight on [-1, 1] is 2 / ((1 - z^2) P_n'(z)^2). */
#include "math/gauss_legendre.h"
#include <math.h>

/* P_n(z); *derivative = P_n'(z). */
static double legendre(size_t n, double z, double *derivative)
{
    double before = 0, p = 1;
    for (size_t j = 1; j <= n; j++) {
        const double next = ((2 * (double)j - 1) * z * p - ((double)j - 1) * before) / (double)j;
        before = p;
        p = next;
    }
    *derivative = (double)n * (before - z * p) / (1 - z * z);
    return p;
}

void nfi_gauss_legendre(size_t n, nf_real *node, nf_real *weight)
{
    for (size_t i = 0; i < (n + 1) / 2; i++) {
        double z = 2 * i + 1 == n ? 0 : cos(M_PI * ((double)i + 0.75) / ((double)n + 0.5)), slope, step = 1;
        for (int k = 0; k < 50 && fabs(step) > 1e-15; k++) {
            step = legendre(n, z, &slope) / slope;
            z -= step;
        }
        legendre(n, z, &slope);
        const double w = 1 / ((1 - z * z) * slope * slope); /* half of that on [-1, 1] */
        node[i] = (nf_real)((1 - z) / 2);
        node[n - 1 - i] = (nf_real)((1 + z) / 2);
        weight[i] = weight[n - 1 - i] = (nf_real)w;
    }
}
