/*
 * Whether Markov chains have mixed, and how many independent draws theirs are worth (Vehtari, Gelman, Simpson,
 * Carpenter, Buerkner: Rank-normalization, folding, and localization, Bayesian Analysis 16, 2021).
 *
 * Each chain is split into halves. Draws are replaced by normal scores of their ranks among all of them,
 * z = Phi^-1((rank - 3/8) / (S + 1/4)), so that heavy tails do not matter.
 */
#ifndef EXAMPLES_CHAINS_H
#define EXAMPLES_CHAINS_H
#include <nflow/base.h>

typedef struct chains_report {
    double r_hat; /* the larger one of x and of |x - median|: 1 where all chains agree, and at most 1.01 in practice */
    double bulk;  /* effective sample size of the normal scores */
    double tail;  /* the smaller effective sample size of "x is at most its 5 % quantile" and of 95 % */
} chains_report;

/* Judges one number along the chains, x [chains x draws] (draws at least 8, or all is NaN). NaN where x has numbers
   that are not finite, or is constant. NF_ENOMEM. */
nf_status chains_judge(size_t chains, size_t draws, const double *x, chains_report *report);

/* The effective sample size of x itself for its mean; of zeros and ones: for a probability. */
double chains_effective_size(size_t chains, size_t draws, const double *x);

#endif
