/* The families of flows by their names, as descriptions (nf_describe()) of distributions in standard units. */
#ifndef NFLOW_TOOL_FLOWS_H
#define NFLOW_TOOL_FLOWS_H
#include <nflow/nflow.h>

/* "nice|realnvp|...", in the order of the numbers; "auto" comes first. */
#define FLOW_NAMES                                                                                            \
    "auto|nice|realnvp|made|maf|iaf|nsf-coupling|nsf-autoregressive|planar|radial|sylvester|residual|ffjord|" \
    "flow-matching|glow|realnvp-image|gaussian"
typedef enum flow_family {
    FLOW_AUTO,
    FLOW_NICE,
    FLOW_REALNVP,
    FLOW_MADE,
    FLOW_MAF,
    FLOW_IAF,
    FLOW_NSF_COUPLING,
    FLOW_NSF_AUTOREGRESSIVE,
    FLOW_PLANAR,
    FLOW_RADIAL,
    FLOW_SYLVESTER,
    FLOW_RESIDUAL,
    FLOW_FFJORD,
    FLOW_MATCHING,
    FLOW_GLOW,
    FLOW_REALNVP_IMAGE,
    FLOW_GAUSSIAN,
    N_FLOWS
} flow_family;
extern const char *const flow_names[N_FLOWS];

/* Sizes; all of them are given. Those that a family does not have are not read. */
typedef struct flow_sizes {
    flow_family family;
    size_t dim, n_ctx;
    size_t layers; /* of Glow: steps of flow of each scale */
    size_t width, depth,
        blocks; /* of nets: units of a hidden layer, hidden layers; or, if blocks > 0, residual blocks */
    size_t bins;
    double box; /* of splines */
    double dropout;
    bool heavy_tails; /* the base is Student's t with learnt degrees of freedom, not a normal */
    nf_image image;   /* of families of images */
    uint64_t seed;    /* of permutations */
} flow_sizes;

/* The sizes that "CxHxW" says. Exits 2 with one line if it is no such text. */
nf_image flow_image(const char *text);
/* Whether the family is one of images. */
bool flow_is_of_images(flow_family f);
/* Whether a flow of this family can be trained by flow matching alone, in reasonable time. */
bool flow_is_matched(flow_family f);
/* The distribution's description; released by free(). Exits 1 with one line if the sizes allow no such flow. */
char *flow_description(const flow_sizes *s);
/* A description in place of a family: a flow, which gets a base, or a distribution. Exits 1 if its features or its
   context are not dim and n_ctx. As above. */
char *flow_description_from_file(const char *path, const flow_sizes *s);
/* The same distribution in the data's units: x = shift + scale z, and the nets read (context - shift) / scale. shift,
   scale [dim + n_ctx]. *n_added is the number of parameters that come behind the first one's: those of the context's
   units, of which `added` [n_added] are the values; both are released by free(). */
char *flow_in_units(const char *description, const flow_sizes *s, const double *shift, const double *scale,
                    double **added, size_t *n_added);

#endif
