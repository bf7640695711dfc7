/**
 * @file vi.h
 * Variational inference: the evidence lower bound of a target as an objective.
 */
#ifndef NFLOW_VI_H
#define NFLOW_VI_H
#include <nflow/objective.h>
#include <nflow/schedule.h>
#include <nflow/target.h>
NF_BEGIN_DECLS

/** Options of nf_elbo. */
typedef struct nf_elbo_options {
    size_t draws;      /**< samples a step, 0: 100 */
    nf_schedule joint; /**< beta_t, the weight of log p(x): Rezende & Mohamed's annealing */
    nf_schedule kl;    /**< kl_t, the weight of log q: warm-up of the entropy term */
} nf_elbo_options;

/**
 * Variational inference: loss = kl_t log q(x) - beta_t log p(x), x ~ q, with the reparameterised gradient. With both
 * weights 1, the mean loss is -ELBO. Rejected draws are left out of means and gradients. Terms: "log_q", "log_p" (both
 * without kl_t and beta_t). `model` must be of a distribution of the target's dimension. Model and target are borrowed.
 *
 * Mixtures are sampled component by component: draw i comes from component (i + a random offset) mod K and has the
 * weight K w_k, which multiplies its loss and terms. Means and gradients, also those in the weights w, are unbiased for
 * any number of draws. Their variance is least if the number of draws is a multiple of K. (Means are still sums divided
 * by the number of accepted draws.)
 * @return NULL on NF_EARG (NULL, a model of no distribution), NF_EDIM (dimensions that differ, a model that reads a
 * context), NF_ENOMEM.
 */
NF_API nf_objective *nf_elbo(nf_model *model, const nf_target *target, const nf_elbo_options *options);

NF_END_DECLS
#endif
