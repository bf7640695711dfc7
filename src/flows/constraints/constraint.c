/* See constraint.h. */
#include "flows/constraints/constraint.h"

nf_status nfi_constraint_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                  const nf_real *y, void *saved, const nf_real *gx, nf_real *gy)
{
    (void)saved;
    const nf_mark mark = nf_arena_mark(p->scratch);
    const nf_real *no_log_det = nfi_zeros(p->scratch, 1, p->ld);
    const nf_flow_type *type = o->type;
    nf_status status = NF_ENOMEM;
    if (no_log_det)
        status = type->vjp(o, nfi_opposite(d), p, y, x, NULL, gx, no_log_det, gy, &(nf_grad){.theta = NULL});
    nf_arena_rewind(p->scratch, mark);
    return status;
}

nf_flow *nfi_constraint_new(const nf_flow_type *type, size_t dim_in, size_t dim_out, void *self)
{
    const nf_shape own = {.dim_in = dim_in, .dim_out = dim_out, .flags = NF_PER_SAMPLE | NFI_SAVES_ALIKE};
    return nf_flow_new(type, &own, self, NULL, 0);
}
