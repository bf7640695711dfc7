/* Rows of the conformance table: continuous flows at tight tolerances. Their fields are mild, so that a tight solve has
   few steps. */
#ifndef CONFORMANCE_ODE_ROWS_H
#define CONFORMANCE_ODE_ROWS_H
#include <nflow/nflow.h>

static inline nf_net *build_field(size_t dim, size_t n_ctx, nf_activation unit)
{
    static const size_t width[] = {6};
    return nf_mlp(dim + 1, dim, n_ctx,
                  &(nf_mlp_options){.hidden = width, .n_hidden = 1, .activation = unit, .last_scale = 0.7});
}

static inline nf_net *build_squash(size_t dim, size_t n_ctx)
{
    static const size_t width[] = {5};
    return nf_squash_mlp(dim + 1, dim, n_ctx, &(nf_mlp_options){.hidden = width, .n_hidden = 1});
}

/* build_continuous_<name>, with options. */
#define CONTINUOUS(name, net, ...)                                                                                   \
    static inline nf_flow *build_continuous_##name(size_t dim, size_t n_ctx)                                         \
    {                                                                                                                \
        return nf_continuous(net, &(nf_continuous_options){.rtol = 1e-11, .atol = 1e-11, .end = 0.25, __VA_ARGS__}); \
    }
CONTINUOUS(steps, build_field(dim, n_ctx, NF_TANH), .solver = NF_DOPRI5)
CONTINUOUS(adjoint, build_squash(dim, n_ctx), .gradient = NF_ADJOINT)
CONTINUOUS(rk4, build_field(dim, n_ctx, NF_SWISH), .solver = NF_RK4, .steps = 48)
#undef CONTINUOUS

#define ODE_ROWS                                                                    \
    {"continuous, through steps", build_continuous_steps, 0.2, 1000, true, COSTLY}, \
        {"continuous, adjoint", build_continuous_adjoint, 0.2, 1000, true, COSTLY}, \
        {"continuous, RK4", build_continuous_rk4, 0.2, 1000, true, COSTLY},

#endif
