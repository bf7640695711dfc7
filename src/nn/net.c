/* Tile calls of nets: from the node to its type's functions. */
#include "core/tree.h"

static const nf_net_type *type_of(const nf_object *o, const char *who)
{
    if (o && o->kind == NFI_NET)
        return o->type;
    nf_error(NF_EARG, "%s: `net` is %s", who, o ? "not a net" : "NULL");
    return NULL;
}

nf_status nf_net_apply(const nf_object *net, const nf_pass *p, const nf_real *x, nf_real *y, void **saved)
{
    void *none = NULL;
    const nf_net_type *type = type_of(net, "nf_net_apply");
    return type ? type->apply(net, p, x, y, saved ? saved : &none) : NF_EARG;
}

nf_status nf_net_vjp(const nf_object *net, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                     const nf_real *gy, nf_real *gx, const nf_grad *g)
{
    const nf_net_type *type = type_of(net, "nf_net_vjp");
    if (!type)
        return NF_EARG;
    const nf_grad own = nfi_grad_of(net, g);
    return type->vjp(net, p, x, y, saved, gy, gx, &own);
}
