/**
 * @file combine.h
 * Flows that are made of flows and nets: chains, blocks, amortised flows, couplings and autoregressive flows.
 *
 * Constructors return NULL on failure; nf_error_message() says why. A constructor that takes objects consumes a
 * reference to each, also on failure (nf_object_ref()).
 *
 * A net that steers a flow reads numbers beyond +-2^500 (float: 2^60) as +-2^500 (2^60): those of features, also of
 * features that have overflowed and are infinite, and those of the context. NaN stays NaN.
 */
#ifndef NFLOW_COMBINE_H
#define NFLOW_COMBINE_H
#include <nflow/flow.h>
NF_BEGIN_DECLS

/**
 * A chain of flows, f[n-1] o ... o f[0]; f[0] is nearest to the base. n >= 1. Dimensions of neighbours must agree;
 * contexts must be equal or 0.
 * @return NULL on NF_EARG (n 0, `f` NULL), NF_EDIM (dimensions or contexts that do not agree), NF_ENOMEM.
 */
NF_API nf_flow *nf_chain(nf_flow *const *f, size_t n);
/**
 * A chain that saves nothing for gradients: the way back computes what entered each flow by the flow's inverse, and
 * what the flow saves by the flow again (Gomez et al. 2017). The memory of a step is that of the largest flow, however
 * many there are, and a step takes about twice as long. Take it for deep chains of flows whose two directions are both
 * one pass (couplings, affine and linear layers, elementwise ones): not where a direction is iterated or sequential.
 * What enters a flow comes back with the rounding errors of the inverses behind it, which nf_check_flow() measures;
 * values and log-dets are those of nf_chain().
 * @return as nf_chain().
 */
NF_API nf_flow *nf_recomputed_chain(nf_flow *const *f, size_t n);
/**
 * Flows side by side: block i takes its dim_in features and gives its dim_out features. The blocks' features are
 * stacked in order, and their log-dets are added. In this way parameters with different constraints
 * (nflow/constraints.h), or any other flows, become one flow. n >= 1. All blocks share the context; their n_ctx must be
 * equal or 0.
 * @return NULL on NF_EARG (n 0, `f` NULL), NF_EDIM (contexts that differ), NF_ENOMEM.
 */
NF_API nf_flow *nf_blocks(nf_flow *const *f, size_t n);
/** f with forward and inverse exchanged. */
NF_API nf_flow *nf_invert(nf_flow *f);
/**
 * f with parameters head(context), for each sample its own. head maps its context (head's dim_in features) to f's
 * n_params features. f must have NF_PER_SAMPLE and read no context itself.
 */
NF_API nf_flow *nf_amortized(nf_flow *f, nf_net *head);
/**
 * f with the context itself as its parameters, for each sample its own: n_ctx is f's n_params. f must be as in
 * nf_amortized().
 */
NF_API nf_flow *nf_amortized_by_context(nf_flow *f);
/**
 * f with the context net(context), for each sample its own: net is an embedding net. f's parameters are shared by all
 * samples and are trained together with the net's; in nf_amortized() f has no parameters of its own. The net starts so
 * that it gives the context at which f starts well (nf_start_context). Layers of f that begin from data get a batch, as
 * usual.
 * @param f   reads context; any flow
 * @param net takes the context as its input, gives f's n_ctx features, and reads no context beside its input
 * theta: f's, then the net's.
 * @return NULL on NF_EDIM, NF_ENOMEM.
 */
NF_API nf_flow *nf_context_net(nf_flow *f, nf_net *net);
/** f that reads features first .. first + f's n_ctx - 1 of a context of n_ctx features. */
NF_API nf_flow *nf_on_context(nf_flow *f, size_t n_ctx, size_t first);

/* ---- couplings ---- */

/**
 * Coupling layer (Dinh et al. 2014, 2017; Durkan et al. 2019). Features i with mask[i] = 0 pass unchanged: x_a. The
 * other features, x_b, are transformed: y_b = transform(x_b; net(x_a, context)). The inverse works in the same way. The
 * net gives the transform's parameters sample by sample. It is initialised so that these parameters start near the
 * transform's own initial ones. The net reads features and context within +-2^500 (float: 2^60), see above.
 * @param dim       features, >= 1
 * @param mask      [dim], copied; nonzero: transformed. Not all 0; if all are nonzero, the net takes no features
 * @param transform takes as many features as are transformed; NF_PER_SAMPLE, with parameters, without context and state
 * @param net       takes the features that pass, gives the transform's n_params; its n_ctx is the coupling's
 * theta: the net's.
 * @return NULL on NF_EARG, NF_EDIM, NF_EUNSUPPORTED (no NF_PER_SAMPLE, state), NF_ENOMEM.
 */
