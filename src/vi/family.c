/* The families of posteriors: a normal or a t, a flow of the family, an affine map. */
#include "vi/family.h"
#include "base/status.h"
#include "flows/inference_sizes.h"
#include <nflow/ode.h>
#include <nflow/recipes.h>

enum { RANK = 16, REFLECTED = 16, SYLVESTER = 6, BINS = 8, MOST = 64 };

/* How many features log-dets of residual flows are exact with: a tangent for each feature costs less than the series,
   whose estimate is noise of the gradient besides. */
enum { EXACT_LOG_DET = 32 };

static nf_flow *chain_of(size_t n, nf_flow *(*make)(size_t dim), size_t d)
{
    nf_flow *f[MOST];
    n = n < MOST ? n : MOST;
    for (size_t k = 0; k < n; k++)
        f[k] = make(d);
    return nf_chain(f, n);
}

static nf_flow *sylvester(size_t d)
{
    return nf_sylvester(d, NULL);
}

static nf_flow *family_flow(const nf_stage_options *o, size_t d)
{
    const size_t hidden[] = {o->width, o->width};
    const nf_spline_options spline = {.bins = BINS, .box = 6};
    const nf_scaled_affine_options gentle = {.scale = NF_SCALE_TANH};
    const nf_continuous_options solver = {.rtol = 1e-4, .atol = 1e-4}; /* errors of log q are far below an ELBO's */
    const nf_residual_flow_options exact = {.log_det = NF_LOG_DET_EXACT};
    nf_recipe_options r = {.n_layers = o->layers,
                           .hidden = o->width ? hidden : NULL,
                           .n_hidden = o->width ? 2 : 0,
                           .sizes = NF_SIZES_INFERENCE,
                           .seed = o->seed};
    switch (o->family) {
    case NF_FAMILY_LOW_RANK:
        return nf_low_rank_affine(d, d < RANK ? d : RANK);
    case NF_FAMILY_PLANAR:
        return chain_of(o->layers ? o->layers : REFLECTED, nf_planar, d);
    case NF_FAMILY_RADIAL:
        return chain_of(o->layers ? o->layers : REFLECTED, nf_radial, d);
    case NF_FAMILY_SYLVESTER:
        return chain_of(o->layers ? o->layers : SYLVESTER, sylvester, d);
    case NF_FAMILY_IAF:
        r.scale = &gentle;
        return nf_iaf(d, &r);
    case NF_FAMILY_NSF:
        r.spline = &spline;
        return nf_nsf_coupling(d, &r);
    case NF_FAMILY_FFJORD:
        r.ode = &solver;
        r.n_layers = o->layers ? o->layers : 1;
        return nf_ffjord(d, &r);
    case NF_FAMILY_RESIDUAL:
        return nf_residual(d, &(nf_residual_options){.n_layers = o->layers ? o->layers : NFI_INFERENCE_LAYERS,
                                                     .hidden = o->width ? hidden : nfi_inference_hidden(d),
                                                     .n_hidden = NFI_INFERENCE_HIDDEN,
                                                     .block = d <= EXACT_LOG_DET ? &exact : NULL,
                                                     .parallel = NF_PARALLEL_FORWARD});
    default:
        return nf_realnvp(d, &r);
    }
}

nf_dist *nfi_family_dist(const nf_stage_options *o, size_t d, bool diagonal)
{
    nf_dist *base = o->df > 0 ? nf_student_t(d, &(nf_student_t_options){.df = o->df, .learn = true}) : nf_normal(d);
    nf_flow *affine = diagonal ? nf_affine(d) : nf_full_affine(d);
    if (!o->flow && (o->family == NF_FAMILY_MEAN_FIELD || o->family == NF_FAMILY_FULL_RANK))
        return nf_pushforward(base, affine);
    nf_flow *flow = o->flow ? nf_flow_ref(o->flow) : family_flow(o, d);
    return nf_pushforward(base, nf_chain((nf_flow *[]){flow, affine}, 2));
}

uint64_t nfi_family_steps(nf_family f)
{
    return nfi_family_is_normal(f) ? 1000 : 2000;
}

double nfi_family_rate(nf_family f)
{
    switch (f) {
    case NF_FAMILY_FFJORD: /* a field, and the flow's path is the sum of its small steps */
        return 0.04;
    case NF_FAMILY_NSF: /* with more the slopes at its knots run away */
        return 0.005;
    case NF_FAMILY_IAF:
    case NF_FAMILY_REALNVP:
        return 0.01;
    default:
        return nfi_family_is_normal(f) ? 0.1 : 0.02;
    }
}
