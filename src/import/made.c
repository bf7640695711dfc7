/* MADE of nflows and normflows, whose code has a common origin (github.com/bayesiains/nsf), in autoregressive layers:

       initial_layer.{weight, bias, mask, degrees}, context_layer.{weight, bias}
       blocks.K.linear.                           feed-forward: nflows z = f(W f(z_0) + b) ..., f also after the first
                                                  layer; normflows without this one, so that its first two layers are
   one blocks.K.linear_layers.{0, 1}.             residual: z += W2 f(W1 f(z) + b1) + b2 blocks.K.context_layer.
   normflows: the gate of what a block adds, as in nf_masked_net(); nflows: added inside of the block final_layer.
   degrees has the ranks of the features, counted from 1

   The context of nflows enters as f(Wc c + bc) after the first layer. So the masked net reads e = f(Wc c + bc), which a
   perceptron makes of c. What residual blocks add inside, they read from the stream: its units of degree 0 hold
   relu(c) and relu(-c), and Wc c = Wc relu(c) - Wc relu(-c). This needs f = ReLU. */
#include "import/import.h"
#include <math.h>
#include <string.h>

typedef struct made {
    const char *prefix;
    size_t dim, width, n_ctx, n_blocks, n_layers;
    nfi_linear **layer, **gate;
    nfi_linear *context; /* context_layer; then what makes the context that the masked net reads */
    bool residual;
} made;

/* The layer with rows and columns behind those that it has, of numbers 0 and masked, or not. */
static nfi_linear *enlarged(nfi_import *im, const nfi_linear *l, size_t rows, size_t columns)
{
    nfi_linear *out = l ? nfi_new_linear(im, l->in + columns, l->out + rows, l->name, true) : NULL;
    for (size_t k = 0; out && k < l->out; k++) {
        out->b[k] = l->b[k];
        for (size_t j = 0; j < l->in; j++) {
            out->w[k * out->in + j] = l->w[k * l->in + j];
            out->mask[k * out->in + j] = l->mask ? l->mask[k * l->in + j] : 1;
        }
    }
    return out;
}

static void set(nfi_linear *l, size_t row, size_t column, double value)
{
    l->w[row * l->in + column] = value;
    l->mask[row * l->in + column] = 1;
}

/* normflows: the context is read by the first layer. */
static void context_beside(nfi_import *im, made *m)
{
    nfi_linear *first = enlarged(im, m->layer[0], 0, m->n_ctx);
    for (size_t k = 0; first && k < m->width; k++) {
        first->b[k] += m->context->b[k];
        for (size_t j = 0; j < m->n_ctx; j++)
            set(first, k, m->dim + j, m->context->w[k * m->n_ctx + j]);
    }
    m->layer[0] = first;
    m->context = NULL;
}

/* nflows without residual blocks: the first layer reads e. */
static void context_added(nfi_import *im, made *m)
{
    nfi_linear *first = enlarged(im, m->layer[0], 0, m->width);
    for (size_t k = 0; first && k < m->width; k++)
        set(first, k, m->dim + k, 1);
    m->layer[0] = first;
    m->n_ctx = m->width;
}

