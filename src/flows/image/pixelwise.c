/* A flow of channels, applied to each pixel of an image. Features are in the order [channels][pixels], so a tile
   [channels pixels x ld] is a tile of `channels` features whose samples are the pixels, [channels x (pixels ld)]:

       y[., p, s] = f(x[., p, s])   for each pixel p and sample s,   log|det dy/dx| = sum over p of log|det df|.

   Of nf_actnorm(channels) this is Glow's actnorm, of nf_lu_linear(channels) its invertible 1x1 convolution (Kingma &
   Dhariwal 2018, table 1): one product, with matrices that are prepared once a step. Every pixel has ld samples,
   padding included: it repeats a sample, and its cotangents are 0. */
#include "base/kernel.h"
#include "base/memory.h"
#include "flows/compose.h"
#include "flows/types.h"
#include "object/parts.h"
#include <nflow/image.h>
#include <string.h>

typedef struct pixelwise {
    size_t pixels;
} pixelwise;

static size_t pixels_of(const nf_object *o)
{
    const pixelwise *c = nf_self(o);
    return c->pixels;
}

/* out [rows x pixels ld] = x [rows x ld] for each pixel, from `a`. NULL if there is no memory. */
static nf_real *repeat(nf_arena *a, size_t rows, size_t pixels, size_t ld, const nf_real *x)
{
    nf_real *out = nf_arena_reals(a, rows, pixels * ld);
    for (size_t i = 0; out && i < rows * pixels; i++)
        memcpy(out + i * ld, x + i / pixels * ld, ld * sizeof *out);
    return out;
}

/* The child's pass over all pixels, with memory from scratch; false if there is none. */
static bool begin(const nf_object *o, const nf_pass *p, nf_pass *c)
{
    const size_t pixels = pixels_of(o);
    *c = nf_child_pass(o, 0, p);
    c->n = c->ld = pixels * p->ld;
    c->noise.first_sample *= pixels; /* names that no other tile has */
    c->noise.column = NULL;
    c->log_det_total = c->log_weight = NULL;
    c->g_log_weight = NULL;
    c->failed = NULL;
    c->penalty = NULL;
    if (p->g_penalty)
        c->g_penalty = repeat(p->scratch, 1, pixels, p->ld, p->g_penalty);
    if (p->ctx)
        c->ctx = repeat(p->scratch, o->own.n_ctx, pixels, p->ld, p->ctx);
    return (!p->ctx || c->ctx) && (!p->g_penalty || c->g_penalty);
}

/* to [ld] += the sum over pixels of from [pixels x ld]. */
static void add_pixels(size_t pixels, size_t ld, const double *from, double *to)
{
    for (size_t i = 0; i < pixels; i++)
        for (size_t s = 0; s < ld; s++)
            to[s] += from[i * ld + s];
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_pass c;
    const size_t pixels = pixels_of(o), ld = p->ld;
    double *of_pixel = nfi_zero_doubles(p->scratch, 2 * pixels * ld),
           *penalty = of_pixel ? of_pixel + pixels * ld : NULL;
    nf_status status = of_pixel && begin(o, p, &c) ? NF_OK : NF_ENOMEM;
    if (status == NF_OK) {
        c.penalty = p->penalty ? penalty : NULL;
        status = nf_flow_apply(nf_child(o, 0), d, &c, x, y, of_pixel, saved);
    }
    if (status == NF_OK)
        add_pixels(pixels, ld, of_pixel, log_det);
    if (status == NF_OK && p->penalty)
        add_pixels(pixels, ld, penalty, p->penalty);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    const size_t pixels = pixels_of(o), ld = p->ld;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_pass c;
    nf_grad gc = nf_child_grad(o, 0, p, g);
    nf_real *g_of_pixel = repeat(p->scratch, 1, pixels, ld, g_log_det);
    gc.ctx = g->ctx ? nfi_zeros(p->scratch, o->own.n_ctx, pixels * ld) : NULL;
    nf_status status = g_of_pixel && (gc.ctx || !g->ctx) && begin(o, p, &c) ? NF_OK : NF_ENOMEM;
    if (status == NF_OK)
        status = nf_flow_vjp(nf_child(o, 0), d, &c, x, y, saved, gy, g_of_pixel, gx, &gc);
    for (size_t i = 0; g->ctx && i < o->own.n_ctx * pixels && status == NF_OK; i++)
        for (size_t s = 0; s < ld; s++)
            g->ctx[i / pixels * ld + s] += gc.ctx[i * ld + s];
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_pass c;
    const nf_status status = begin(o, p, &c) ? nf_flow_solve_jt(nf_child(o, 0), d, &c, x, y, saved, gx, gy) : NF_ENOMEM;
    nf_arena_rewind(p->scratch, mark);
    return status;
}

