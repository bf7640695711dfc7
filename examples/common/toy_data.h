/*
 * Six densities in the plane on which flows are shown, in the sizes of FFJORD's code (Grathwohl et al. 2019):
 *
 *     eight-gaussians  eight normals of deviation 0.5 / sqrt 2 on a circle of radius 4 / sqrt 2
 *     moons            two half circles of radius 2, with normal noise of deviation 0.2
 *     two-spirals      the points +-(n / 3) (-cos n, sin n) with n = 3 pi sqrt(u), u uniform; to each a point of a
 * square of side 1/6 is added, and normal noise of deviation 0.1 rings            circles of radius 0.75, 1.5, 2.25 and
 * 3 with equal weights, with normal noise of deviation 0.08 checkerboard     uniform on eight squares of side 2
 *     pinwheel         2 R(-a) (r, t) with r ~ N(1, 0.3^2), t ~ N(0, 0.1^2), a = 2 pi k / 5 + exp(r) / 4, where R(a)
 *                      turns by the angle a, and k is one of 0 to 4
 *
 * All of them lie within [-5, 5] x [-5, 5] but for a share far below 1e-6.
 */
#ifndef EXAMPLES_TOY_DATA_H
#define EXAMPLES_TOY_DATA_H
#include <nflow/base.h>

enum { EIGHT_GAUSSIANS, MOONS, TWO_SPIRALS, RINGS, CHECKERBOARD, PINWHEEL, N_TOYS };
extern const char *const toy_names[N_TOYS];

/* Rows first .. first + n - 1 of the data set under this seed: x [n x 2]. A row is a function of its number. */
void toy_rows(size_t toy, uint64_t seed, uint64_t first, size_t n, nf_real *x);

/* The exact log density of each of n rows: x [n x 2], log_p [n]. Far from all data it is -infinity. */
void toy_log_density(size_t toy, size_t n, const nf_real *x, double *log_p);

/* The entropy in nats, by quadrature: no model's mean log-likelihood is better than minus that. */
double toy_entropy(size_t toy);

#endif
