/* Nets of convolutions as objects: names of tensors, options, model files, and the constructor. */
#include "nn/conv_net.h"
#include "nn/options.h"
#include "nn/types.h"
#include "object/tree.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- names ---- */

static void slices(const nf_object *o, nf_slice_fn *each, void *user)
{
    const nfi_conv_net *m = nf_self(o);
    for (size_t l = 0; l < m->n_layers; l++) {
        const nfi_conv_layer s = nfi_conv_layer_of(m, l);
        const size_t out = s.c.out, weight[4] = {out, s.c.side, s.c.side, s.c.in}, context[2] = {out, s.n_ctx};
        const size_t one = 1;
        char layer[64], name[80];
        if (!nfi_conv_is_residual(m))
            snprintf(layer, sizeof layer, "%zu", l);
        else if (l == 0 || s.is_last)
            snprintf(layer, sizeof layer, "%s_layer", l ? "final" : "initial");
        else
            snprintf(layer, sizeof layer, "blocks.%zu.layers.%zu", (l - 1) / 2, (l - 1) % 2);
#define NAME(tensor, at, rank, extents)                      \
    do {                                                     \
        snprintf(name, sizeof name, "%s.%s", layer, tensor); \
        each(user, name, at, rank, extents);                 \
    } while (0)
        NAME("weight", s.weight, 4, weight);
        if (s.n_ctx)
            NAME("context", s.context, 2, context);
        NAME("bias", s.bias, 1, &out);
        if (s.scale_kind)
            NAME("scale", s.scale, 1, &out);
        if (s.gate > s.beta)
            NAME("beta", s.beta, 1, &one);
#undef NAME
        const nfi_dense gate = nfi_conv_gate(m, &s);
        snprintf(name, sizeof name, "%s.gate", layer);
        if (s.has_gate)
            nfi_dense_slices(&gate, name, s.gate, each, user);
    }
}

/* A channel has one bias for all pixels, so it moves only if all its pixels are to move alike. Where the bias is
   scaled, so is the shift. */
static nf_status shift_output(const nf_object *o, const nf_real *shift, nf_real *theta)
{
    const nfi_conv_net *m = nf_self(o);
    const nfi_conv_layer s = nfi_conv_layer_of(m, m->n_layers - 1);
    const size_t pixels = nfi_count_pixels(&m->grid, m->options.out_pixels), n = m->options.n_per_feature;
    for (size_t c = 0; c < s.c.out; c++) {
        const nf_real *of_channel = shift + c / n * pixels * n + c % n;
        bool alike = true;
        for (size_t p = 1; p < pixels; p++)
            alike = alike && of_channel[p * n] == of_channel[0];
        if (alike && s.scale_kind == NFI_EXP_SCALE)
            theta[s.bias + c] += (nf_real)((double)of_channel[0] * exp(-NFI_CONV_SCALE * (double)theta[s.scale + c]));
        else if (alike)
            theta[s.bias + c] += of_channel[0];
    }
    return NF_OK;
}

/* ---- options and model files ---- */

static const char *const pixels[] = {[NF_ALL_PIXELS] = "all", [NF_EVEN_PIXELS] = "even", [NF_ODD_PIXELS] = "odd"};
static const char *const norms[] = {
    [NF_CONV_FREE] = "free", [NF_CONV_WEIGHT_NORM] = "weight_norm", [NF_CONV_ACTNORM] = "actnorm"};
static const nf_choices colours = NFI_CHOICES("pixels", pixels), norm_choices = NFI_CHOICES("norm", norms);

static const nf_option options_of_type[] = {
    {NFI_HIDDEN_OPTION(nf_conv_options)},
    {NF_OPTION_LIST(NF_OPTION_SIZES, nf_conv_options, kernel), .least = 1, .most = NFI_LONGEST_SIDE,
     .help = "sides of the kernels, odd"},
    {NF_OPTION(NF_OPTION_SIZE, nf_conv_options, n_blocks), .help = "residual blocks"},
    {NFI_UNIT_OPTION(nf_conv_options, activation, "of hidden units")},
    {NF_OPTION(NF_OPTION_BOOL, nf_conv_options, gated), .help = "whether hidden units are gated"},
    {NF_OPTION(NF_OPTION_CHOICE, nf_conv_options, norm), .choices = &norm_choices, .help = "of the weights"},
    {NFI_INIT_OPTION(nf_conv_options)},
    {NFI_LAST_SCALE_OPTION(nf_conv_options)},
    {NF_OPTION(NF_OPTION_BOOL, nf_conv_options, learnt_scale), .help = "whether the last layer has a learnt scale"},
    {NF_OPTION(NF_OPTION_CHOICE, nf_conv_options, in_pixels), .choices = &colours, .help = "the pixels that x has"},
    {NF_OPTION(NF_OPTION_CHOICE, nf_conv_options, out_pixels), .choices = &colours, .help = "the pixels that y has"},
    {NF_OPTION(NF_OPTION_SIZE, nf_conv_options, n_per_feature), .least = 1, .flags = NF_OPTION_ADDED,
     .help = "channels of y that stand beside one another"},
    {NF_OPTION(NF_OPTION_SIZE, nf_conv_options, ctx_channels), .flags = NF_OPTION_ADDED,
     .help = "channels of the image that the context begins with"},
    {NF_OPTION(NF_OPTION_REAL, nf_conv_options, dropout), .most = 1, .flags = NF_OPTION_BELOW | NF_OPTION_ADDED,
     .help = "share of dropped units"},
};
static const nf_conv_options defaults = {.activation = NF_RELU, .last_scale = 1, .n_per_feature = 1};
static const nf_option_table table = NF_OPTION_TABLE("nf_conv_net", nf_conv_options, options_of_type, &defaults);

