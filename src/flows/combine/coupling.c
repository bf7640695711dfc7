/* Coupling layer (Dinh et al. 2014, eq. 7; 2017, eqs. 4-8; Durkan et al. 2019, sec. 3). Some of the rows, a, pass
   unchanged and determine how the other rows, b, are transformed:

       y_a = x_a,   y_b = T(x_b; theta),   theta = net(x_a, context),   log|det dy/dx| = log|det dT/dx_b|.

   The inverse does the same with T^-1, since x_a = y_a is known. With g_theta the transform's gradient in theta,

       gx_b = T_b^T gy_b + g_log_det d(log_det)/dx_b,   gx_a = gy_a + (d theta / d x_a)^T g_theta.

   J = [1 0; T_a T_b] is block triangular. So J^-T u has v = T_b^-T u_b in the rows b, and u_a - T_a^T v in the rows a.

   The net may give the transform's context instead of its parameters, which are then among the tree's numbers
   (flows/combine/conditioned.h). */
#include "base/memory.h"
#include "flows/combine/conditioned.h"
#include "flows/types.h"
#include <nflow/combine.h>
#include <string.h>

/* Some of the rows of a tile, in ascending order. If they are consecutive, a pointer serves as well as a copy. */
typedef struct rows {
    size_t n;
    const size_t *row; /* [n] */
    bool consecutive;
} rows;

typedef struct coupling {
    size_t dim;
    rows a, b;
    size_t number[]; /* [dim]: the rows of a, then those of b; [dim]: the mask */
} coupling;

static const size_t *mask_of(const coupling *c)
{
    return c->number + c->dim;
}

static void copy_rows(const rows *r, size_t ld, const nf_real *from, nf_real *to)
{
    for (size_t i = 0; i < r->n; i++)
        memcpy(to + r->row[i] * ld, from + r->row[i] * ld, ld * sizeof *to);
}

/* Memory for the rows: in `tile` itself, or on scratch until put_rows copies them. NULL if there is no memory. */
static nf_real *place_rows(const rows *r, const nf_pass *p, nf_real *tile)
{
    if (r->consecutive)
        return tile + (r->n ? r->row[0] : 0) * p->ld;
    return nf_arena_reals(p->scratch, r->n, p->ld);
}

static void put_rows(const rows *r, const nf_pass *p, const nf_real *packed, nf_real *tile)
{
    for (size_t i = 0; !r->consecutive && i < r->n; i++)
        memcpy(tile + r->row[i] * p->ld, packed + i * p->ld, p->ld * sizeof *tile);
}

/* The rows of `tile`, one after the other [n x ld]. */
static const nf_real *get_rows(const rows *r, const nf_pass *p, const nf_real *tile)
{
    if (r->consecutive)
        return tile + (r->n ? r->row[0] : 0) * p->ld;
    nf_real *packed = nf_arena_reals(p->scratch, r->n, p->ld);
    for (size_t i = 0; packed && i < r->n; i++)
        memcpy(packed + i * p->ld, tile + r->row[i] * p->ld, p->ld * sizeof *packed);
    return packed;
}

