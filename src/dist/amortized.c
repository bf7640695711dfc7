/* A distribution whose parameters, for each sample, are a net's output:

       q(x | context) = q(x; theta),   theta = head(context).

   With a mixture of normals this is a mixture density network (Bishop 1994). The gradient of q in theta is the
   cotangent of the head's output. Child 0 is q, which is detached; child 1 is the head. The head reads the context with
   its far numbers clipped (nfi_read_rows), so that sums in the head are finite. */
#include "base/memory.h"
#include "dist/types.h"
#include "flows/combine/conditioned.h"
#include "object/parts.h"

/* What a pass leaves on the tape. */
typedef struct record {
    nf_real *given;    /* what the head gives [parameters x ld] */
    void *dist, *head; /* what q and the head saved */
} record;

/* Draws to `drawn`, or scores x if `drawn` is NULL. */
static nf_status run(const nf_object *o, const nf_pass *p, nf_real *drawn, const nf_real *x, double *log_q,
                     void **saved)
{
    const nf_object *q = o->children[NFI_TRANSFORM], *head = o->children[NFI_CONDITIONER];
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_arena *memory = nfi_saving_arena(p);
    record *r = nf_arena_alloc(memory, sizeof *r);
    const nf_real *in = nfi_read_rows(p, o->own.n_ctx, p->ctx);
    nf_real *given = nf_arena_reals(memory, nfi_steering_rows(o), p->ld);
    nf_status status = r && in && given ? NF_OK : NF_ENOMEM;
    if (status == NF_OK) {
        const nf_pass h = nfi_head_pass(o, p);
        *r = (record){.given = given};
        status = nf_net_apply(head, &h, in, given, &r->head);
    }
    if (status == NF_OK) {
        const nf_pass c = nfi_transform_pass(o, p, given);
        status = drawn ? nf_dist_sample(q, &c, drawn, log_q, &r->dist) : nf_dist_score(q, &c, x, log_q, &r->dist);
    }
    nf_arena_rewind(p->scratch, mark);
    if (p->tape)
        *saved = r;
    return status;
}

static nf_status sample(const nf_object *o, const nf_pass *p, nf_real *x, double *log_q, void **saved)
{
    return run(o, p, x, NULL, log_q, saved);
}

static nf_status score(const nf_object *o, const nf_pass *p, const nf_real *x, double *log_p, void **saved)
{
    return run(o, p, NULL, x, log_p, saved);
}

/* Takes the gradient in the parameters through the head, to the head's own and to the context. */
static nf_status pull_back(const nf_object *o, const nf_pass *p, const record *r, const nf_real *g_given,
                           const nf_grad *g)
{
    const nf_pass h = nfi_head_pass(o, p);
    const size_t n_ctx = o->own.n_ctx;
    nf_grad gh = nf_child_grad(o, NFI_CONDITIONER, p, g);
    gh.ctx = NULL;
    const nf_real *in = nfi_read_rows(p, n_ctx, p->ctx);
    nf_real *g_in = g->ctx ? nf_arena_reals(p->scratch, n_ctx, p->ld) : NULL;
    if (!in || (g->ctx && !g_in))
        return NF_ENOMEM;
    const nf_status status = nf_net_vjp(o->children[NFI_CONDITIONER], &h, in, r->given, r->head, g_given, g_in, &gh);
    for (size_t i = 0; g_in && status == NF_OK && i < n_ctx * p->ld; i++)
        g->ctx[i] += g_in[i];
    return status;
}

/* Of draws if their cotangent g_drawn is given, else of scores. */
static nf_status run_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const record *r,
                         const nf_real *g_drawn, const nf_real *g_log_q, nf_real *gx, const nf_grad *g)
{
    const nf_object *q = o->children[NFI_TRANSFORM];
    const nf_mark mark = nf_arena_mark(p->scratch);
    const nf_pass c = nfi_transform_pass(o, p, r->given);
    nf_real *g_given = nfi_zeros(p->scratch, nfi_steering_rows(o), p->ld);
    const nf_grad of_q = {.theta = g_given};
    nf_status status = NF_ENOMEM;
    if (g_given)
        status = g_drawn ? nf_dist_sample_vjp(q, &c, x, r->dist, g_drawn, g_log_q, &of_q)
                         : nf_dist_score_vjp(q, &c, x, r->dist, g_log_q, gx, &of_q);
    if (status == NF_OK)
        status = pull_back(o, p, r, g_given, g);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status sample_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *gx,
                            const nf_real *g_log_q, const nf_grad *g)
{
    return run_vjp(o, p, x, saved, gx, g_log_q, NULL, g);
}

static nf_status score_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *g_log_p,
                           nf_real *gx, const nf_grad *g)
{
    return run_vjp(o, p, x, saved, NULL, g_log_p, gx, g);
}

static nf_dist *rebuild(nf_reader *r)
{
    return nf_amortized_dist(nfi_read_dist(r, NFI_TRANSFORM, NULL),
                             nfi_read_net(r, NFI_CONDITIONER, "an amortised distribution"));
}

const nf_dist_type nfi_amortized_dist_type = {
    .part = {.name = "amortized_dist", .init = nfi_conditioned_init, .start_context = nfi_conditioned_start_context},
    .abi = sizeof(nf_dist_type),
    .sample = sample,
    .sample_vjp = sample_vjp,
    .score = score,
    .score_vjp = score_vjp,
    .rebuild = rebuild,
};

nf_dist *nf_amortized_dist(nf_dist *q, nf_net *head)
{
    static const char who[] = "nf_amortized_dist", what[] = "distribution";
    const nf_shape *s = nf_dist_shape(q), *h = nf_object_shape(nf_net_object(head));
    nf_object *const part[] = {nf_dist_object(q), nf_net_object(head)};
    if (!nfi_parts_given(who, 2, part, (const char *const[]){"q", "head"}))
        return NULL;
    if (nfi_check_amortised(s, who, what) == NF_OK && nfi_check_head(s, h, who, what) == NF_OK) {
        const nf_shape own = {.dim_in = s->dim_in,
                              .dim_out = s->dim_out,
                              .n_ctx = h->dim_in,
                              .n_saved = s->n_params + h->dim_in,
                              .flags = NFI_WRITES_GRADIENT};
        return nfi_dist_new_detached(&nfi_amortized_dist_type, &own, NULL, part, 2, 1);
    }
    nf_dist_free(q);
    nf_net_free(head);
    return NULL;
}