/* The field `image` is channels, height, width. */
static nf_status describe(const nf_object *o, nf_writer *w)
{
    const nfi_conv_net *m = nf_self(o);
    const size_t image[3] = {m->in.channels, m->in.height, m->in.width};
    nf_status status = nf_write_integers(w, "image", 3, image);
    if (status == NF_OK)
        status = nf_write_integer(w, "out_channels", m->out_channels);
    return status == NF_OK ? nf_options_write(w, &table, &m->options) : status;
}

static nf_net *rebuild(nf_reader *r)
{
    size_t image[3];
    uint64_t out;
    if (nf_read_integers(r, "image", 3, image) != NF_OK || nf_read_integer(r, "out_channels", &out) != NF_OK)
        return NULL;
    const nf_conv_options *q = nf_options_read(r, &table);
    return q ? nf_conv_net((nf_image){image[0], image[1], image[2]}, (size_t)out, nf_read_n_ctx(r), q) : NULL;
}

/* Only a net with scales prepares anything. Both kinds have one name in files, and the first is in the list of types.
 */
#define TYPE(...)                                                                          \
    {                                                                                      \
        .part = {.name = "conv_net",                                                       \
                 .init = nfi_conv_net_init,                                                \
                 .describe = describe,                                                     \
                 .slices = slices,                                                         \
                 .destroy = nfi_free,                                                      \
                 __VA_ARGS__},                                                             \
        .abi = sizeof(nf_net_type), .apply = nfi_conv_net_apply, .vjp = nfi_conv_net_vjp,  \
        .shift_output = shift_output, .rebuild = rebuild, .tangent = nfi_conv_net_tangent, \
        .tangent_vjp = nfi_conv_net_tangent_vjp, .options = &table,                        \
    }
const nf_net_type nfi_conv_net_type = TYPE(.prepare = NULL);
static const nf_net_type scaled_type = TYPE(.prepare = nfi_conv_net_prepare, .prepare_vjp = nfi_conv_net_prepare_vjp);

/* ---- construction ---- */

/* What no single option says. */
static nf_status check(const nf_image *in, size_t out_channels, size_t n_ctx, const nf_conv_options *q)
{
    size_t image;
    const char *who = table.function;
    const size_t sides = q->n_blocks ? 3 : q->n_hidden + 1;
    if (!in->channels || !in->height || !in->width)
        return nf_error(NF_EARG, "%s: `in` has %zu channels of %zu x %zu pixels, but no size may be 0", who,
                        in->channels, in->height, in->width);
    if (!out_channels)
        return nf_error(NF_EARG, "%s: `out_channels` is 0", who);
    if (out_channels % q->n_per_feature)
        return nf_error(NF_EARG, "%s: `out_channels` is %zu, which is no multiple of `n_per_feature`, %zu", who,
                        out_channels, q->n_per_feature);
    if (q->n_blocks && q->n_hidden != 1)
        return nf_error(NF_EARG, "%s: `n_hidden` is %zu, but with residual blocks it must be 1", who, q->n_hidden);
    if (q->n_blocks && q->gated)
        return nf_error(NF_EARG, "%s: `gated` is true, but units of residual blocks cannot be gated", who);
    if (q->gated && q->activation != NF_RELU) /* the default */
        return nf_error(NF_EARG, "%s: `activation` is %d, but hidden units are gated and have none", who,
                        (int)q->activation);
    if (q->n_kernel && q->n_kernel != sides)
        return nf_error(NF_EARG, "%s: `n_kernel` is %zu, but the net has kernels of %zu sides", who, q->n_kernel,
                        sides);
    for (size_t i = 0; i < q->n_kernel; i++)
        if (q->kernel[i] % 2 == 0)
            return nf_error(NF_EARG, "%s: kernel[%zu] is %zu, but sides must be odd", who, i, q->kernel[i]);
    if (in->height == 1 && in->width == 1 && q->out_pixels == NF_ODD_PIXELS)
        return nf_error(NF_EARG, "%s: `out_pixels` is odd, but an image of one pixel has none", who);
    if (q->ctx_channels &&
        (!nfi_mul(in->height, in->width, &image) || !nfi_mul(image, q->ctx_channels, &image) || image > n_ctx))
        return nf_error(NF_EARG, "%s: `ctx_channels` is %zu, of %zu x %zu pixels each, but `n_ctx` is %zu", who,
                        q->ctx_channels, in->height, in->width, n_ctx);
    return NF_OK;
}

