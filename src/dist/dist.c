/* Distributions: calls for a tile go to the type's hook. If a hook is NULL, the distribution does not offer that
   operation. */
#include "base/memory.h"
#include "object/tree.h"
#include "dist/types.h"

static const nf_dist_type *type_of(const nf_object *dist)
{
    return dist->type;
}

static nf_status refuse(const nf_object *dist, const char *what)
{
    return nf_error(NF_EUNSUPPORTED, "distribution `%s` cannot %s", dist->part->name, what);
}

nf_status nf_dist_sample(const nf_object *dist, const nf_pass *p, nf_real *x, double *log_q, void **saved)
{
    const nf_dist_type *t = type_of(dist);
    void *none = NULL;
    if (!t->sample)
        return refuse(dist, "sample");
    const nf_mark mark = nf_arena_mark(p->scratch);
    log_q = log_q ? log_q : nfi_zero_doubles(p->scratch, p->ld);
    nf_status status = log_q ? t->sample(dist, p, x, log_q, saved ? saved : &none) : NF_ENOMEM;
    nf_arena_rewind(p->scratch, mark);
    return status;
}

nf_status nf_dist_sample_vjp(const nf_object *dist, const nf_pass *p, const nf_real *x, void *saved, const nf_real *gx,
                             const nf_real *g_log_q, const nf_grad *g)
{
    const nf_dist_type *t = type_of(dist);
    const nf_grad own = nfi_grad_of(dist, g);
    return t->sample_vjp ? t->sample_vjp(dist, p, x, saved, gx, g_log_q, &own)
                         : refuse(dist, "give reparameterised gradients of its samples");
}

nf_status nf_dist_score(const nf_object *dist, const nf_pass *p, const nf_real *x, double *log_p, void **saved)
{
    const nf_dist_type *t = type_of(dist);
    void *none = NULL;
    return t->score ? t->score(dist, p, x, log_p, saved ? saved : &none) : refuse(dist, "score");
}

nf_status nf_dist_score_vjp(const nf_object *dist, const nf_pass *p, const nf_real *x, void *saved,
                            const nf_real *g_log_p, nf_real *gx, const nf_grad *g)
{
    const nf_dist_type *t = type_of(dist);
    const nf_grad own = nfi_grad_of(dist, g);
    return t->score_vjp ? t->score_vjp(dist, p, x, saved, g_log_p, gx, &own) : refuse(dist, "give gradients of scores");
}

nf_status nfi_sample_vjp_none(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *gx,
                              const nf_real *g_log_q, const nf_grad *g)
{
    (void)o, (void)p, (void)x, (void)saved, (void)gx, (void)g_log_q, (void)g;
    return NF_OK;
}
