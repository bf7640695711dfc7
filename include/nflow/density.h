/**
 * @file density.h
 * Density estimation: objectives that fit a distribution to a data set, by maximum likelihood or by flow matching.
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

NF_END_DECLS
#endif
