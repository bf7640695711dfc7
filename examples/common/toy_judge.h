/*
 * How good a fitted density of the plane is.
 */
#ifndef EXAMPLES_TOY_JUDGE_H
#define EXAMPLES_TOY_JUDGE_H
#include <nflow/model.h>

/* The integral of the model's density over [-512, 512] x [-512, 512] by the midpoint rule. Squares are small near the
   data and larger further away, where NICE puts some thousandths of two spirals. They are halved until three integrals
   in a row agree to 3e-4, at most from a side of 0.2 to one of 0.01: couplings and autoregressive flows that are
   fitted to rings leave ridges between the rings that are narrower than that. Squares that are halved only where the
   density is steep would be cheaper, but wrong: they find too much of the ridges that they hit, then correct that, and
   never find those that they miss. Rows without a result count as 0.
 */
double integral(const nf_model *m, nf_workspace *ws);

#endif
