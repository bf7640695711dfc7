/* A model in the making, from a state dict of another package.

   Whatever fails sets `status`, of which the first failure counts; functions that find it set do nothing and return
   NULL, so that their callers need not ask after each step. All temporary numbers are released at the end. Matrices are
   row-major, [out x in], as in PyTorch. `prefix` is the beginning of some names of tensors, with its last dot. */
#ifndef NFI_IMPORT_H
#define NFI_IMPORT_H
#include "io/safetensors.h"
#include <nflow/combine.h>
#include <nflow/dist.h>
#include <nflow/elementwise.h>
#include <nflow/image.h>
#include <nflow/import.h>

/* Numbers of the model, in the order of its theta. */
typedef struct nfi_numbers {
    nf_real *at;
    size_t n, room;
} nfi_numbers;

typedef struct nfi_import {
    nfi_container file;
    nf_import_options options; /* settled */
    struct nfi_block *memory;  /* temporary numbers, the last ones first */
    nf_status status;
    size_t most; /* numbers that the model may have */
    size_t dim;  /* features of x; 0: not known yet */
    nf_flow **flow;
    size_t n_flows, room;   /* flows so far, from the base to the data */
    nfi_numbers theta;      /* of the flows */
    nf_flow *base;          /* from the standard normal to the base; NULL: it is that */
    size_t n_modes;         /* the base is a mixture of so many normals; 0: it is not */
    nfi_numbers base_theta; /* of this flow or mixture */
} nfi_import;

/* ---- tensors (state_dict.c) ---- */

#define NFI_ANY SIZE_MAX /* an extent that is whatever the file has */

