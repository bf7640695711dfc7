/**
 * @file density.h
 * Density estimation: maximum likelihood of a data set as an objective.
 */
#ifndef NFLOW_DENSITY_H
#define NFLOW_DENSITY_H
#include <nflow/objective.h>
#include <nflow/data.h>
NF_BEGIN_DECLS

/** Options of nf_maximum_likelihood. */
typedef struct nf_likelihood_options {
    size_t batch; /**< rows a step, shuffled anew each epoch; 0: 100; data->n or more: all rows, in order */
} nf_likelihood_options;

/**
 * Maximum likelihood: loss = -log q(x) over minibatches. Terms: "log_p". In training the loss has the penalties of
 * layers, too (nf_pass.penalty, nf_step_report.penalty). If rows have weights w_i (nf_data.weight),
 * loss and term are sums over the batch of w_i times those of row i, divided by the batch's size and by the mean of all
 * w: the mean over batches is the weighted mean over the data, and a row of weight 2 counts as two rows. Rows are
 * shuffled anew each epoch, from the seed. If an epoch does not divide into batches, the rest of its rows are the first
 * rows of the batch that continues with the next epoch (see nf_minibatches). `model` and what `data` points to are
 * borrowed. A source that fails ends the step, see nf_source.
 * @return NULL on NF_EARG (NULL, a model of no distribution, data that nf_minibatches_new() refuses), NF_EDIM (data or
 * context whose number of columns is not the model's), NF_ENOMEM.
 */
NF_API nf_objective *nf_maximum_likelihood(nf_model *model, const nf_data *data, const nf_likelihood_options *options);

NF_END_DECLS
#endif
