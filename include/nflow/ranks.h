/**
 * @file ranks.h
 * Data-parallel training: one step that several processes (ranks) compute together.
 */
#ifndef NFLOW_RANKS_H
#define NFLOW_RANKS_H
#include <nflow/objective.h>
NF_BEGIN_DECLS

/**
 * What the ranks of a data-parallel step add up, in place. All ranks have arrays of the same lengths, and all have the
 * same numbers afterwards. If the sums over ranks are added by a binary tree in the order of ranks, ((0 + 1) + (2 + 3))
 * + ..., as recursive doubling does it, they have the same bits as a step of one rank. In another order they are equal
 * up to rounding.
 */
typedef struct nf_reduction {
    nf_real *gradient; /**< [n_gradient] to be summed: n_params + n_prep numbers */
    size_t n_gradient; /**< length */
    double *sums;      /**< [n_sums] to be summed: losses, counts, statistics of batch normalisation, flags */
    size_t n_sums;     /**< length */
    double *maxima;    /**< [n_maxima], of each number the largest over all ranks; none is NaN */
    size_t n_maxima;   /**< length */
} nf_reduction;

/**
 * One of several processes (or threads) that make the steps of one fit together. Each rank has a model, an objective
 * and data of its own, which are equal in all ranks. Each computes its share of every step's samples. Then the sums go
 * through `all_reduce`, and every rank moves its own parameters in the same way. Tiles, shards and the noise's sample
 * numbers follow from the whole step. The results are therefore those of a single process, bit for bit (on equal
 * processors), for any number of ranks.
 */
typedef struct nf_ranks {
    size_t rank;    /**< this one, 0 .. n_ranks - 1 */
    size_t n_ranks; /**< a power of two, at most the shards of a step: see nf_objective_share() */
    /**
     * Adds up `r` over all ranks: by MPI_Allreduce, say. On every rank the library calls it once a step, from the
     * thread that called the library. A rank that cannot continue (because of an error, or a callback that stops) makes
     * one more call, with a flag among the sums, and all ranks end with it. If the result is not NF_OK, it ends this
     * rank's computation with that status.
     */
    nf_status (*all_reduce)(void *user, const nf_reduction *r);
    void *user; /**< passed to all_reduce */
} nf_ranks;

/**
 * A rank's share of a step: samples *first .. *first + *n - 1.
 * @return NF_EARG (NULL; a rank that is not below n_ranks; a number of ranks that is no power of two, or is larger than
 * the number of shards of the objective's step, which the message names).
 */
NF_API NF_CHECKED nf_status nf_objective_share(const nf_objective *o, size_t rank, size_t n_ranks, size_t *first,
                                               size_t *n);
/**
 * nf_objective_gradient() computed by several ranks together: each rank calls this function, and each gets the report
 * and the gradient of the whole step. `ranks` NULL: one process alone.
 * @return as nf_objective_gradient(); NF_EARG as nf_objective_share(); what all_reduce returns; if another rank failed,
 * that rank's status.
 */
NF_API NF_CHECKED nf_status nf_objective_rank_gradient(nf_objective *o, nf_workspace *ws, const nf_ranks *ranks,
                                                       uint64_t seed, uint64_t step, nf_step_report *report,
                                                       nf_real *g_theta);

NF_END_DECLS
#endif
