/* Multilayer perceptron: h_0 = (x, context), h_l = f(W_l h_(l-1) + b_l); and back by the chain rule:

       g_l = f'(h_l) gh_l,   gW_l += g_l h_(l-1)^T,   gb_l += sum g_l,   gh_(l-1) = W_l^T g_l.

   Kept on the tape: the hidden units h_1 .. h_(L-1), from which f' follows (activation.c). */
#include "nn/types.h"
#include "core/memory.h"
#include "nn/activation.h"
#include "nn/dense.h"
#include <math.h>
#include <stdio.h>

typedef struct mlp {
    size_t in, n_ctx, n_layers;
    size_t n_hidden_units, widest; /* sum of hidden widths; the widest layer, hidden or last */
    nf_activation activation, output;
    nf_initialisation init;
    double last_scale;
    size_t width[]; /* [n_layers + 1]: in, hidden widths, out */
} mlp;

static nf_activation unit_of(const mlp *m, size_t layer)
{
    return layer + 1 == m->n_layers ? m->output : m->activation;
}

static nfi_dense layer_of(const mlp *m, size_t layer)
{
    return (nfi_dense){.in = m->width[layer], .n_ctx = layer ? 0 : m->n_ctx, .out = m->width[layer + 1]};
}

static nf_status mlp_apply(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved)
{
    const mlp *m = nf_self(o);
    nf_arena *memory = p->tape ? p->tape : p->scratch;
    nf_mark mark = {0};
    nf_real *hidden = NULL; /* [n_hidden_units x ld], or by turns the halves of [2 widest x ld] */
    if (m->n_layers > 1) {
        mark = nf_arena_mark(memory);
        hidden = nf_arena_reals(memory, p->tape ? m->n_hidden_units : 2 * m->widest, p->ld);
        if (!hidden)
            return NF_ENOMEM;
        if (p->tape)
            *saved = hidden;
    }
    const nf_real *w = p->theta, *h = x;
    for (size_t l = 0, row = 0; l < m->n_layers; l++) {
        nfi_dense d = layer_of(m, l);
        nf_real *z = l + 1 < m->n_layers ? hidden + row * p->ld : y;
        nfi_dense_apply(&d, p, w, h, false, z);
        nfi_activate(unit_of(m, l), d.out, p->ld, w + nfi_dense_bias(&d), z);
        h = z;
        row = p->tape ? row + d.out : m->widest - row;
        w += nfi_dense_size(&d);
    }
    if (m->n_layers > 1 && !p->tape)
        nf_arena_rewind(memory, mark);
    return NF_OK;
}

static nf_status mlp_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                         const nf_real *gy, nf_real *gx, const nf_grad *g)
{
    const mlp *m = nf_self(o);
    size_t ld = p->ld;
    nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *gz = nf_arena_reals(p->scratch, m->widest, ld);
    nf_real *gh = nf_arena_reals(p->scratch, m->widest, ld);
    if (!gz || !gh) {
        nf_arena_rewind(p->scratch, mark);
        return NF_ENOMEM;
    }
    const nf_real *hidden = saved, *above = y, *g_above = gy;
    size_t at = nf_object_shape(o)->n_params, row = m->n_hidden_units;
    for (size_t l = m->n_layers; l-- > 0;) {
        nfi_dense d = layer_of(m, l);
        at -= nfi_dense_size(&d);
        nf_real *gw = g->theta ? g->theta + at : NULL, *below = l ? gh : gx;
        const nf_real *h = l ? hidden + (row -= d.in) * ld : x;
        nfi_activate_vjp(unit_of(m, l), d.out, ld, above, g_above, gz, gw ? gw + nfi_dense_bias(&d) : NULL);
        nfi_dense_vjp(&d, p, p->theta + at, h, gz, gw, below, g->ctx);
        above = h;
        g_above = below;
        gh = gz;
        gz = below;
    }
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

/* Each layer's noise is its own: the step names the layer. */
static nf_status mlp_init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta,
                          nf_real *state)
{
    (void)batch, (void)state;
    const mlp *m = nf_self(o);
    for (size_t l = 0; l < m->n_layers; l++) {
        nfi_dense d = layer_of(m, l);
        nf_noise layer = *noise;
        layer.step += l;
        nfi_dense_init(&d, m->init, unit_of(m, l), d.out, l + 1 == m->n_layers ? m->last_scale : 1, &layer, theta);
        theta += nfi_dense_size(&d);
    }
    return NF_OK;
}

static nf_status mlp_shift_output(const nf_object *o, const nf_real *shift, nf_real *theta)
{
    const mlp *m = nf_self(o);
    size_t out = m->width[m->n_layers];
    nf_real *bias = theta + nf_object_shape(o)->n_params - out; /* the last numbers */
    for (size_t i = 0; unit_of(m, m->n_layers - 1) == NF_IDENTITY && i < out; i++)
        bias[i] += shift[i];
    return NF_OK;
}

/* ---- structure ---- */

static nf_status mlp_describe(const nf_object *o, nf_writer *w)
{
    const mlp *m = nf_self(o);
    nf_status status = nf_write_integers(w, "hidden", m->n_layers - 1, m->width + 1);
    if (status == NF_OK)
        status = nf_write_integer(w, "activation", m->activation);
    if (status == NF_OK)
        status = nf_write_integer(w, "output", m->output);
    if (status == NF_OK)
        status = nf_write_integer(w, "init", m->init);
    if (status == NF_OK)
        status = nf_write_number(w, "last_scale", m->last_scale);
    return status;
}

