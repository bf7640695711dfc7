/* See stages.h. Opened are pushforwards, chains, inverses and parts of a context, as far as they contain the continuous
   flow. Everything beside the way to it is one stage as it stands. */
#include "density/stages.h"
#include "base/memory.h"
#include "dist/types.h"
#include "flows/compose.h"
#include "flows/types.h"
#include <string.h>

static bool is(const nf_object *o, const void *type)
{
    return o->type == type;
}

static size_t count_fields(const nf_object *o)
{
    size_t n = is(o, &nfi_continuous_type);
    for (size_t i = 0; i < o->n_children; i++)
        n += count_fields(o->children[i]);
    return n;
}

static bool is_opened(const nf_object *o)
{
    return is(o, &nfi_pushforward_type) || is(o, &nfi_chain_type) || is(o, &nfi_invert_type) ||
           is(o, &nfi_on_context_type);
}

/* Child i as a stage. Its direction is the parent's, unless the parent is an inverse. */
static nfi_stage child_of(const nfi_stage *parent, size_t i)
{
    const nfi_place *at = &parent->o->place[i];
    nfi_stage c = *parent;
    c.o = parent->o->children[i];
    c.theta += at->theta;
    c.state += at->state;
    c.prep += at->prep;
    c.site += at->site;
    if (is(parent->o, &nfi_invert_type))
        c.d = nfi_opposite(parent->d);
    if (is(parent->o, &nfi_on_context_type))
        c.ctx += nfi_on_context_first(parent->o);
    return c;
}

/* Appends the stages of a node. Where there is no room yet (s->stage is NULL), they are counted. Returns NULL, or the
   node that has the field inside but is not opened. */
static const nf_object *append(const nfi_stage *node, nfi_stages *s)
{
    const nf_object *o = node->o;
    const bool field = is(o, &nfi_continuous_type), open = !field && count_fields(o) > 0;
    if (open && !is_opened(o))
        return o;
    if (!open && o->kind == NFI_DIST) {
        s->base = *node;
        return NULL;
    }
    if (!open) {
        if (field)
            s->field = s->n;
        if (s->stage)
            s->stage[s->n] = *node;
        s->n++;
        return NULL;
    }
    const nf_object *closed = NULL;
    for (size_t k = 0; k < o->n_children && !closed; k++) {
        const nfi_stage c = child_of(node, node->d == NF_FORWARD ? k : o->n_children - 1 - k);
        closed = append(&c, s);
    }
    return closed;
}

nf_status nfi_stages_of(const nf_object *dist, const char *who, nfi_stages *s)
{
    const nfi_stage root = {.o = dist, .d = NF_FORWARD};
    const size_t fields = count_fields(dist);
    *s = (nfi_stages){.n = 0};
    if (fields != 1) {
        const nf_object *inside = dist->n_children ? dist->children[dist->n_children - 1] : NULL;
        return nf_error(NF_EUNSUPPORTED, "%s: the model, `%s`%s%s%s, has %zu continuous flows, but must have one", who,
                        dist->part->name, inside ? " with `" : "", inside ? inside->part->name : "", inside ? "`" : "",
                        fields);
    }
    const nf_object *closed = append(&root, s);
    if (closed)
        return nf_error(NF_EUNSUPPORTED,
                        "%s: the continuous flow is inside `%s`, but may only be in pushforward, chain, invert and "
                        "on_context",
                        who, closed->part->name);
    if (!((const nf_dist_type *)s->base.o->type)->sample)
        return nf_error(NF_EUNSUPPORTED, "%s: the base, `%s`, cannot sample", who, s->base.o->part->name);
    s->stage = nfi_calloc(s->n, sizeof *s->stage);
    if (!s->stage)
        return NF_ENOMEM;
    s->n = 0;
    append(&root, s);
    return NF_OK;
}

void nfi_stages_free(nfi_stages *s)
{
    nfi_free(s->stage);
    *s = (nfi_stages){.n = 0};
}

nf_pass nfi_stage_pass(const nfi_stage *stage, const nf_pass *root)
{
    nf_pass p = *root;
    p.theta = root->theta ? root->theta + stage->theta : NULL;
    p.state = root->state ? root->state + stage->state : NULL;
    p.prep = root->prep ? root->prep + stage->prep : NULL;
    p.ctx = root->ctx ? root->ctx + stage->ctx * root->ld : NULL;
    p.noise.site += stage->site;
    return p;
}

nf_grad nfi_stage_grad(const nfi_stage *stage, const nf_grad *root)
{
    nf_grad g = *root;
    g.theta = root->theta ? root->theta + stage->theta : NULL;
    g.prep = root->prep ? root->prep + stage->prep : NULL;
    g.stats = root->stats ? root->stats + stage->state : NULL;
    return g;
}

/* A pass in which nothing is trained. */
static nf_pass at_rest(const nfi_stage *stage, const nf_pass *root)
{
    nf_pass p = nfi_stage_pass(stage, root);
    p.mode = NF_EVAL;
    p.tape = NULL;
    p.log_det_total = p.log_weight = NULL;
    return p;
}

/* Takes x through `count` stages, of which the k-th is stage[first + k] or, going back, stage[first - k]. */
static nf_status through(const nfi_stages *s, const nf_pass *root, size_t first, size_t count, bool back,
                         const nf_real *x, nf_real *y)
{
    const nf_mark mark = nf_arena_mark(root->scratch);
    nf_status status = NF_OK;
    for (size_t k = 0; k < count && status == NF_OK; k++) {
        const nfi_stage *stage = &s->stage[back ? first - k : first + k];
        const nf_direction d = back ? nfi_opposite(stage->d) : stage->d;
        const nf_pass p = at_rest(stage, root);
        nf_real *to = k + 1 < count ? nf_arena_reals(p.scratch, nfi_rows_out(stage->o, d), p.ld) : y;
        status = to ? nf_flow_apply(stage->o, d, &p, x, to, NULL, NULL) : NF_ENOMEM;
        x = to;
    }
    nf_arena_rewind(root->scratch, mark);
    return status;
}

nf_status nfi_stages_draw(const nfi_stages *s, const nf_pass *root, nf_real *x0)
{
    const nf_pass p = at_rest(&s->base, root);
    if (s->field == 0)
        return nf_dist_sample(s->base.o, &p, x0, NULL, NULL);
    const nf_mark mark = nf_arena_mark(p.scratch);
    nf_real *z = nf_arena_reals(p.scratch, s->base.o->total.dim_out, p.ld);
    nf_status status = z ? nf_dist_sample(s->base.o, &p, z, NULL, NULL) : NF_ENOMEM;
    if (status == NF_OK)
        status = through(s, root, 0, s->field, false, z, x0);
    nf_arena_rewind(p.scratch, mark);
    return status;
}

nf_status nfi_stages_take_back(const nfi_stages *s, const nf_pass *root, const nf_real *x, nf_real *x1)
{
    const nfi_stage *field = &s->stage[s->field];
    if (s->field + 1 == s->n) {
        memcpy(x1, x, nfi_rows_out(field->o, field->d) * root->ld * sizeof *x1);
        return NF_OK;
    }
    return through(s, root, s->n - 1, s->n - 1 - s->field, true, x, x1);
}
