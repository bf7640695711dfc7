/* The verdict on a posterior, in two steps: what its draws say, and the words. */
#ifndef NFI_JUDGE_H
#define NFI_JUDGE_H
#include <nflow/inference.h>

/* Sets verdict and why from the other fields. `t` names outputs. */
void nfi_judge_verdict(nf_quality *q, const nf_target *t);

/* The median of v [n], which is sorted; 0 if n is 0. NaN counts as larger than any number. */
double nfi_median(size_t n, double *v);

#endif
