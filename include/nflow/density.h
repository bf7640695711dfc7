/**
 * @file density.h
 * Density estimation: objectives that fit a distribution to a data set, by maximum likelihood or by flow matching;
 * and the fit of mixtures of normals by expectation-maximisation.
 */
#ifndef NFLOW_DENSITY_H
#define NFLOW_DENSITY_H
#include <nflow/objective.h>
#include <nflow/data.h>
NF_BEGIN_DECLS

/** Options of nf_maximum_likelihood. */
typedef struct nf_likelihood_options {
    size_t batch; /**< rows a step, shuffled anew each epoch; 0: 100; data->n or more: all rows, in order */
    /**
     * In training, a normal with this deviation is added to each number of each row, a new one in each step. It keeps
     * a density of few rows from growing narrow peaks on them. 0: nothing is added.
     */
    double noise;
    /**
     * [dim] In training, feature j of each row moves by a uniform number from -blur[j] / 2 to blur[j] / 2, a new one in
     * each step. For features that were rounded to multiples of blur[j]: without it their density would grow without
     * bound at these values. By Jensen's inequality the log-density's mean over the width, plus log blur[j], is a lower
     * bound of the rounded value's log-probability. 0: that feature stays. NULL: all stay. Copied.
     */
    const double *blur;
} nf_likelihood_options;

/**
 * Maximum likelihood: loss = -log q(x) over minibatches. Terms: "log_p". In training the loss has the penalties of
 * layers, too (nf_pass.penalty, nf_step_report.penalty). If rows have weights w_i (nf_data.weight),
 * loss and term are sums over the batch of w_i times those of row i, divided by the batch's size and by the mean of all
 * w: the mean over batches is the weighted mean over the data, and a row of weight 2 counts as two rows. Rows are
 * shuffled anew each epoch, from the seed. If an epoch does not divide into batches, the rest of its rows are the first
 * rows of the batch that continues with the next epoch (see nf_minibatches). `model` and what `data` points to are
 * borrowed. A source that fails ends the step, see nf_source.
 * @return NULL on NF_EARG (NULL, a model of no distribution, options that are negative or not finite, data that
 * nf_minibatches_new() refuses), NF_EDIM (data or
 * context whose number of columns is not the model's), NF_ENOMEM.
 */
NF_API nf_objective *nf_maximum_likelihood(nf_model *model, const nf_data *data, const nf_likelihood_options *options);

/** Which draw of the base and which row of the data flow matching joins by a path. */
typedef enum nf_matching_coupling {
    NF_COUPLING_INDEPENDENT, /**< each row gets a draw of its own; the default */
    /**
     * The rows of a batch and as many draws are paired so that the sum of squared distances is the least: minibatch
     * optimal transport (Tong et al. 2024; Pooladian et al. 2023). Paths cross less, so that the loss has less variance
     * and the flow needs fewer steps when it is solved.
     */
    NF_COUPLING_OPTIMAL
} nf_matching_coupling;

/** Options of nf_flow_matching; zero means the default. */
typedef struct nf_matching_options {
    size_t batch;                  /**< rows a step, as in nf_likelihood_options; 100 */
    nf_matching_coupling coupling; /**< of draws and rows; NF_COUPLING_INDEPENDENT */
    double s_min;                  /**< how much of the draw is left at the end of a path, at least 0, below 1; 0 */
} nf_matching_options;

/**
 * Flow matching (Lipman et al. 2023; Tong et al. 2024): trains the field f of a continuous flow (nf_continuous())
 * without solving its equation. The model is a distribution as for nf_maximum_likelihood(); afterwards it is sampled
 * and scored as usual. For each row of the batch a step takes a draw x0 of the base, the row x1 and a time t, uniform
 * in [0, T], where T is nf_continuous_options.end. With a = t / T, the loss of the row is
 *
 *     |f(x_t, t, context) - v|^2,   x_t = (1 - (1 - s_min) a) x0 + a x1,   v = (x1 - (1 - s_min) x0) / T,
 *
 * the sum of squares over the features. The least loss is not 0 but the mean variance of v given x_t, and it is no
 * log-likelihood: to compare models, score data. Term "velocity": |v|^2, which is the loss of a field that is 0. Loss
 * and term are means over rows, with weights as in nf_maximum_likelihood(); rows are shuffled as there. A row without a
 * finite loss is left out alone. Penalties of layers (nf_pass.penalty) are not added, since nothing is solved. Losses
 * of single rows are not compared (nf_step_report.worst_loss is NaN): a row far out has a large loss near t = 0 also
 * with the best field.
 *
 * Times are stratified: of the b samples of a batch, each has the time T (k + u) / b with a uniform u and a k of its
 * own, a random permutation of 0 .. b - 1. So each time is uniform, and the mean over a batch has less variance.
 *
 * The model is a pushforward (nf_pushforward()) whose flow is the continuous flow, or a chain of layers of which one is
 * the continuous flow. It may also stand in pushforwards that are bases of others, under nf_invert(), which turns the
 * direction of time, and under nf_on_context(). Layers between the base and the continuous flow are applied to the
 * draw, and those between it and the data are inverted on the row, in the mode NF_EVAL. Only the net of the continuous
 * flow is trained. The gradient in all other parameters is 0, those of a learnt base included, and running statistics
 * (nf_batch_norm()) stay: layers that learn from this loss would shrink draws and rows to a point, where every field is
 * exact, since the loss has no log-determinant that forbids it. Data whose deviations are not near 1 need a
 * layer nf_actnorm() on their side that was initialised from them (nf_model_init()), or must be standardised.
 *
 * With NF_COUPLING_OPTIMAL the pairs are those of the whole batch, whatever the number of threads and ranks (each rank
 * solves the whole assignment), at a cost of order batch^3 in one thread, and 8 batch^2 bytes. batch is at most 4096.
 * Rows with contexts or weights are refused: within a batch, draws that go to the rows of one context, or to rows of
 * large weight, are not distributed like the base, from which sampling starts, so that the flow would be biased.
 * @param model its base must be able to sample
 * @return NULL on NF_EARG (NULL, a model of no distribution, options out of range, data that nf_minibatches_new()
 * refuses, weights that are none), NF_EDIM (as nf_maximum_likelihood()), NF_EUNSUPPORTED (no continuous flow or more
 * than one, one inside another layer, a base that cannot sample, optimal coupling with contexts or weights), NF_ENOMEM.
 */