/* Copies the hidden widths and the kernels' sides to m->list. */
static void copy_lists(nfi_conv_net *m)
{
    nf_conv_options *q = &m->options;
    size_t *side = m->list + q->n_hidden;
    const size_t sides = q->n_blocks ? 3 : q->n_hidden + 1;
    if (q->n_hidden)
        memcpy(m->list, q->hidden, q->n_hidden * sizeof *m->list);
    for (size_t i = 0; i < sides; i++)
        side[i] = q->n_kernel ? q->kernel[i] : i == 0 || i + 1 == sides || q->n_blocks ? 3 : 1;
    q->hidden = m->list;
    q->kernel = side;
    q->n_kernel = sides;
}

static bool count_channels(const nfi_conv_net *m, size_t channels, nf_pixels which, size_t *features)
{
    return nfi_mul(channels, nfi_count_pixels(&m->grid, which), features);
}

/* Counts all sizes; false on overflow. */
static bool count(nfi_conv_net *m, nf_shape *s)
{
    const size_t blocks = m->options.n_blocks;
    size_t largest, size = 0, before = 0;
    bool fits = nfi_mul(m->in.height, m->in.width, &size) && nfi_add(size, 1, &size);
    m->grid = nfi_grid_of(&m->in);
    fits = fits && count_channels(m, m->in.channels, m->options.in_pixels, &s->dim_in) &&
           count_channels(m, m->out_channels, m->options.out_pixels, &s->dim_out);
    m->widest = m->read > m->out_channels ? m->read : m->out_channels;
    for (size_t i = 0; i < m->options.n_hidden; i++) {
        fits = fits && nfi_mul(m->list[i], m->pieces, &largest);
        m->widest = fits && largest > m->widest ? largest : m->widest;
    }
    /* No layer keeps more than 6 arrays of its units. */
    fits = fits && nfi_mul(m->widest, m->grid.pixels, &size) && nfi_mul(size, 6, &size) &&
           nfi_mul(size, m->n_layers, &size);
    for (size_t l = 0; fits && l < (blocks ? 3 : m->n_layers); l++) {
        nfi_conv_layer layer = nfi_conv_structure(m, l);
        fits = nfi_conv_place(m, &layer, before);
        before = l == 0 && blocks ? 0 : layer.end; /* of residual nets: the numbers of a block */
        s->n_params = l == 0 ? layer.end : s->n_params;
    }
    if (fits && blocks) {
        nfi_conv_layer last = nfi_conv_structure(m, m->n_layers - 1);
        fits = nfi_mul(before, blocks, &size) && nfi_add(s->n_params, size, &size) && nfi_conv_place(m, &last, size);
        before = last.end;
    }
    s->n_params = before;
    if (fits)
        s->n_saved = nfi_conv_kept_before(m, m->n_layers - 1);
    return fits;
}

nf_net *nf_conv_net(nf_image in, size_t out_channels, size_t n_ctx, const nf_conv_options *options)
{
    nf_conv_options q;
    size_t bytes, n_layers, read;
    if (nf_options_settle(&table, options, &q) != NF_OK || check(&in, out_channels, n_ctx, &q) != NF_OK)
        return NULL;
    if (!nfi_add(in.channels, q.ctx_channels, &read) || !nfi_mul(q.n_hidden, 2 * sizeof(size_t), &bytes) ||
        !nfi_add(bytes, sizeof(nfi_conv_net) + 3 * sizeof(size_t), &bytes) ||
        !(q.n_blocks ? nfi_mul(q.n_blocks, 2, &n_layers) && nfi_add(n_layers, 2, &n_layers)
                     : nfi_add(q.n_hidden, 1, &n_layers))) {
        nf_error(NF_EARG, "nf_conv_net: the sizes overflow");
        return NULL;
    }
    nfi_conv_net *m = nfi_calloc(1, bytes);
    if (!m)
        return NULL;
    m->options = q;
    m->in = in;
    m->out_channels = out_channels;
    m->read = read;
    m->n_ctx = n_ctx - q.ctx_channels * in.height * in.width;
    m->n_layers = n_layers;
    m->pieces = q.gated ? 2 : 1;
    m->is_scaled = q.norm != NF_CONV_FREE || q.learnt_scale;
    copy_lists(m);
    nf_shape shape = {.n_ctx = n_ctx, .n_sites = q.dropout > 0 ? (uint32_t)(n_layers - 1) : 0};
    if (n_layers > UINT32_MAX || !count(m, &shape)) {
        nf_error(NF_EARG, "nf_conv_net: the sizes overflow");
        nfi_free(m);
        return NULL;
    }
    if (m->is_scaled)
        shape.n_prep = shape.n_params;
    else
        shape.flags = NFI_WRITES_GRADIENT;
    return nf_net_new(m->is_scaled ? &scaled_type : &nfi_conv_net_type, &shape, m, NULL, 0);
}
