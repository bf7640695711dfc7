/* Gauss-Legendre quadrature. */
#ifndef NFI_GAUSS_LEGENDRE_H
#define NFI_GAUSS_LEGENDRE_H
#include <nflow/base.h>

/* The n >= 1 nodes in (0, 1), ascending, and their weights, whose sum is 1: sum w_i f(t_i) is the integral of f over
   [0, 1], exactly for polynomials of a degree up to 2 n - 1. */
void nfi_gauss_legendre(size_t n, nf_real *node, nf_real *weight);

#endif
