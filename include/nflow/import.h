/**
 * @file import.h
 * Models that were trained in Python: the state dict of a flow of the packages zuko, nflows or normflows, saved as a
 * safetensors file, becomes a model of a distribution with the same density and the same samples.
 *
 * In Python, two lines save a state dict:
 *
 *     from safetensors.torch import save_file
 *     save_file({name: t.contiguous() for name, t in flow.state_dict().items()}, "flow.safetensors")
 *
 * The architecture is read from the names and shapes of the tensors. What they do not tell, options say, with the
 * defaults of the package. docs/python.md says which layers are known.
 */
#ifndef NFLOW_IMPORT_H
#define NFLOW_IMPORT_H
#include <nflow/model.h>
#include <nflow/net.h>
#include <nflow/options.h>
NF_BEGIN_DECLS

/** The package that a state dict is from. */
typedef enum nf_import_package {
    NF_IMPORT_PACKAGE_DEFAULT, /**< the one that has such names of tensors */
    NF_IMPORT_ZUKO,            /**< zuko: the flow's tensors begin with "transform." and "base." */
    NF_IMPORT_NFLOWS,          /**< nflows: they begin with "_transform." */
    NF_IMPORT_NORMFLOWS        /**< normflows: they begin with "flows." and "q0." */
} nf_import_package;

/**
 * The family that the flow belongs to. A layer that is none of the family is an error. Permutations, linear layers and
 * normalisations belong to every family.
 */
typedef enum nf_import_family {
    /**
     * Any, also mixed. But a net with as many numbers a feature as a spline has is only read as that of a spline if the
     * package has no other transform that looks alike: for zuko and nflows say NF_IMPORT_NSF
     */
    NF_IMPORT_FAMILY_DEFAULT,
    NF_IMPORT_REALNVP, /**< couplings that shift and scale, or only shift (NICE) */
    NF_IMPORT_MAF,     /**< masked autoregressive flows that shift and scale */
    NF_IMPORT_IAF,     /**< the same, inverted: sampling takes one pass. MAF and IAF are one class in normflows */
    NF_IMPORT_NSF,     /**< rational-quadratic splines, in couplings or autoregressive */
    NF_IMPORT_GLOW,    /**< Glow's blocks, over several scales */
    NF_IMPORT_RESIDUAL /**< residual flows with a Lipschitz bound */
} nf_import_family;

/** The scale of layers that shift and scale, for an unconstrained number a of the net. */
typedef enum nf_import_scale {
    /**
     * The package's default: zuko exp(a / (1 + |a| / u)), u = -log(min_slope), and no other; nflows sigmoid(a + 2) +
     * 0.001 in couplings, softplus(a) + 0.001 in autoregressive layers; normflows exp(a) in couplings, 1 / sigmoid(a +
     * 2) in Glow, sigmoid(a + 2) + 0.001 in autoregressive layers
     */
    NF_IMPORT_SCALE_DEFAULT,
    NF_IMPORT_SCALE_EXP,     /**< normflows' scale_map "exp" */
    NF_IMPORT_SCALE_SIGMOID, /**< normflows' scale_map "sigmoid"; nflows' autoregressive layers before version 0.14 */
    NF_IMPORT_SCALE_SIGMOID_INV /**< normflows' scale_map "sigmoid_inv" */
} nf_import_scale;

/** How normflows' couplings split features or channels (split_mode). */
typedef enum nf_import_split {
    NF_IMPORT_SPLIT_DEFAULT,    /**< "channel": the second half is transformed */
    NF_IMPORT_SPLIT_CHANNEL_INV /**< "channel_inv": the first half is transformed */
} nf_import_split;

/** Options of nf_import; zero means the default. */
typedef struct nf_import_options {
    nf_import_package package; /**< where the file is from; by default the names say it */
    nf_import_family family;   /**< what the flow must be; by default anything that is known */
    /**
     * With what the names of the flow's tensors begin, the last dot included, if the flow is a part of a larger module:
     * "model.flow.", say. Tensors of other names are not read. NULL: the file is of the flow alone. Not in the table
     */
    const char *prefix;
    nf_activation activation; /**< of the hidden units of all nets; ReLU. Not for residual flows, which have LipSwish */
    nf_import_scale scale;    /**< of layers that shift and scale; the package's default */
    nf_import_split split;    /**< of normflows' couplings; "channel" */
    double tail_bound;        /**< B, a spline's box [-B, B]; zuko 5, nflows 1, normflows 3 */
    double min_width;         /**< least width of a spline's piece, of nflows and normflows; 1e-3 */
    double min_height;        /**< least height, likewise; 1e-3 */
    double min_slope;         /**< least slope of a spline; in zuko of affine layers, too; 1e-3 */
    double lipschitz;         /**< the bound of each layer of a residual flow's net (lipschitz_const); 0.97 */
    /**
     * For normflows: the length of the list of flows, len(model.flows). It is needed where flows are in the list that
     * have no tensors. These are taken for Permute(dim, mode="swap"). 0: there are none
     */
    size_t n_flows;
    size_t height; /**< of the images of a Glow whose bases do not tell (GlowBase): rows of pixels; 0: not given */
    size_t width;  /**< likewise: pixels in a row; 0: not given */
} nf_import_options;

/** The most numbers that an imported model may have for each number in the file. */
enum { NF_IMPORT_MOST_NUMBERS = 64 };

/**
 * Reads a state dict of zuko, nflows or normflows, and makes a model of a distribution of it. In double precision its
 * log-densities and samples agree with the package's to rounding; nothing is fitted or approximated.
 *
 * The file is not trusted: every shape is checked, masks must be autoregressive, and each tensor must be one that the
 * flow has. Messages name the tensor, its shape and what was expected. The memory that is taken is bounded by
 * NF_IMPORT_MOST_NUMBERS numbers of the model for each number of the file.
 *
 * Masked nets keep their connections. Units are sorted by degree, and where a package gives a degree fewer units than
 * nf_masked_net() does, units with weights of 0 are added. Normalisations (batch norm, ActNorm) become nf_affine(),
 * with their statistics as they are. The blocks of a residual flow become nf_residual_flow() of a plain net with the
 * weights that Python uses; further training would not keep them a contraction.
 *
 * A model with context reads the package's context. A class-conditional base of normflows reads the class as one
 * number a class, 1 for the class and 0 for the others.
 * @param path    a safetensors file
 * @param options NULL: the defaults
 * @return the model, which owns its numbers. NULL on NF_EARG (`path` NULL, an option out of its range), NF_EFORMAT (a
 * file that is damaged, or no flow that is known: a tensor that is missing, of another shape, or left over),
 * NF_EUNSUPPORTED (a layer of the package that the library does not have; a build without Jansson), NF_EIO, NF_ENOMEM;
 * other errors of the constructors that it calls.
 */
NF_API nf_model *nf_import(const char *path, const nf_import_options *options);
/**
 * The table of the options: names, ranges and words of help, for programs that read them from a command line. NULL in a
 * build without Jansson.
 */
NF_API const nf_option_table *nf_import_option_table(void);

NF_END_DECLS
#endif