static nf_net *mlp_rebuild(nf_reader *r)
{
    uint64_t activation = 0, output = 0, init = 0;
    double scale = 0;
    size_t n_hidden = nf_read_length(r, "hidden");
    size_t *hidden = nfi_calloc(n_hidden, sizeof *hidden);
    nf_net *net = NULL;
    if (hidden && nf_read_integers(r, "hidden", n_hidden, hidden) == NF_OK &&
        nf_read_integer(r, "activation", &activation) == NF_OK && nf_read_integer(r, "output", &output) == NF_OK &&
        nf_read_integer(r, "init", &init) == NF_OK && nf_read_number(r, "last_scale", &scale) == NF_OK) {
        if (activation > NF_IDENTITY || output > NF_IDENTITY || init > NF_INIT_SMALL)
            nf_error(NF_EFORMAT, "nf_load: an mlp's activation, output or init is unknown");
        else
            net = nf_mlp(nf_read_dim_in(r), nf_read_dim_out(r), nf_read_n_ctx(r),
                         &(nf_mlp_options){.hidden = hidden,
                                           .n_hidden = n_hidden,
                                           .activation = (nf_activation)activation,
                                           .output = (nf_activation)output,
                                           .init = (nf_initialisation)init,
                                           .last_scale = scale > 0 ? scale : -1});
    }
    nfi_free(hidden);
    return net;
}

static void mlp_slices(const nf_object *o, nf_slice_fn *each, void *user)
{
    const mlp *m = nf_self(o);
    char name[24];
    for (size_t l = 0, at = 0; l < m->n_layers; l++) {
        nfi_dense d = layer_of(m, l);
        snprintf(name, sizeof name, "%zu", l);
        nfi_dense_slices(&d, name, at, each, user);
        at += nfi_dense_size(&d);
    }
}

const nf_net_type nfi_mlp_type = {
    .part = {.name = "mlp", .init = mlp_init, .describe = mlp_describe, .slices = mlp_slices, .destroy = nfi_free},
    .abi = sizeof(nf_net_type),
    .apply = mlp_apply,
    .vjp = mlp_vjp,
    .shift_output = mlp_shift_output,
    .rebuild = mlp_rebuild,
};

static nf_status check(size_t in, size_t out, size_t n_ctx, const nf_mlp_options *options)
{
    if (in == 0 && n_ctx == 0)
        return nf_error(NF_EARG, "nf_mlp: `in` and `n_ctx` are both 0");
    if (out == 0)
        return nf_error(NF_EARG, "nf_mlp: `out` is 0");
    if (options->n_hidden && !options->hidden)
        return nf_error(NF_EARG, "nf_mlp: `hidden` is NULL, but n_hidden is %zu", options->n_hidden);
    for (size_t l = 0; l < options->n_hidden; l++)
        if (options->hidden[l] == 0)
            return nf_error(NF_EARG, "nf_mlp: hidden[%zu] is 0", l);
    if (options->activation > NF_IDENTITY || options->output > NF_IDENTITY)
        return nf_error(NF_EARG, "nf_mlp: unknown activation %d",
                        (int)(options->activation > NF_IDENTITY ? options->activation : options->output));
    if (options->init > NF_INIT_SMALL)
        return nf_error(NF_EARG, "nf_mlp: unknown initialisation %d", (int)options->init);
    if (!isfinite(options->last_scale))
        return nf_error(NF_EARG, "nf_mlp: `last_scale` is not finite");
    return NF_OK;
}

/* Sizes of all layers; false on overflow. */
static bool count(mlp *m, nf_shape *shape)
{
    bool fits = true;
    for (size_t l = 0; fits && l < m->n_layers; l++) {
        nfi_dense d = layer_of(m, l);
        fits = nfi_dense_count(&d, &shape->n_params);
        if (l + 1 < m->n_layers)
            fits = fits && nfi_add(m->n_hidden_units, d.out, &m->n_hidden_units);
        m->widest = d.out > m->widest ? d.out : m->widest;
    }
    shape->n_saved = m->n_hidden_units;
    return fits;
}

nf_net *nf_mlp(size_t in, size_t out, size_t n_ctx, const nf_mlp_options *options)
{
    static const nf_mlp_options defaults;
    if (!options)
        options = &defaults;
    if (check(in, out, n_ctx, options) != NF_OK)
        return NULL;
    size_t bytes;
    if (!nfi_mul(options->n_hidden, sizeof(size_t), &bytes) ||
        !nfi_add(bytes, sizeof(mlp) + 2 * sizeof(size_t), &bytes)) {
        nf_error(NF_EARG, "nf_mlp: the sizes overflow");
        return NULL;
    }
    mlp *m = nfi_calloc(1, bytes);
    if (!m)
        return NULL;
    m->in = in;
    m->n_ctx = n_ctx;
    m->n_layers = options->n_hidden + 1;
    m->activation = options->activation;
    m->output = options->output == NF_RELU ? NF_IDENTITY : options->output;
    m->init = options->init;
    m->last_scale = options->last_scale > 0 ? options->last_scale : options->last_scale < 0 ? 0 : 1;
    m->width[0] = in;
    for (size_t l = 0; l < options->n_hidden; l++)
        m->width[l + 1] = options->hidden[l];
    m->width[m->n_layers] = out;
    nf_shape shape = {.dim_in = in, .dim_out = out, .n_ctx = n_ctx};
    if (!count(m, &shape)) {
        nf_error(NF_EARG, "nf_mlp: the sizes overflow");
        nfi_free(m);
        return NULL;
    }
    return nf_net_new(&nfi_mlp_type, &shape, m, NULL, 0);
}
