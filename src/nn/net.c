/* Calls of nets on a tile: from the node to the functions of its type. */
#include "base/memory.h"
#include "object/tree.h"
#include <string.h>

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

/* Checks a call for tangents: NF_EARG or NF_EUNSUPPORTED, with a message. */
static nf_status check_tangent(const nf_object *net, bool has_hook, size_t k, const char *who)
{
    if (!has_hook)
        return nf_error(NF_EUNSUPPORTED, "%s: nets of type `%s` have no tangent map", who, net->part->name);
    return k ? NF_OK : nf_error(NF_EARG, "%s: `k` is 0, but there must be a direction", who);
}

nf_status nf_net_tangent(const nf_object *net, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                         size_t k, const nf_real *dx, nf_real *dy, void **saved_tangent)
{
    static const char who[] = "nf_net_tangent";
    const nf_net_type *type = type_of(net, who);
    nf_status status = type ? check_tangent(net, type->tangent, k, who) : NF_EARG;
    return status == NF_OK ? type->tangent(net, p, x, y, saved, k, dx, dy, saved_tangent) : status;
}

nf_status nf_net_tangent_vjp(const nf_object *net, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                             size_t k, const nf_real *dx, const nf_real *dy, void *saved_tangent, const nf_real *gy,
                             const nf_real *gdy, nf_real *gx, nf_real *gdx, const nf_grad *g)
{
    static const char who[] = "nf_net_tangent_vjp";
    const nf_net_type *type = type_of(net, who);
    nf_status status = type ? check_tangent(net, type->tangent_vjp, k, who) : NF_EARG;
    if (status != NF_OK)
        return status;
    const nf_mark mark = nf_arena_mark(p->scratch);
    if (!gy) {
        const size_t rows = net->total.dim_out;
        nf_real *zeros = nf_arena_reals(p->scratch, rows, p->ld);
        if (!zeros)
            return NF_ENOMEM;
        gy = memset(zeros, 0, rows * p->ld * sizeof *zeros);
    }
    const nf_grad own = nfi_grad_of(net, g);
    status = type->tangent_vjp(net, p, x, y, saved, k, dx, dy, saved_tangent, gy, gdy, gx, gdx, &own);
    nf_arena_rewind(p->scratch, mark);
    return status;
}