/* nflows with residual blocks: the context is e, relu(c), relu(-c), and the stream has 2 n units more. */
static void context_in_stream(nfi_import *im, made *m)
{
    const size_t n = m->n_ctx, width = m->width;
    nfi_linear *first = enlarged(im, m->layer[0], 2 * n, width + 2 * n), *context = enlarged(im, m->context, 2 * n, 0);
    if (im->options.activation != NF_ACTIVATION_DEFAULT && im->options.activation != NF_RELU)
        nfi_import_fail(im, NF_EUNSUPPORTED, "'%s...': residual blocks that read context need ReLU", m->prefix);
    for (size_t k = 0; first && k < width + 2 * n; k++)
        set(first, k, m->dim + k, 1);
    for (size_t j = 0; context && j < n; j++) {
        set(context, width + j, j, 1);
        set(context, width + n + j, j, -1);
    }
    m->layer[0] = first;
    m->context = context;
    for (size_t k = 0; k < m->n_blocks; k++) {
        nfi_linear *in = enlarged(im, m->layer[2 * k + 1], 0, 2 * n), *inner = m->gate[k];
        for (size_t i = 0; in && inner && i < width; i++) {
            in->b[i] += inner->b[i];
            for (size_t j = 0; j < n; j++) {
                set(in, i, width + j, inner->w[i * n + j]);
                set(in, i, width + n + j, -inner->w[i * n + j]);
            }
        }
        m->layer[2 * k + 1] = in;
        m->layer[2 * k + 2] = enlarged(im, m->layer[2 * k + 2], 2 * n, 0);
        m->gate[k] = nfi_new_linear(im, width + 2 * n, width + 2 * n, m->prefix, false);
        for (size_t i = 0; m->gate[k] && i < width + 2 * n; i++)
            m->gate[k]->b[i] = 64; /* sigmoid(64) is 1 in both precisions: gates are open */
    }
    m->layer[m->n_layers - 1] = enlarged(im, m->layer[m->n_layers - 1], 0, 2 * n);
    m->n_ctx = width + 2 * n;
}

/* Two layers with nothing between them. */
static nfi_linear *product(nfi_import *im, const nfi_linear *above, const nfi_linear *below)
{
    nfi_linear *l = nfi_new_linear(im, below->in, above->out, above->name, true);
    for (size_t i = 0; l && i < l->out; i++) {
        l->b[i] = above->b[i];
        for (size_t k = 0; k < above->in; k++)
            if (fabs(above->mask[i * above->in + k]) > 0) {
                const double w = above->w[i * above->in + k];
                l->b[i] += w * below->b[k];
                for (size_t j = 0; j < l->in; j++)
                    if (fabs(below->mask[k * l->in + j]) > 0)
                        set(l, i, j, l->w[i * l->in + j] + w * below->w[k * l->in + j]);
            }
    }
    return l;
}

static nfi_linear *masked(nfi_import *im, size_t in, size_t out, const char *prefix, const char *last)
{
    nfi_linear *l = nfi_take_linear(im, in, out, prefix, last);
    if (l && in != NFI_ANY && out != NFI_ANY) /* those of the ends are looked at */
        nfi_import_skip(im, l->name, "degrees");
    return l && !l->mask ? nfi_import_fail(im, NF_EFORMAT, "tensor '%smask' is missing", l->name) : l;
}

static void take_blocks(nfi_import *im, made *m)
{
    for (size_t k = 0; k < m->n_blocks && im->status == NF_OK; k++) {
        const char *block = nfi_name(im, "%sblocks.%zu.", m->prefix, k);
        if (nfi_import_has_any(im, block, "batch_norm"))
            nfi_import_fail(im, NF_EUNSUPPORTED, "'%sbatch_norm...': batch norm inside of nets", block);
        if (!m->residual) {
            m->layer[k + 1] = masked(im, m->width, m->width, block, "linear.");
            continue;
        }
        m->layer[2 * k + 1] = masked(im, m->width, m->width, block, "linear_layers.0.");
        m->layer[2 * k + 2] = masked(im, m->width, m->width, block, "linear_layers.1.");
        if (m->n_ctx)
            m->gate[k] = nfi_take_linear(im, m->n_ctx, m->width, block, "context_layer.");
    }
}

static void take_made(nfi_import *im, made *m)
{
    nfi_linear *first = masked(im, NFI_ANY, NFI_ANY, m->prefix, "initial_layer.");
    if (!first)
        return;
    m->dim = first->in;
    m->width = first->out;
    if (nfi_import_has_any(im, m->prefix, "context_layer."))
        m->context = nfi_take_linear(im, NFI_ANY, m->width, m->prefix, "context_layer.");
    m->n_ctx = m->context ? m->context->in : 0;
    m->residual = nfi_import_has_any(im, m->prefix, "blocks.0.linear_layers.");
    m->n_blocks = nfi_import_list(im, nfi_name(im, "%sblocks.", m->prefix),
                                  m->residual ? "linear_layers.0.weight" : "linear.weight", 1);
    m->n_layers = (m->residual ? 2 : 1) * m->n_blocks + 2;
    m->layer = nfi_import_memory(im, m->n_layers, sizeof *m->layer);
    m->gate = nfi_import_memory(im, m->n_blocks, sizeof *m->gate);
    if (!m->gate)
        return;
    m->layer[0] = first;
    take_blocks(im, m);
    m->layer[m->n_layers - 1] = masked(im, m->width, NFI_ANY, m->prefix, "final_layer.");
}

