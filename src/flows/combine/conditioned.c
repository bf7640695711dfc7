/* y = T(x; theta), theta = net(in, context), or y = T(x; theta, c), c = net(in, context). The transform's gradient in
   what the net gives [features x ld] is the cotangent of the net's output,

       g_in = (d theta / d in)^T g_theta,   g_theta = (dT/dtheta)^T gy + g_log_det d(log_det)/dtheta,

   and likewise for c. */
#include "flows/combine/conditioned.h"
#include "base/memory.h"
#include "math/rows.h"

#ifdef NF_SINGLE
static const nf_real most_read = 0x1p60f;
#else
static const nf_real most_read = 0x1p500;
#endif

typedef struct record {
    const nf_real *given;  /* [nfi_steering_rows x ld] */
    void *transform, *net; /* what the transform and the net saved */
} record;

/* Whether the net gives the transform's parameters. If not, it gives the transform's context. */
static bool gives_parameters(const nf_object *o)
{
    return o->place[NFI_TRANSFORM].detached;
}

nf_status nfi_check_amortised(const nf_shape *s, const char *who, const char *what)
{
    if (!(s->flags & NF_PER_SAMPLE))
        return nf_error(NF_EUNSUPPORTED, "%s: the %s cannot take its parameters per sample (NF_PER_SAMPLE)", who, what);
    if (s->n_ctx)
        return nf_error(NF_EDIM, "%s: the %s reads %zu features of context of its own, but may read none", who, what,
                        s->n_ctx);
    if (s->n_params == 0)
        return nf_error(NF_EARG, "%s: the %s has no parameters", who, what);
    if (s->n_state)
        return nf_error(NF_EUNSUPPORTED, "%s: the %s has state, which cannot be amortised", who, what);
    return NF_OK;
}

nf_status nfi_check_transform(const nf_shape *s, const char *who)
{
    return nfi_check_amortised(s, who, "flow");
}

nf_status nfi_check_input(const nf_shape *net, const char *who, const char *name)
{
    if (net->dim_in == 0 || net->n_ctx)
        return nf_error(NF_EDIM,
                        "%s: the %s must read the context as its input, but takes %zu features and %zu of context", who,
                        name, net->dim_in, net->n_ctx);
    return NF_OK;
}

nf_status nfi_check_head(const nf_shape *s, const nf_shape *h, const char *who, const char *what)
{
    if (h->dim_out != s->n_params)
        return nf_error(NF_EDIM, "%s: the head gives %zu features, but the %s has %zu parameters", who, h->dim_out,
                        what, s->n_params);
    return nfi_check_input(h, who, "head");
}

nf_status nfi_check_reader(const nf_shape *s, const char *who)
{
    return s->n_ctx ? NF_OK : nf_error(NF_EDIM, "%s: the flow reads no context, which the net should give", who);
}

size_t nfi_steering_rows(const nf_object *o)
{
    const nf_shape *s = &o->children[NFI_TRANSFORM]->total;
    return gives_parameters(o) ? s->n_params : s->n_ctx;
}

nf_pass nfi_transform_pass(const nf_object *o, const nf_pass *p, const nf_real *given)
{
    nf_pass c = nf_child_pass(o, NFI_TRANSFORM, p);
    if (!gives_parameters(o)) {
        c.ctx = given;
        return c;
    }
    c.theta = given;
    c.theta_stride = 1;
    c.state = c.prep = c.ctx = NULL;
    return c;
}

nf_pass nfi_head_pass(const nf_object *o, const nf_pass *p)
{
    nf_pass c = nf_child_pass(o, NFI_CONDITIONER, p);
    c.ctx = NULL;
    return c;
}

nf_grad nfi_transform_grad(const nf_object *o, const nf_pass *p, const nf_grad *g, nf_real *g_given)
{
    if (gives_parameters(o))
        return (nf_grad){.theta = g_given};
    nf_grad c = nf_child_grad(o, NFI_TRANSFORM, p, g);
    c.ctx = g_given;
    return c;
}

nf_status nfi_transform_start(const nf_object *o, const nf_noise *noise, nf_real *given)
{
    nf_noise moved = *noise;
    moved.site += o->place[NFI_TRANSFORM].site;
    return gives_parameters(o) ? nfi_tree_init(o->children[NFI_TRANSFORM], &moved, NULL, given, NULL)
                               : nf_start_context(o->children[NFI_TRANSFORM], &moved, given);
}

nf_status nfi_conditioned_init_net(const nf_object *o, const nf_noise *noise, const nf_batch *read, size_t copies,
                                   nf_real *theta, nf_real *state)
{
    const size_t rows = nfi_steering_rows(o);
    nf_status status = nf_init_child(o, NFI_CONDITIONER, noise, read, theta, state);
    nf_real *start = nfi_calloc(copies * rows, sizeof *start);
    if (!start)
        return NF_ENOMEM;
    if (status == NF_OK)
        status = nfi_transform_start(o, noise, start);
    for (size_t i = rows; i < copies * rows; i++)
        start[i] = start[i - rows];
    if (status == NF_OK)
        status = nfi_shift_child(o, NFI_CONDITIONER, start, theta);
    nfi_free(start);
    return status;
}

