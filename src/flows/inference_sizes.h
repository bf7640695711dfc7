/* Sizes of flows that are posteriors of Bayesian models, which have no more to say than a few numbers a dimension. */
#ifndef NFI_INFERENCE_SIZES_H
#define NFI_INFERENCE_SIZES_H
#include <stddef.h>

enum { NFI_INFERENCE_LAYERS = 6, NFI_INFERENCE_HIDDEN = 2 /* hidden layers of a net */ };

/* The widths of these, [NFI_INFERENCE_HIDDEN]; a constant. */
const size_t *nfi_inference_hidden(size_t dim);

#endif
