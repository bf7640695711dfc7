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
     * Nicoli, Nakajima & Kessel 2022): for linear and elementwise layers, planar, radial, Sylvester and residual flows,
     * and couplings and autoregressive flows of affine maps or splines, in chains, pushforwards and nf_invert(). Of any
     * other layer (a continuous flow, a recomputed chain, flows inside nf_blocks() and the like, a user's layer without
     * NF_IMPLICIT_INVERSE) the inverse is run at that layer's own output. So a step costs 20 to 40 % more with
     * couplings, autoregressive flows and splines, and up to twice as much with planar, radial and continuous flows; a
     * target that costs more than the flow hides it. With rejected draws, which then have no part at fixed x either, it
     * is 0 where q_A = p. The distribution must be one that can be scored.
     */
    NF_GRADIENT_STL
} nf_gradient;

/** Options of nf_elbo. */
typedef struct nf_elbo_options {
    size_t draws;         /**< samples a step, a multiple of `importance`. 0: 100, or the next such multiple */
    nf_schedule joint;    /**< beta_t, the weight of log p(x): Rezende & Mohamed's annealing */
    nf_schedule kl;       /**< kl_t, the weight of log q: warm-up of the entropy term */
    nf_gradient gradient; /**< how the gradient is estimated */
    size_t importance;    /**< K, draws of a group: importance-weighted bounds, see below. 0 or 1: no groups */
    double alpha;         /**< order of Renyi's bound of groups. 0: the importance-weighted bound; 1: the ELBO */
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
 *
 * Groups. With `importance` K > 1 the draws are taken in groups of K, and the loss is the mean over groups of minus
 * Renyi's bound of order alpha (Li & Turner 2016), -log(mean_k w_k^(1 - alpha)) / (1 - alpha) with w = p(x)^beta_t /
 * q(x)^kl_t. For alpha = 0 this is the bound of importance-weighted autoencoders (Burda et al. 2016), E[log mean_k
 * w_k] <= log Z, which grows with K; for alpha = 1 it is the ELBO, which the bounds approach from either side.
 * NF_GRADIENT_PATH gives the total gradient, whose signal vanishes beside its noise as K grows (Rainforth et al. 2018),
 * NF_GRADIENT_STL the doubly reparameterised one (DReG; Tucker et al. 2019), of the same mean and without that fault.
 * Which to use: for the *value* of the bound (nf_objective_value() of a fitted model), alpha = 0 with K from 10 to
 * 1000, a tighter estimate of log Z than the ELBO. For *training*, the ELBO with NF_GRADIENT_STL: a bound with weights
 * is satisfied by a q that covers p by few heavy draws, and has been seen to leave draws that explode. If a wider q is
 * wanted, as a proposal for importance sampling, train with alpha = 0, a K of 5 to 10 and NF_GRADIENT_STL, from the end
 * of a fit of the ELBO. Rejected draws have the weight 0; with other orders than 0 the loss is that of q_A, with each
 * group's own share of accepted draws. A group without accepted draws is left out. The terms are means over groups of
 * the means over their accepted draws, and log_accepted is of all draws. Mixtures are refused: NF_EUNSUPPORTED when a
 * gradient is asked. NF_GRADIENT_SCORE is refused, and so are ranks whose shares are not whole groups.
 *
 * Common random numbers. The noise of a draw is named by seed, step, sample and the object's place in its tree, and by
 * nothing else. So two models of equal structure see equal noise in nf_fit(), nf_objective_gradient() and nf_sample()
 * of equal seed and step, whatever their parameters, targets and estimators: fits that differ in one option can be
 * compared step by step, and the difference of two losses at one (seed, step) has the small variance of paired draws.
 *
 * Forward KL. KL(p || q) is minimised by maximum likelihood on draws of p, or on draws of q itself with importance
 * weights p(x) / q(x). It covers all of p where the ELBO may settle on one of its modes, but needs draws that reach
 * there: begin from a wide q. A round, with n draws x [n x d] (as double: points) and log q, log p, w [n]; cap limits
 * the largest weight to a few times the mean, which costs some bias and saves the variance of heavy weights:
 *
 *     nf_sample(m, NULL, &(nf_noise){.seed = 1, .step = round}, n, NULL, x, log_q);
 *     for (size_t i = 0; i < n * d; i++)
 *         points[i] = x[i];
 *     nf_target_eval(t, n, points, log_p, NULL, NULL);
 *     for (size_t i = 0; i < n; i++) // log_z: the logarithm of the mean of the weights, or a guess of log Z
 *         w[i] = fmin(exp(log_p[i] - log_q[i] - log_z), cap);
 *     nf_objective *o = nf_maximum_likelihood(m, &(nf_data){.n = n, .dim = d, .x = x, .weight = w}, NULL);
 *     nf_fit(o, &(nf_fit_options){.steps = 100}, NULL);
 *     nf_objective_free(o);
 * @return NULL on NF_EARG (NULL, a model of no distribution, draws that are not whole groups, alpha without groups),
 * NF_EDIM (dimensions that differ, a model that reads a context), NF_EUNSUPPORTED (groups with NF_GRADIENT_SCORE),
 * NF_ENOMEM.
 */
NF_API nf_objective *nf_elbo(nf_model *model, const nf_target *target, const nf_elbo_options *options);

NF_END_DECLS
#endif
