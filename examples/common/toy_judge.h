/*
 * How good a fitted density of the plane is.
 */
#ifndef EXAMPLES_TOY_JUDGE_H
#define EXAMPLES_TOY_JUDGE_H
#include <nflow/model.h>

/* A mean over rows and its standard error. */
typedef struct estimate {
    double mean, se;
} estimate;

/* Of n numbers. */
estimate mean_of(size_t n, const double *x);

/* The integral of the model's density over [-24, 24] x [-24, 24] by the midpoint rule. Squares are small near the data
   and larger further away, and are halved until two integrals agree to 1e-4, from a side of 0.05 to one of 0.006. Fits
   of rings by couplings and autoregressive flows need the smallest ones: between the rings they leave ridges that are
   narrower than that. (Squares that are halved only where the density asks for it are no help: they then find too much
   of what they have hit, and nothing of what they have missed.) Rows without a result count as 0. */
double integral(const nf_model *m, nf_workspace *ws);

#endif