/* The rows of `tile` as the net reads them [n x ld], on scratch. NULL if there is no memory. */
static const nf_real *read_rows(const rows *r, const nf_pass *p, const nf_real *tile)
{
    nf_real *packed = nf_arena_reals(p->scratch, r->n, p->ld);
    for (size_t i = 0; packed && i < r->n; i++)
        nfi_readable(p->ld, tile + r->row[i] * p->ld, packed + i * p->ld);
    return packed;
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    const coupling *c = o->self;
    const nf_mark mark = nf_arena_mark(p->scratch);
    const nf_pass net = nf_child_pass(o, NFI_CONDITIONER, p);
    const nf_real *x_a = read_rows(&c->a, p, x), *x_b = get_rows(&c->b, p, x);
    nf_real *y_b = place_rows(&c->b, p, y);
    if (!x_a || !x_b || !y_b)
        return NF_ENOMEM;
    copy_rows(&c->a, p->ld, x, y);
    nf_status status = nfi_conditioned_apply(o, d, p, &net, x_a, x_b, y_b, log_det, saved);
    put_rows(&c->b, p, y_b, y);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

/* The VJPs of the transform and of the net, at cotangents gy_b and g_log_det. Gives gx_b, and g_a, the part of the
   cotangent of x_a that comes through the net. */
static nf_status pull_back(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                           void *saved, const nf_real *gy_b, const nf_real *g_log_det, nf_real *gx_b, nf_real *g_a,
                           const nf_grad *g)
{
    const coupling *c = o->self;
    const nf_pass net = nf_child_pass(o, NFI_CONDITIONER, p);
    const nf_grad g_net = nf_child_grad(o, NFI_CONDITIONER, p, g);
    const nf_real *x_a = read_rows(&c->a, p, x), *x_b = get_rows(&c->b, p, x), *y_b = get_rows(&c->b, p, y);
    if (!x_a || !x_b || !y_b)
        return NF_ENOMEM;
    return nfi_conditioned_vjp(o, d, p, &net, x_a, x_b, y_b, saved, gy_b, g_log_det, gx_b, c->a.n ? g_a : NULL, g,
                               &g_net);
}

/* In the rows a: gx = gy + sign g_a. */
static void add_to_passed(const rows *a, size_t ld, nf_real sign, const nf_real *g_a, const nf_real *gy, nf_real *gx)
{
    for (size_t i = 0; i < a->n; i++)
        for (size_t s = 0, at = a->row[i] * ld; s < ld; s++)
            gx[at + s] = gy[at + s] + sign * g_a[i * ld + s];
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    const coupling *c = o->self;
    const nf_mark mark = nf_arena_mark(p->scratch);
    const nf_real *gy_b = get_rows(&c->b, p, gy);
    nf_real *gx_b = place_rows(&c->b, p, gx), *g_a = nf_arena_reals(p->scratch, c->a.n, p->ld);
    if (!gy_b || !gx_b || !g_a)
        return NF_ENOMEM;
    nf_status status = pull_back(o, d, p, x, y, saved, gy_b, g_log_det, gx_b, g_a, g);
    if (status == NF_OK) {
        put_rows(&c->b, p, gx_b, gx);
        add_to_passed(&c->a, p->ld, 1, g_a, gy, gx);
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    const coupling *c = o->self;
    const nf_mark mark = nf_arena_mark(p->scratch);
    const nf_real *x_b = get_rows(&c->b, p, x), *y_b = get_rows(&c->b, p, y), *gx_b = get_rows(&c->b, p, gx);
    const nf_real *no_log_det = nfi_zeros(p->scratch, 1, p->ld);
    nf_real *v = place_rows(&c->b, p, gy), *g_a = nf_arena_reals(p->scratch, c->a.n, p->ld);
    nf_real *unused = nf_arena_reals(p->scratch, c->b.n, p->ld);
    if (!x_b || !y_b || !gx_b || !no_log_det || !v || !g_a || !unused)
        return NF_ENOMEM;
    nf_status status = nfi_conditioned_solve_jt(o, d, p, x_b, y_b, saved, gx_b, v);
    if (status == NF_OK && c->a.n)
        status = pull_back(o, d, p, x, y, saved, v, no_log_det, unused, g_a, &(nf_grad){.theta = NULL});
    if (status == NF_OK) {
        put_rows(&c->b, p, v, gy);
        add_to_passed(&c->a, p->ld, -1, g_a, gx, gy);
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

/* For a coupling by context, whose transform has numbers of its own. The transform gets the rows that it is to
   transform. */
static nf_status init_by_context(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta,
                                 nf_real *state)
{
    if (!batch)
        return nfi_conditioned_init(o, noise, NULL, theta, state);
    const coupling *c = o->self;
    nf_arena memory = {.n_chunks = 0};
    const nf_pass p = {.n = batch->n, .ld = batch->ld, .scratch = &memory};
    const nf_real *x_a = read_rows(&c->a, &p, batch->x), *x_b = get_rows(&c->b, &p, batch->x);
    nf_batch rows_b = *batch;
    rows_b.x = x_b;
    nf_status status = x_a && x_b ? nfi_conditioned_init_net(o, noise, 1, theta, state) : NF_ENOMEM;
    if (status == NF_OK)
        status = nfi_init_steered(o, noise, &rows_b, x_a, theta, state);
    nfi_arena_clear(&memory);
    return status;
}

/* ---- structure ---- */

static nf_status describe(const nf_object *o, nf_writer *w)
{
    const coupling *c = o->self;
    return nf_write_integers(w, "mask", c->dim, mask_of(c));
}

typedef nf_flow *constructor(size_t dim, const unsigned char *mask, nf_flow *transform, nf_net *net);

static nf_flow *rebuild_as(nf_reader *r, constructor *make)
{
    const size_t dim = nf_read_length(r, "mask");
    size_t *numbers = nfi_calloc(dim, sizeof *numbers);
    unsigned char *mask = nfi_calloc(dim, sizeof *mask);
    nf_flow *f = NULL;
    bool good = numbers && mask && nf_read_integers(r, "mask", dim, numbers) == NF_OK;
    for (size_t i = 0; i < dim && good; i++) {
        good = numbers[i] <= 1 || nf_error(NF_EFORMAT, "item %zu of the field 'mask' is neither 0 nor 1", i) == NF_OK;
        mask[i] = (unsigned char)numbers[i];
    }
    if (good) {
        nf_flow *transform = nfi_read_flow(r, NFI_TRANSFORM);
        f = make(dim, mask, transform, nfi_read_net(r, NFI_CONDITIONER, "a coupling"));
    }
    nfi_free(numbers);
    nfi_free(mask);
    return f;
}

static nf_flow *rebuild(nf_reader *r)
{
    return rebuild_as(r, nf_coupling);
}

static nf_flow *rebuild_by_context(nf_reader *r)
{
    return rebuild_as(r, nf_coupling_by_context);
}

const nf_flow_type nfi_coupling_type = {
    .part = {.name = "coupling", .init = nfi_conditioned_init, .describe = describe, .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_jt,
    .rebuild = rebuild,
};

const nf_flow_type nfi_coupling_by_context_type = {
    .part = {.name = "coupling_by_context",
             .init = init_by_context,
             .start_context = nfi_conditioned_start_context,
             .describe = describe,
             .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_jt,
    .rebuild = rebuild_by_context,
};

/* What differs between the two ways in which the net steers the transform. */
typedef struct way {
    const char *who;
    const nf_flow_type *type;
    nf_status (*check)(const nf_shape *transform, const char *who);
    size_t n_detached;
    const char *given; /* name of what the net gives, for messages */
} way;
static const way by_parameters = {"nf_coupling", &nfi_coupling_type, nfi_check_transform, 1, "parameters"};
static const way by_context = {"nf_coupling_by_context", &nfi_coupling_by_context_type, nfi_check_reader, 0,
                               "rows of context"};

static size_t wanted_rows(const way *w, const nf_shape *t)
{
    return w->n_detached ? t->n_params : t->n_ctx;
}

static nf_status check(const way *w, size_t dim, size_t n_b, const nf_shape *t, const nf_shape *net)
{
    if (n_b == 0)
        return nf_error(NF_EARG, "%s: the mask transforms none of the %zu rows", w->who, dim);
    if (w->check(t, w->who) != NF_OK)
        return nf_error_status();
    if (t->dim_in != n_b || t->dim_out != n_b)
        return nf_error(NF_EDIM, "%s: the mask transforms %zu rows, but the flow takes %zu and gives %zu", w->who, n_b,
                        t->dim_in, t->dim_out);
    if (net->dim_in != dim - n_b)
        return nf_error(NF_EDIM, "%s: the mask passes %zu of %zu rows, but the net takes %zu", w->who, dim - n_b, dim,
                        net->dim_in);
    if (net->dim_out != wanted_rows(w, t))
        return nf_error(NF_EDIM, "%s: the net gives %zu rows, but the flow has %zu %s", w->who, net->dim_out,
                        wanted_rows(w, t), w->given);
    return NF_OK;
}

/* The rows number[0 .. n-1], which are ascending. */
static rows rows_from(const size_t *number, size_t n)
{
    return (rows){.n = n, .row = number, .consecutive = n == 0 || number[n - 1] - number[0] == n - 1};
}

static coupling *new_coupling(const way *w, size_t dim, const unsigned char *mask, size_t n_b)
{
    size_t count, bytes;
    if (!nfi_mul(dim, 2, &count) || !nfi_mul(count, sizeof(size_t), &bytes) ||
        !nfi_add(bytes, sizeof(coupling), &bytes)) {
        nf_error(NF_EARG, "%s: the sizes overflow", w->who);
        return NULL;
    }
    coupling *c = nfi_calloc(1, bytes);
    if (!c)
        return NULL;
    size_t *a = c->number, *b = c->number + (dim - n_b);
    for (size_t i = 0; i < dim; i++) {
        c->number[dim + i] = mask[i] != 0;
        *(mask[i] ? b++ : a++) = i;
    }
    c->dim = dim;
    c->a = rows_from(c->number, dim - n_b);
    c->b = rows_from(c->number + (dim - n_b), n_b);
    return c;
}

static nf_flow *build(const way *w, size_t dim, const unsigned char *mask, nf_flow *transform, nf_net *net)
{
    const nf_shape *t = nf_flow_shape(transform), *n = nf_object_shape(nf_net_object(net));
    size_t n_b = 0;
    for (size_t i = 0; mask && i < dim; i++)
        n_b += mask[i] != 0;
    coupling *c = NULL;
    if (!mask)
        nf_error(NF_EARG, "%s: `mask` is NULL", w->who);
    else if (transform && net && check(w, dim, n_b, t, n) == NF_OK)
        c = new_coupling(w, dim, mask, n_b);
    if (c) {
        const nf_shape own = {.dim_in = dim,
                              .dim_out = dim,
                              .n_ctx = n->n_ctx,
                              .n_saved = wanted_rows(w, t),
                              .flags = NFI_WRITES_GRADIENT};
        return nfi_flow_new_detached(w->type, &own, c, (nf_object *[]){nf_flow_object(transform), nf_net_object(net)},
                                     2, w->n_detached);
    }
    nf_flow_free(transform);
    nf_net_free(net);
    return NULL;
}

nf_flow *nf_coupling(size_t dim, const unsigned char *mask, nf_flow *transform, nf_net *net)
{
    return build(&by_parameters, dim, mask, transform, net);
}

nf_flow *nf_coupling_by_context(size_t dim, const unsigned char *mask, nf_flow *transform, nf_net *net)
{
    return build(&by_context, dim, mask, transform, net);
}
