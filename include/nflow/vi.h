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

/** How nf_elbo() estimates the gradient of its loss. */
typedef enum nf_gradient {
    /**
     * By reparameterisation, with the target's gradient: of low variance, and unbiased if the target accepts every
     * draw. It does not see draws cross the edge of the accepted region.
     */
    NF_GRADIENT_PATH,
    /**
     * By the score d log q(x) / d theta at fixed draws, centred in each tile (Richter et al. 2020, VarGrad). Unbiased
     * also if the target rejects draws, and it does not ask for the target's gradient (the callback gets grad NULL).
     * Its variance grows with the dimension; take hundreds of draws. The distribution must be one that can be scored.
     */
    NF_GRADIENT_SCORE,
    /**
     * Sticking the landing (Roeder, Wu & Duvenaud 2017): NF_GRADIENT_PATH without the term d log q(x) / d theta at
     * fixed x, whose mean is 0. What is left is the gradient along the path of the draw, d/dx [kl_t log q(x) - beta_t
     * log p(x)] pulled back through the sampler. Unbiased where NF_GRADIENT_PATH is. At q = p it is exactly 0, so its
     * variance falls as the fit comes near the target: it reaches the optimum at a fixed rate, where NF_GRADIENT_PATH
     * goes on jittering. Far from the target its variance may be the larger one.
     *
     * d log q(x) / dx is computed along the sampling pass, layer by layer and without the flow's inverse (Vaitl,
     * Nicoli, Nakajima & Kessel 2022), for all layers of the library but continuous flows and flows inside nf_blocks,
     * nf_pixelwise, nf_on_context or an amortised flow. Of those, and of a user's layer without NF_IMPLICIT_INVERSE,
     * the inverse is run at each layer's own output. A step takes the model's way back once more, without gradients in
     * parameters. The distribution must be one that can be scored.
     */
    NF_GRADIENT_STL
} nf_gradient;

/** Options of nf_elbo. */
typedef struct nf_elbo_options {
    size_t draws;         /**< samples a step, 0: 100 */
    nf_schedule joint;    /**< beta_t, the weight of log p(x): Rezende & Mohamed's annealing */
    nf_schedule kl;       /**< kl_t, the weight of log q: warm-up of the entropy term */
    nf_gradient gradient; /**< how the gradient is estimated */
} nf_elbo_options;

/**
 * Variational inference: loss = kl_t log q(x) - beta_t log p(x), x ~ q. With both weights 1, the mean loss is -ELBO.
 * Terms: "log_q", "log_p" (both without kl_t and beta_t), "log_accepted". In training each draw's loss has the
 * penalties of layers, too (nf_pass.penalty, nf_step_report.penalty). `model` must be of a distribution of the target's
 * dimension. Model and target are borrowed.
 *
 * Rejected draws. If the target rejects some draws, or gives log p = -infinity or NaN for them, the loss is that of q
 * restricted to the accepted region A: q_A = q / Z on A, where Z is the probability of A under q. With the means over
 * accepted draws, loss = kl_t (log_q - log_accepted) - beta_t log_p, and log_accepted estimates log Z by the share of
 * accepted draws (0 if all are). So -loss remains a bound on the evidence: it approaches the bound from above only by
 * the error of a mean of finitely many draws. Samples of the model itself are still those of q, not of q_A.
 *
 * A target with a hard edge makes the gradient by reparameterisation wrong: it lacks what the loss gains or loses when
 * draws cross the edge, and can drive the scales to grow without end. Better give the target unconstrained
 * coordinates (nflow/constraints.h); where this is not possible, take NF_GRADIENT_SCORE. A few rejected draws, from
 * numerical trouble of the target say, do little harm. nf_fit_report.accepted has the share of accepted draws at the
 * end, and NF_WARN_SUPPORT is set if it is below 99 %.
 *
 * Mixtures are sampled component by component: draw i comes from component (i + a random offset) mod K and has the
 * weight K w_k, which multiplies its loss and terms. Means and gradients, also those in the weights w, are unbiased for
 * any number of draws. Their variance is least if the number of draws is a multiple of K. (Means are sums divided by
 * the number of draws; if draws are rejected, sums over accepted draws divided by the sum of their weights.)
 * @return NULL on NF_EARG (NULL, a model of no distribution), NF_EDIM (dimensions that differ, a model that reads a
 * context), NF_ENOMEM.
 */
NF_API nf_objective *nf_elbo(nf_model *model, const nf_target *target, const nf_elbo_options *options);

NF_END_DECLS
#endif
