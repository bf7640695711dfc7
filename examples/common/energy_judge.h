/*
 * How good a fit is, by draws from it. With w = log p~(x) - log q(x), x ~ q:
 *
 *     ELBO = mean w,   KL(q || p) = log Z - ELBO,   log Z ~ log mean e^w,   ESS = (sum e^w)^2 / sum e^2w
 */
#ifndef EXAMPLES_ENERGY_JUDGE_H
#define EXAMPLES_ENERGY_JUDGE_H
#include <nflow/nflow.h>

typedef struct judgement {
    double elbo, kl, kl_se; /* kl_se: its standard error */
    double log_z, ess;
} judgement;

/* log_z: the true one, for the KL; NAN if there is none. Exits 1 with one line on failure. */
judgement judge(const nf_model *m, const nf_target *target, double log_z, size_t draws, size_t threads, uint64_t seed);

#endif
