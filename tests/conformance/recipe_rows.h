/* Rows of the conformance table: the recipes, of few layers with small smooth nets. */
#ifndef CONFORMANCE_RECIPE_ROWS_H
#define CONFORMANCE_RECIPE_ROWS_H
#include <nflow/nflow.h>

/* build_recipe_<name>: nf_<recipe> of `layers` layers, with further options. */
#define RECIPE(name, recipe, layers, ...)                                   \
    static inline nf_flow *build_recipe_##name(size_t dim, size_t n_ctx)    \
    {                                                                       \
        static const size_t width[] = {11};                                 \
        return nf_##recipe(dim, &(nf_recipe_options){.n_ctx = n_ctx,        \
                                                     .n_layers = layers,    \
                                                     .hidden = width,       \
                                                     .n_hidden = 1,         \
                                                     .activation = NF_TANH, \
                                                     .last_scale = 0.5,     \
                                                     .seed = 83,            \
                                                     __VA_ARGS__});         \
    }
RECIPE(nice, nice, 3, .mixing = NF_MIX_NONE)
RECIPE(realnvp, realnvp, 3, .mixing = NF_MIX_PERMUTE)
RECIPE(made, made, 1, .parallel = NF_PARALLEL_DEFAULT)
RECIPE(maf, maf, 2, .mixing = NF_MIX_PERMUTE)
RECIPE(iaf, iaf, 2, .mixing = NF_MIX_DEFAULT)
RECIPE(nsf_coupling, nsf_coupling, 2, .n_blocks = 1)
RECIPE(nsf_autoregressive, nsf_autoregressive, 2, .n_blocks = 1)
#undef RECIPE

#define RECIPE_ROWS                                                                                      \
    {"NICE", build_recipe_nice, 0.1, 10, true, 0}, {"Real NVP", build_recipe_realnvp, 0.1, 10, true, 0}, \
        {"MADE", build_recipe_made, 0.1, 10, true, 0}, {"MAF", build_recipe_maf, 0.1, 100, true, 0},     \
        {"IAF, gated", build_recipe_iaf, 0.1, 10, true, 0},                                              \
        {"NSF, couplings", build_recipe_nsf_coupling, 0.03, 10, true, ROUGH},                            \
        {"NSF, autoregressive", build_recipe_nsf_autoregressive, 0.03, 10, true, ROUGH},

#endif
