/* The verdict on a posterior: what its draws say (judge.c), modes without draws (modes.c), the words (verdict.c). */
#ifndef NFI_JUDGE_H
#define NFI_JUDGE_H
#include "vi/start.h"
#include <nflow/inference.h>

/* Sets verdict and why from the other fields. `t` names outputs. */
void nfi_judge_verdict(nf_quality *q, const nf_target *t);

/* The quality of a fit that ended without a posterior: no draws, no trust, and `message` as the reason. */
void nfi_judge_no_fit(nf_quality *q, const char *message);

/* Sets quality->missed, and the verdict anew, if an approximation of the start has mass where q has none. `seed` names
   the draws. */
nf_status nfi_look_elsewhere(const nfi_start *s, const nf_target *t, uint64_t seed, const nf_model *q,
                             nf_quality *quality);

/* The median of v [n], which is sorted; 0 if n is 0. NaN counts as larger than any number. */
double nfi_median(size_t n, double *v);

#endif