/* to [rows x ld'] = the pixels of all samples of from [rows pixels x ld], without the padding between them. */
static nf_real *gather(nf_arena *a, size_t rows, size_t pixels, const nf_batch *from, const nf_real *x, bool each_pixel,
                       size_t ld)
{
    nf_real *out = nf_arena_reals(a, rows, ld);
    for (size_t r = 0; out && r < rows; r++)
        for (size_t i = 0; i < ld; i++) {
            const size_t k = i < pixels * from->n ? i : pixels * from->n - 1, pixel = k / from->n;
            out[r * ld + i] = x[(each_pixel ? r * pixels + pixel : r) * from->ld + k % from->n];
        }
    return out;
}

/* The child begins from the pixels of all samples. */
static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    if (!batch)
        return nf_init_child(o, 0, noise, NULL, theta, state);
    const size_t pixels = pixels_of(o), n_ctx = o->own.n_ctx, n = pixels * batch->n;
    nf_arena memory = {.n_chunks = 0};
    nf_batch b = {.n = n, .ld = (n + NFI_LANES - 1) / NFI_LANES * NFI_LANES, .direction = batch->direction};
    b.x = gather(&memory, nfi_rows_in(nf_child(o, 0), b.direction), pixels, batch, batch->x, true, b.ld);
    b.ctx = n_ctx && batch->ctx ? gather(&memory, n_ctx, pixels, batch, batch->ctx, false, b.ld) : NULL;
    nf_status status = b.x && (b.ctx || !n_ctx || !batch->ctx) ? NF_OK : NF_ENOMEM;
    if (status == NF_OK)
        status = nf_init_child(o, 0, noise, &b, theta, state);
    nfi_arena_clear(&memory);
    return status;
}

static nf_status describe(const nf_object *o, nf_writer *w)
{
    return nf_write_integer(w, "pixels", pixels_of(o));
}

static nf_flow *rebuild(nf_reader *r)
{
    uint64_t pixels = 0;
    return nf_read_integer(r, "pixels", &pixels) == NF_OK ? nf_pixelwise(nfi_read_flow(r, 0, NULL), (size_t)pixels)
                                                          : NULL;
}

const nf_flow_type nfi_pixelwise_type = {
    .part = {.name = "pixelwise", .init = init, .describe = describe, .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_jt,
    .rebuild = rebuild,
};

/* Whether a node of the tree has statistics, which it divides by the number of samples. */
static bool counts_samples(const nf_object *o)
{
    bool found = o->part->end_step != NULL;
    for (size_t i = 0; i < o->n_children && !found; i++)
        found = counts_samples(o->children[i]);
    return found;
}

nf_flow *nf_pixelwise(nf_flow *f, size_t pixels)
{
    nf_object *const part[] = {nf_flow_object(f)};
    if (!nfi_parts_given("nf_pixelwise", 1, part, (const char *const[]){"f"}))
        return NULL;
    const nf_shape *s = nf_flow_shape(f);
    nf_shape own = {.n_ctx = s->n_ctx, .flags = NFI_WRITES_GRADIENT};
    const size_t more = pixels - 1; /* than the child counts itself */
    pixelwise *self = NULL;
    if (pixels == 0 || !nfi_mul(s->dim_in, pixels, &own.dim_in) || !nfi_mul(s->dim_out, pixels, &own.dim_out) ||
        !nfi_mul(s->n_saved, more, &own.n_saved))
        nf_error(NF_EARG, "nf_pixelwise: a flow of %zu features for %zu pixels", s->dim_out, pixels);
    else if (s->flags & NF_STOCHASTIC || counts_samples(nf_flow_object(f)))
        nf_error(NF_EUNSUPPORTED, "nf_pixelwise: `%s` has noise or running statistics for each sample, not each pixel",
                 nf_object_name(nf_flow_object(f)));
    else
        self = nfi_calloc(1, sizeof *self);
    if (!self) {
        nf_flow_free(f);
        return NULL;
    }
    self->pixels = pixels;
    return nf_flow_new(&nfi_pixelwise_type, &own, self, part, 1);
}