/* The rank of each feature, from the degrees of the outputs. */
static size_t *ranks_of(nfi_import *im, const made *m, size_t per_feature)
{
    size_t n = m->dim * per_feature;
    const size_t *degree = nfi_import_take_indices(im, m->prefix, "final_layer.degrees", &n, m->dim + 1);
    size_t *rank = nfi_import_memory(im, m->dim, sizeof *rank);
    bool *seen = nfi_import_memory(im, m->dim + 1, sizeof *seen);
    for (size_t i = 0; degree && seen && i < m->dim; i++) {
        const size_t d = degree[i * per_feature];
        if (d == 0 || seen[d])
            return nfi_import_fail(im, NF_EFORMAT, "tensor '%sfinal_layer.degrees' is no order of %zu features",
                                   m->prefix, m->dim);
        seen[d] = true;
        rank[i] = d - 1;
    }
    return seen ? rank : NULL;
}

/* What the numbers of the last layer mean. */
static nfi_univariate univariate(nfi_import *im, const made *m, size_t per_feature, bool nflows,
                                 nf_import_family affine, nf_import_family other)
{
    nfi_univariate u = nfi_univariate_of(im, per_feature, m->prefix);
    const nf_import_options *q = &im->options;
    const bool sigmoid = !nflows || q->scale == NF_IMPORT_SCALE_SIGMOID;
    u.swapped = true;
    u.affine = (nf_scaled_affine_options){
        .scale = sigmoid ? NF_SCALE_SIGMOID : NF_SCALE_SOFTPLUS, .bias = sigmoid ? 2 : 0, .floor = 1e-3};
    if (u.kind != NFI_SPLINE) {
        nfi_import_is(im, m->prefix, affine, other);
        return u;
    }
    u.swapped = false;
    nfi_import_durkan(im, &u, 0);
    nfi_import_spline_asked(im, m->prefix, per_feature);
    return u;
}

void nfi_import_made(nfi_import *im, bool from_data, bool nflows, const char *prefix, nf_import_family affine,
                     nf_import_family other)
{
    made m = {.prefix = prefix};
    take_made(im, &m);
    const size_t n_out = im->status == NF_OK ? m.layer[m.n_layers - 1]->out : 0;
    if (n_out == 0 || n_out % m.dim) {
        nfi_import_fail(im, NF_EFORMAT, "tensor '%sfinal_layer.bias' has the shape [%zu], expected a multiple of %zu",
                        prefix, n_out, m.dim);
        return;
    }
    nfi_import_skip(im, prefix, "initial_layer.degrees");
    const size_t *rank = ranks_of(im, &m, n_out / m.dim);
    const nfi_univariate u = univariate(im, &m, n_out / m.dim, nflows, affine, other);
    nfi_import_dim(im, m.dim, prefix);
    if (im->status != NF_OK)
        return;
    const bool reads = m.context;
    if (reads)
        (!nflows ? context_beside : m.residual ? context_in_stream : context_added)(im, &m);
    if (im->status == NF_OK && !nflows && !m.residual) { /* no units behind the first layer */
        m.layer[1] = product(im, m.layer[1], m.layer[0]);
        m.layer++;
        m.n_layers--;
    }
    if (im->status != NF_OK)
        return;
    const nf_activation f = im->options.activation;
    const nfi_masked_source q = {.rank = rank,
                                 .n_ctx = m.n_ctx,
                                 .n_layers = m.n_layers,
                                 .layer = m.layer,
                                 .n_blocks = m.residual ? m.n_blocks : 0,
                                 .gate = reads && m.residual ? m.gate : NULL};
    nfi_import_autoregressive(im, from_data, &u, &q, m.context, f ? f : NF_RELU, prefix);
}
