/*
 * The ladder's rungs, each able to do more than the one before. A posterior that is nearly normal needs the first
 * alone, so that is short; the last is for what little is left.
 */
#include "vi/rungs.h"
#include "vi/family.h"

static const nfi_rung ladder[NFI_RUNGS] = {
    {.name = "full-rank normal", .family = NF_FAMILY_FULL_RANK, .draws = 100, .steps = 1000, .rate = 0.02},
    {.name = "flow on a t",
     .family = NF_FAMILY_REALNVP,
     .t = true,
     .layers = 6,
     .width = 16,
     .draws = 100,
     .steps = 2000,
     .rate = 0.01},
    {.name = "larger flow on a t",
     .family = NF_FAMILY_REALNVP,
     .t = true,
     .layers = 10,
     .width = 32,
     .draws = 200,
     .steps = 6000,
     .rate = 0.005},
};
/* The same in many dimensions: what does not grow with their square. One scale that many effects have in common is
   found by autoregressive nets, some of whose units see the first features alone; nets of couplings may miss it. */
static const nfi_rung ladder_of_many[NFI_RUNGS] = {
    {.name = "low-rank normal", .family = NF_FAMILY_LOW_RANK, .draws = 100, .steps = 1000, .rate = 0.02},
    {.name = "IAF on a t",
     .family = NF_FAMILY_IAF,
     .t = true,
     .layers = 2,
     .width = 16,
     .draws = 100,
     .steps = 2000,
     .rate = 0.01},
    {.name = "larger IAF on a t",
     .family = NF_FAMILY_IAF,
     .t = true,
     .layers = 4,
     .width = 32,
     .draws = 200,
     .steps = 3000,
     .rate = 0.005},
};

static const char *const names[] = {[NF_FAMILY_MEAN_FIELD] = "mean-field normal",
                                    [NF_FAMILY_LOW_RANK] = "low-rank normal",
                                    [NF_FAMILY_FULL_RANK] = "full-rank normal",
                                    [NF_FAMILY_PLANAR] = "planar flow on a t",
                                    [NF_FAMILY_RADIAL] = "radial flow on a t",
                                    [NF_FAMILY_SYLVESTER] = "Sylvester flow on a t",
                                    [NF_FAMILY_IAF] = "IAF on a t",
                                    [NF_FAMILY_REALNVP] = "Real NVP on a t",
                                    [NF_FAMILY_NSF] = "spline flow on a t",
                                    [NF_FAMILY_FFJORD] = "FFJORD on a t",
                                    [NF_FAMILY_RESIDUAL] = "residual flow on a t"};

const nfi_rung *nfi_rung_of_ladder(size_t k, bool full)
{
    return (full ? ladder : ladder_of_many) + k;
}

nfi_rung nfi_rung_of_family(nf_family family, bool own_flow)
{
    const bool normal = nfi_family_is_normal(family);
    const nf_family like = own_flow && !normal ? NF_FAMILY_REALNVP : family;
    return (nfi_rung){.name = names[family],
                      .family = family,
                      .t = !normal,
                      .steps = nfi_family_steps(like),
                      .rate = nfi_family_rate(like)};
}