NF_API nf_objective *nf_flow_matching(nf_model *model, const nf_data *data, const nf_matching_options *options);

/** Options of nf_fit_mixture; zero means the default. */
typedef struct nf_em_options {
    size_t iterations; /**< the most iterations; 200 */
    /**
     * The fit has converged when an iteration raises the penalised mean log-likelihood (see there) by no more than
     * this, in nats a row, from 0 to 1000; 1e-5. NF_ZERO: by nothing.
     */
    double tolerance;
    double regularisation; /**< b of nf_fit_mixture(), from 1e-12 to 1; 1e-6 */
    size_t restarts;       /**< runs of k-means, the best of which starts the fit; 10 */
    uint64_t seed;         /**< of the start, and of components that begin anew */
    size_t threads;        /**< 0: as many as OpenMP would use; see nf_workspace_new(). Results do not depend on it */
} nf_em_options;

/** What nf_fit_mixture() reports. */
typedef struct nf_em_report {
    size_t iterations;      /**< made; each is one pass through the data, and there is one more, for the result */
    bool converged;         /**< whether the last gain was within the tolerance */
    double log_likelihood;  /**< of the result: mean over the rows, with their weights, in nats */
    double penalty;         /**< what the regularisation takes from it; the difference is what the fit maximises */
    double smallest_weight; /**< of the components */
    size_t reseeded;        /**< how often a component had lost its rows and began anew */
} nf_em_report;

/**
 * Fits a model of nf_gaussian_mixture() to data by expectation-maximisation (Dempster, Laird & Rubin 1977). The model's
 * present parameters do not matter. One component is the closed form of the normal with full covariance; some tens are
 * a baseline for other densities. Units of columns do not matter: inside, each has mean 0 and variance 1.
 *
 * The start are clusters of a sample of the rows, found by k-means++ (Arthur & Vassilvitskii 2007). Each covariance is
 *
 *     C_k = (weighted mean of the squares of its n_k rows) + b n / (K n_k) diag(variances of the columns),
 *
 * with b the regularisation, n rows and K components: so it stays positive definite also where columns are constant or
 * copies of others, and where a component has few rows. A constant column counts as one of variance 1. What the fit
 * maximises is the mean log-likelihood less a penalty, b / (2 K) sum_k tr(C_k^-1 diag(variances)), which no iteration
 * lowers but by rounding. A component that has lost its rows becomes half of the largest one, at a draw from it; the
 * iteration in which that happens may lower it.
 *
 * Rows count with their weights, as in nf_maximum_likelihood(). Data may be in memory or come from a source, which each
 * iteration reads once, in order. Sums over rows are double in both precisions and do not depend on the number of
 * threads. Memory: some 30 MB and the numbers of two such mixtures, whatever the number of rows. An error leaves the
 * model as it was.
 * @param model   its parameters are written, and it is prepared for NF_EVAL
 * @param options NULL: the defaults
 * @param report  written; NULL: not wanted
 * @return NF_EARG (NULL, a model of another kind, options out of range, fewer rows with a weight than components, data
 * that nf_minibatches_new() refuses, weights that are none), NF_EDIM (data whose number of columns is not the model's,
 * or with a context), NF_ENOTFINITE (a source's numbers, variances or parameters that are not finite), NF_ENOMEM; of a
 * source, what it reports.
 */
NF_API NF_CHECKED nf_status nf_fit_mixture(nf_model *model, const nf_data *data, const nf_em_options *options,
                                           nf_em_report *report);

NF_END_DECLS
#endif
