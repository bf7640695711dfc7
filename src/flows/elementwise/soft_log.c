/* The hooks of the soft-log tail layer, which save nothing. The formulas, and the paper, are in
   soft_log_kernels.c. */
#include "flows/elementwise/soft_log.h"
#include "base/memory.h"
#include "flows/types.h"
#include "object/options.h"
#include "object/tree.h"

static nf_real threshold(const nf_object *o)
{
    return (nf_real)((const nf_soft_log_options *)nf_self(o))->threshold;
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    (void)saved;
    nfi_soft_log_map(d, nf_object_shape(o)->dim_in, p->ld, threshold(o), x, y, log_det);
    return NF_OK;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)y, (void)saved, (void)g;
    nfi_soft_log_scale(d, false, nf_object_shape(o)->dim_in, p->ld, threshold(o), x, gy, g_log_det, gx);
    return NF_OK;
}

static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    (void)y, (void)saved;
    nfi_soft_log_scale(d, true, nf_object_shape(o)->dim_in, p->ld, threshold(o), x, gx, NULL, gy);
    return NF_OK;
}

static const nf_option options_of_type[] = {{NF_OPTION(NF_OPTION_REAL, nf_soft_log_options, threshold), .most = 1e15,
                                             .flags = NF_OPTION_ABOVE, .help = "the identity up to |x| = threshold"}};
static const nf_soft_log_options defaults = {.threshold = 100};
static const nf_option_table table = NF_OPTION_TABLE("nf_soft_log", nf_soft_log_options, options_of_type, &defaults);

NFI_REBUILD(flow, nf_soft_log_options, nf_soft_log(nf_read_dim_in(r), q))

const nf_flow_type nfi_soft_log_type = {
    .part = {.name = "soft_log", .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_jt,
    .rebuild = rebuild,
    .options = &table,
};

nf_flow *nf_soft_log(size_t dim, const nf_soft_log_options *options)
{
    nf_soft_log_options q;
    if (dim == 0) {
        nf_error(NF_EARG, "nf_soft_log: `dim` is 0");
        return NULL;
    }
    if (nf_options_settle(&table, options, &q) != NF_OK)
        return NULL;
    nf_soft_log_options *self = nfi_calloc(1, sizeof *self);
    if (!self)
        return NULL;
    *self = q;
    const nf_shape own = {.dim_in = dim, .dim_out = dim, .flags = NF_PER_SAMPLE | NFI_SAVES_ALIKE};
    return nf_flow_new(&nfi_soft_log_type, &own, self, NULL, 0);
}