NF_API nf_flow *nf_coupling(size_t dim, const unsigned char *mask, nf_flow *transform, nf_net *net);
/**
 * A coupling whose net gives the transform's context instead of its parameters: y_b = transform(x_b; theta, c),
 * c = net(x_a, context). The transform's own parameters are shared by all samples and are trained together with the
 * net's. The transform may be any flow that reads context: a chain of nf_amortized() layers, nf_actnorm() and
 * nf_lu_linear(), say. The net starts so that it gives the context at which the transform starts well
 * (nf_start_context). The transform's layers that begin from data get the features that the transform will change.
 * Everything else is as in nf_coupling().
 * @param dim       features, >= 1
 * @param mask      [dim], copied, as in nf_coupling()
 * @param transform takes as many features as are transformed, and reads n_ctx >= 1 features of context
 * @param net       takes the features that pass, gives the transform's n_ctx; its own n_ctx is the coupling's
 * theta: the transform's, then the net's.
 * @return NULL on NF_EARG, NF_EDIM, NF_ENOMEM.
 */
NF_API nf_flow *nf_coupling_by_context(size_t dim, const unsigned char *mask, nf_flow *transform, nf_net *net);
/**
 * Masks for the k-th coupling of a chain (k = 0, 1, ...). For even k, the transformed features are: by nf_mask_halves()
 * the second half (the shorter one); by nf_mask_alternating() features 1, 3, ...; by nf_mask_random() dim / 2 features
 * that are chosen at random, anew for every pair of layers. For odd k they are the complement. If dim is 1, its one
 * feature is always transformed. mask [dim] is written: 1 (transformed) or 0.
 * @return how many features are transformed; 0 if `mask` is NULL (NF_EARG) or dim is 0.
 */
NF_API size_t nf_mask_halves(size_t dim, size_t k, unsigned char *mask);
/** See nf_mask_halves(). */
NF_API size_t nf_mask_alternating(size_t dim, size_t k, unsigned char *mask);
/** See nf_mask_halves(). The choice is a function of dim, k and seed, the same in both precisions. */
NF_API size_t nf_mask_random(size_t dim, size_t k, uint64_t seed, unsigned char *mask);

/* ---- autoregressive flows ---- */

/**
 * An autoregressive flow. In the given order, each dimension goes through `transform`, whose parameters the masked net
 * computes from the dimensions before it and from the context. In the direction `parallel` this takes one pass of the
 * net. In the other direction the dimensions are computed one after the other; all steps together also cost one pass,
 * since every hidden unit is computed once. With `parallel` NF_FORWARD it is IAF (Kingma et al. 2016): fast sampling
 * with log q. With NF_INVERSE it is MAF (Papamakarios et al. 2017).
 * @param transform of one dimension, NF_PER_SAMPLE: nf_affine(1), nf_scaled_affine(1, ...), nf_spline(1, ...)
 * @param masked an nf_masked_net whose n_per_dim is the transform's n_params; its inputs are the features in order
 * @param order [dim]: the feature that comes t-th; copied. NULL: ascending
 * Parameters: the net's.
 * @return NULL on NF_EUNSUPPORTED (not NF_PER_SAMPLE), NF_EDIM, NF_EARG, NF_ENOMEM.
 */
NF_API nf_flow *nf_autoregressive(nf_flow *transform, nf_net *masked, const size_t *order, nf_direction parallel);
/**
 * An autoregressive flow whose net gives, for each dimension, the transform's context instead of its parameters. One
 * transform with parameters theta serves all dimensions: y_t = transform(x_t; theta, c_t), c_t = net_t(x_<t, context).
 * The transform's layers that begin from data get the samples of all dimensions, at the context at which the transform
 * starts well. Everything else is as in nf_autoregressive().
 * @param transform of one dimension, reads n_ctx >= 1 features of context; its parameters are shared. Training may not
 * move its state (as that of nf_batch_norm())
 * @param masked    an nf_masked_net whose n_per_dim is the transform's n_ctx; its inputs are the features in order
 * @param order     [dim]: the feature that comes t-th; copied. NULL: ascending
 * theta: the transform's, then the net's.
 * @return NULL on NF_EUNSUPPORTED (a transform whose state training moves), NF_EDIM, NF_EARG, NF_ENOMEM.
 */
NF_API nf_flow *nf_autoregressive_by_context(nf_flow *transform, nf_net *masked, const size_t *order,
                                             nf_direction parallel);

NF_END_DECLS
#endif