/* Sets the status and a message that begins with the function and the file. Returns NULL. */
void *nfi_import_fail(nfi_import *im, nf_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* n zeroed objects, which belong to the import; NULL on failure. */
void *nfi_import_memory(nfi_import *im, size_t n, size_t size);
void nfi_import_free_memory(nfi_import *im);
/* A name, composed as by printf. Never NULL: "" on failure. */
const char *nfi_name(nfi_import *im, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The tensor prefix + last, which is not taken by that; NULL: there is none. */
const nfi_tensor *nfi_import_peek(nfi_import *im, const char *prefix, const char *last);
/* Whether there is a tensor of the name prefix + last; whether there is one whose name begins with prefix + last. */
bool nfi_import_has(nfi_import *im, const char *prefix, const char *last);
bool nfi_import_has_any(nfi_import *im, const char *prefix, const char *last);
/* The numbers k for which there are tensors with names prefix + k + dot + last...; ascending. Returns how many. */
size_t nfi_import_children(nfi_import *im, const char *prefix, const char *last, size_t **index);
/* The same, but they must be 0, step, 2 step, ... Otherwise, or if there are none, it fails. */
size_t nfi_import_list(nfi_import *im, const char *prefix, const char *last, size_t step);
/* The numbers of a tensor of any dtype, which is then taken. extents [rank] are checked; those that are NFI_ANY are
   written. */
double *nfi_import_take(nfi_import *im, const char *prefix, const char *last, size_t rank, size_t *extents);
/* A tensor of one index of n whole numbers (n NFI_ANY: of any length, written to *n), each below `below`. */
size_t *nfi_import_take_indices(nfi_import *im, const char *prefix, const char *last, size_t *n, size_t below);
/* A permutation of 0 .. n - 1, of any length. */
size_t *nfi_import_take_order(nfi_import *im, const char *prefix, const char *last, size_t *n);
/* Takes a tensor that says nothing new, if it is there. */
void nfi_import_skip(nfi_import *im, const char *prefix, const char *last);
/* Forgets all tensors but those whose names begin with that, and this part of their names. */
void nfi_import_only(nfi_import *im, const char *prefix);
/* Fails if a tensor has not been taken. */
void nfi_import_all_taken(nfi_import *im);

/* ---- the model (layers.c) ---- */

/* Appends numbers. */
void nfi_import_put(nfi_import *im, nfi_numbers *to, size_t n, const double *from);
static inline void nfi_put(nfi_import *im, size_t n, const double *from)
{
    nfi_import_put(im, &im->theta, n, from);
}
/* Sets the number of features, or fails if it is another one already. `prefix` is the layer that has it. */
void nfi_import_dim(nfi_import *im, size_t dim, const char *prefix);
/* Adds a flow, whose numbers have been put; consumes it. from_data: it maps data to the base, so it is inverted. NULL:
   its constructor has failed, and said why. */
void nfi_import_add(nfi_import *im, bool from_data, nf_flow *flow, const char *prefix);
/* How a package nests its layers: by lists, prefix + list + K + dot, and by inverses, prefix + inverse. */
typedef struct nfi_nesting {
    const char *list, *inverse;
    void (*layer)(nfi_import *im, bool from_data, const char *prefix);
} nfi_nesting;
/* Reads a layer and what is nested in it, from the base to the data. from_data: it maps data to the base. */
void nfi_import_nested(nfi_import *im, const nfi_nesting *q, bool from_data, const char *prefix, size_t depth);
/* Fails unless the family is one of those, or was not asked for. */
bool nfi_import_is(nfi_import *im, const char *prefix, nf_import_family family, nf_import_family other);
/* The base: a diagonal normal, or (all numbers 0) the standard normal. mean, log_scale [dim]. */
void nfi_import_normal(nfi_import *im, size_t dim, const double *mean, const double *log_scale);
/* The same of which n_ctx features of context give mean and log-scale: W [2 dim x n_ctx], b [2 dim]. */
void nfi_import_conditional_normal(nfi_import *im, size_t dim, size_t n_ctx, const double *w, const double *b);
/* The model of it all; NULL on failure. */
nf_model *nfi_import_finish(nfi_import *im);
/* Releases what is left. */
void nfi_import_end(nfi_import *im);

/* ---- layers without nets (linear.c) ---- */

/* y = x exp(s) + m for the n channels of an image of n_pixels pixels (1: for the features). */
void nfi_import_affine(nfi_import *im, bool from_data, size_t n, size_t n_pixels, const double *m, const double *s,
                       const char *prefix);
/* y[i] = x[order[i]]. */
void nfi_import_permutation(nfi_import *im, bool from_data, size_t n, const size_t *order, const char *prefix);
/* y = L U x + b; lower and upper [n (n - 1) / 2] by rows, U's diagonal is softplus(d) + 1e-3. The layer of nflows and
   normflows, all of it under prefix. */
void nfi_import_lu(nfi_import *im, bool from_data, const char *prefix);
/* y = W x + b for the n channels of n_pixels pixels each; W [n x n] is any matrix; b NULL: 0. */
void nfi_import_matrix(nfi_import *im, bool from_data, size_t n, size_t n_pixels, const double *W, const double *b,
                       const char *prefix);
/* Invertible1x1Conv and InvertibleAffine of normflows: W [n x n], whether as such or as P L (U + diag(sign e^s)). */
double *nfi_import_take_matrix(nfi_import *im, const char *prefix, size_t *n);

/* ---- nets (nets.c) ---- */

typedef struct nfi_linear {
    const char *name; /* its prefix, for messages */
    size_t in, out;
    double *w, *b, *mask; /* [out x in], [out]; mask NULL: all weights are there. w has 0 where the mask has */
} nfi_linear;

/* in and out may be NFI_ANY. */
nfi_linear *nfi_take_linear(nfi_import *im, size_t in, size_t out, const char *prefix, const char *last);
/* A layer of zeros. */
nfi_linear *nfi_new_linear(nfi_import *im, size_t in, size_t out, const char *name, bool masked);
/* Puts the numbers of a layer. */
void nfi_put_linear(nfi_import *im, const nfi_linear *l);
/* Puts what belongs to the units behind a layer: swish has one number, which is fixed in PyTorch. */
void nfi_put_unit(nfi_import *im);
/* The perceptron of n layers, whose numbers it puts; `in` features, the other columns of the first layer are context.
 */
nf_net *nfi_import_mlp(nfi_import *im, size_t n, nfi_linear *const *layer, size_t in);
/* The layers prefix + 0, prefix + 2 ... of an nn.Sequential, or at any growing numbers (step 0). NULL on failure. */
nfi_linear **nfi_take_sequence(nfi_import *im, const char *prefix, size_t step, size_t *n);
/* The residual nets of nflows and normflows, of which `last` is the last layer. */
nf_net *nfi_import_residual_net(nfi_import *im, const char *prefix, size_t in, const nfi_linear *last);

/* ---- transforms of one feature (univariate.c) ---- */

typedef enum nfi_univariate_kind { NFI_SHIFT, NFI_AFFINE, NFI_SPLINE } nfi_univariate_kind;

/* A transform, and where a net of a package has its numbers. */
typedef struct nfi_univariate {
    nfi_univariate_kind kind;
    size_t n;     /* numbers for a feature */
    bool swapped; /* of an affine one: the scale's comes before the shift */
    bool blocked; /* all shifts come before all scales; else the numbers of a feature are together */
    double share; /* by which w and h of a spline are multiplied */
    double knot;  /* what is added to d of a spline */
    nf_scaled_affine_options affine;
    nf_spline_options spline;
} nfi_univariate;

/* The transform with n numbers a feature: 1 is a shift, 2 are an affine map, 3 K - 1 a spline of K bins, 3 K + 1 one on
   [0, 1] with free ends. The package's options are the caller's to fill in. */
nfi_univariate nfi_univariate_of(nfi_import *im, size_t n, const char *prefix);
/* For nflows and normflows: the spline's options and what its numbers mean there, of a net of that width (0: not
   divided). */
void nfi_import_durkan(nfi_import *im, nfi_univariate *u, size_t width);
/* Fails unless splines were asked for, or the package has nothing else with so many numbers a feature. */
void nfi_import_spline_asked(nfi_import *im, const char *prefix, size_t n);
/* A flow of it for dim features. */
nf_flow *nfi_univariate_flow(const nfi_univariate *u, size_t dim);
/* The last layer of a net with its rows in nflow's order. */
nfi_linear *nfi_arranged(nfi_import *im, const nfi_univariate *u, const nfi_linear *last);
/* A coupling with that net, whose numbers have been put. */
void nfi_import_coupling(nfi_import *im, bool from_data, const unsigned char *mask, const nfi_univariate *u,
                         nf_net *net, const char *prefix);
/* The transform with the same numbers for all samples, given as the biases of a layer: of the features whose mask is
   set. */
void nfi_import_constant(nfi_import *im, bool from_data, const unsigned char *mask, const nfi_univariate *u,
                         const nfi_linear *numbers, const char *prefix);
/* A mask [dim]: 1 for the n features of the list. */
unsigned char *nfi_import_mask(nfi_import *im, size_t n, const size_t *features);

/* ---- masked nets (masked.c) ---- */

typedef struct nfi_masked_source {
    const size_t *rank; /* [dim] of each feature in the order */
    size_t n_ctx;       /* columns of context, behind those of x in the first layer */
    size_t n_layers;    /* first, ..., last; between them, if there are blocks, two a block */
    nfi_linear *const *layer;
    size_t n_blocks;
    nfi_linear *const *gate; /* [n_blocks]; NULL: no context */
} nfi_masked_source;

/* Adds the autoregressive flow; puts the net's numbers. `net` (with the numbers n, which are put after) gives the
   context that the masked net reads; NULL: the context itself. */
void nfi_import_autoregressive(nfi_import *im, bool from_data, const nfi_univariate *u, const nfi_masked_source *q,
                               const nfi_linear *context, nf_activation of_context, const char *prefix);

/* ---- packages ---- */

void nfi_read_zuko(nfi_import *im);
void nfi_read_nflows(nfi_import *im);
void nfi_read_normflows(nfi_import *im);
/* MADE of nflows and normflows, in an autoregressive layer (made.c). */
void nfi_import_made(nfi_import *im, bool from_data, bool nflows, const char *prefix, nf_import_family affine,
                     nf_import_family other);
/* Couplings of both, by splines or affine (durkan_coupling.c). */
void nfi_import_durkan_coupling(nfi_import *im, bool from_data, const char *prefix);
/* What the affine layers and the activation normalisations of normflows have in common, with images and without. */
nfi_univariate nfi_import_normflows_affine(nfi_import *im, size_t n, nf_import_scale by_default, const char *prefix);
void nfi_import_normflows_actnorm(nfi_import *im, bool from_data, size_t channels, size_t n_pixels, bool image,
                                  const char *prefix);
/* Blocks of residual flows, and images of several scales, of normflows. */
void nfi_import_residual(nfi_import *im, const char *prefix);
void nfi_read_multiscale(nfi_import *im);

#endif
