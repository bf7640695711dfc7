/**
 * @file convergence.h
 * A rule that says when something that is being maximised, and is known with noise alone, no longer improves.
 */
#ifndef NFLOW_CONVERGENCE_H
#define NFLOW_CONVERGENCE_H
#include <nflow/base.h>
NF_BEGIN_DECLS

enum { NF_CONVERGENCE_BLOCKS = 64 /**< blocks of steps that a rule remembers at most */ };

/**
 * The values that were seen, in blocks of equally many steps, and what follows from them. It needs no memory of its
 * own, is copied by assignment, and begins as zeros but for the first two fields.
 *
 * The values settle as soon as the mean of the last quarter of all steps is above that of the quarter before by less
 * than `tolerance`, and this gain has a standard error below `tolerance`, too. So it is a rule without a scale of time:
 * "a third of the steps on top of those before gained less than this". It is looked at when a block is full.
 */
typedef struct nf_convergence {
    double tolerance; /**< a gain that is not worth going on, in the values' unit (nats, for an ELBO); 0: 0.005;
                         NF_ZERO: the values never settle */
    uint64_t least;   /**< the values do not settle before so many steps; 0: 100 */
    bool settled;     /**< whether they have settled. Later values do not change this */
    double gain;      /**< the mean of the last quarter minus that of the quarter before; NaN before 16 steps */
    double error;     /**< its standard error, from the spread of blocks; likewise */
    uint64_t steps;   /**< values added */
    /** @cond */
    uint64_t per_block, in_block;
    size_t n_blocks; /* full ones */
    double sum, mean[NF_CONVERGENCE_BLOCKS];
    /** @endcond */
} nf_convergence;

/**
 * Adds the value of a step.
 * @param c     the rule; NULL is allowed, and never settles
 * @param value to be maximised: an ELBO, or a log-likelihood (minus a loss). Something that is not finite starts the
 *              blocks anew, since a mean over it says nothing; the number of steps remains
 * @return whether the values have settled
 */
NF_API bool nf_convergence_add(nf_convergence *c, double value);

NF_END_DECLS
#endif
