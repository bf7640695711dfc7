/* The families of posteriors: a normal or a t, a flow of the family, an affine map. */
#include "vi/family.h"
#include "base/status.h"
#include <nflow/recipes.h>

enum { RANK = 16, REFLECTED = 16, SYLVESTER = 6, BINS = 8, MOST = 64 };

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
        r.n_layers = o->layers ? o->layers : 1;
        return nf_ffjord(d, &r);
    case NF_FAMILY_RESIDUAL:
        return nf_residual(d, &(nf_residual_options){.n_layers = o->layers ? o->layers : SYLVESTER,
                                                     .hidden = r.hidden,
                                                     .n_hidden = r.n_hidden,
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