nf_status nfi_conditioned_init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta,
                               nf_real *state)
{
    (void)batch;
    const nf_status status = nfi_conditioned_init_net(o, noise, NULL, 1, theta, state);
    return status == NF_OK ? nf_init_child(o, NFI_TRANSFORM, noise, NULL, theta, state) : status;
}

nf_status nfi_init_steered(const nf_object *o, const nf_noise *noise, const nf_batch *batch, const nf_real *in,
                           nf_real *theta, nf_real *state)
{
    nf_arena memory = {.n_chunks = 0};
    nf_batch steered = *batch;
    nf_pass net;
    void *unused = NULL;
    nf_real *given = nf_arena_reals(&memory, nfi_steering_rows(o), batch->ld);
    nf_status status = given ? nfi_init_pass(o, NFI_CONDITIONER, noise, batch, theta, state, &memory, &net) : NF_ENOMEM;
    if (status == NF_OK)
        status = nf_net_apply(o->children[NFI_CONDITIONER], &net, in, given, &unused);
    steered.ctx = given;
    if (status == NF_OK)
        status = nf_init_child(o, NFI_TRANSFORM, noise, &steered, theta, state);
    nfi_arena_clear(&memory);
    return status;
}

nf_status nfi_conditioned_start_context(const nf_object *o, const nf_noise *noise, nf_real *ctx)
{
    (void)o, (void)noise, (void)ctx;
    return NF_OK;
}

void nfi_readable(size_t count, const nf_real *x, nf_real *to)
{
    nfi_clip(count, most_read, x, to);
}

const nf_real *nfi_read_rows(const nf_pass *p, size_t rows, const nf_real *x)
{
    nf_real *copy = nf_arena_reals(p->scratch, rows, p->ld);
    if (copy)
        nfi_readable(rows * p->ld, x, copy);
    return copy;
}

nf_status nfi_conditioner_pass(const nf_object *o, const nf_pass *p, nf_pass *net)
{
    const size_t n_ctx = o->children[NFI_CONDITIONER]->total.n_ctx;
    *net = nf_child_pass(o, NFI_CONDITIONER, p);
    if (n_ctx)
        net->ctx = nfi_read_rows(p, n_ctx, p->ctx);
    return n_ctx && !net->ctx ? NF_ENOMEM : NF_OK;
}

nf_status nfi_conditioned_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_pass *net,
                                const nf_real *in, const nf_real *x, nf_real *y, double *log_det, void **saved)
{
    const nf_object *transform = o->children[NFI_TRANSFORM];
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_arena *memory = nfi_saving_arena(p);
    record *r = nf_arena_alloc(memory, sizeof *r);
    nf_real *given = nf_arena_reals(memory, nfi_steering_rows(o), p->ld);
    if (!r || !given)
        return NF_ENOMEM;
    *r = (record){.given = given};
    nf_status status = nf_net_apply(o->children[NFI_CONDITIONER], net, in, given, &r->net);
    const nf_pass c = nfi_transform_pass(o, p, given);
    if (status == NF_OK)
        status = nf_flow_apply(transform, d, &c, x, y, log_det, &r->transform);
    nf_arena_rewind(p->scratch, mark);
    if (p->tape)
        *saved = r;
    return status;
}

nf_status nfi_conditioned_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_pass *net,
                              const nf_real *in, const nf_real *x, const nf_real *y, void *saved, const nf_real *gy,
                              const nf_real *g_log_det, nf_real *gx, nf_real *g_in, const nf_grad *g,
                              const nf_grad *g_net)
{
    const record *r = saved;
    const nf_object *transform = o->children[NFI_TRANSFORM];
    const nf_mark mark = nf_arena_mark(p->scratch);
    const nf_pass c = nfi_transform_pass(o, p, r->given);
    const bool wanted = g_in || g_net->theta || g_net->prep || g_net->ctx || g_net->stats;
    nf_real *g_given = wanted ? nfi_zeros(p->scratch, nfi_steering_rows(o), p->ld) : NULL;
    if (wanted && !g_given)
        return NF_ENOMEM;
    const nf_grad gt = nfi_transform_grad(o, p, g, g_given);
    nf_status status = nf_flow_vjp(transform, d, &c, x, y, r->transform, gy, g_log_det, gx, &gt);
    if (status == NF_OK && wanted)
        status = nf_net_vjp(o->children[NFI_CONDITIONER], net, in, r->given, r->net, g_given, g_in, g_net);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

nf_status nfi_conditioned_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                   const nf_real *y, void *saved, const nf_real *gx, nf_real *gy)
{
    const record *r = saved;
    const nf_pass c = nfi_transform_pass(o, p, r->given);
    return nf_flow_solve_jt(o->children[NFI_TRANSFORM], d, &c, x, y, r->transform, gx, gy);
}
