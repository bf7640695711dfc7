/* Masked nets of other packages in the layout of nf_masked_net(), which sorts the units of a layer by degree and
   divides them evenly among the degrees.

   The degree of a unit is read from the masks (Germain et al. 2015): it is the least one with which the unit may see
   what its mask lets it see, so input j of rank r counts as r + 1, a unit below as its own degree, context as 0. Where
   the library has more units of a degree, slots stay empty, and their weights are 0. Units of residual blocks add to
   the stream, so that the second layer of a block has the degrees of the stream. */
#include "import/import.h"
#include <math.h>
#include <string.h>

#define EMPTY SIZE_MAX

/* One side of a matrix in the library's order: which row or column of theirs stands in a slot, and of which degree. */
typedef struct side {
    size_t n;
    size_t *theirs, *degree; /* [n]; theirs EMPTY: none */
} side;

static bool visible(const nfi_linear *l, size_t row, size_t column)
{
    return !l->mask || fabs(l->mask[row * l->in + column]) > 0;
}

/* The degrees of a layer's units, at least `least`, from those of its inputs. */
static size_t *degrees_of(nfi_import *im, const nfi_linear *l, const size_t *below, size_t least)
{
    size_t *degree = l ? nfi_import_memory(im, l->out, sizeof *degree) : NULL;
    for (size_t k = 0; degree && k < l->out; k++) {
        degree[k] = least;
        for (size_t j = 0; j < l->in; j++)
            if (visible(l, k, j) && below[j] > degree[k])
                degree[k] = below[j];
        if (degree[k] >= im->dim && degree[k] > least)
            return nfi_import_fail(im, NF_EFORMAT, "tensor '%smask': unit %zu sees the last feature in the order",
                                   l->name, k);
    }
    return degree;
}

/* The least width of a layer with as many slots of each degree as there are units of it. */
static size_t width_for(nfi_import *im, size_t n_units, const size_t *degree, size_t least)
{
    const size_t n = im->dim - least;
    size_t *units = nfi_import_memory(im, n, sizeof *units), most = 1, last = 0;
    for (size_t k = 0; units && degree && k < n_units; k++)
        units[degree[k] - least]++;
    for (size_t d = 0; units && d < n; d++)
        if (units[d] >= most) {
            last = d;
            most = units[d];
        }
    return (most - 1) * n + last + 1;
}

/* Slots of a hidden layer. */
static side slots(nfi_import *im, size_t width, size_t n_units, const size_t *degree, size_t least)
{
    const size_t n = im->dim - least;
    side s = {width, nfi_import_memory(im, width, sizeof(size_t)), nfi_import_memory(im, width, sizeof(size_t))};
    size_t *next = nfi_import_memory(im, n, sizeof *next);
    if (!next || !degree)
        return s;
    for (size_t d = 0, at = 0; d < n; d++) {
        next[d] = at;
        for (size_t k = 0; k < width / n + (d < width % n); k++, at++) {
            s.degree[at] = d + least;
            s.theirs[at] = EMPTY;
        }
    }
    for (size_t k = 0; k < n_units; k++)
        s.theirs[next[degree[k] - least]++] = k;
    return s;
}

/* Puts a layer's weights, without those that the library masks, and its biases. */
static void put_masked(nfi_import *im, const nfi_linear *l, const side *rows, const side *columns)
{
    size_t whole;
    if (im->status != NF_OK)
        return;
    if (!nfi_mul(rows->n, columns->n, &whole) || whole / 4 > im->most) {
        nfi_import_fail(im, NF_EFORMAT, "'%s...': with evenly divided degrees its matrix would be %zu x %zu", l->name,
                        rows->n, columns->n);
        return;
    }
    double *row = nfi_import_memory(im, columns->n, sizeof *row), *b = nfi_import_memory(im, rows->n, sizeof *b);
    for (size_t u = 0; b && u < rows->n; u++) {
        const size_t k = rows->theirs[u];
        size_t n = 0;
        for (size_t v = 0; v < columns->n; v++) {
            const size_t j = columns->theirs[v];
            const bool ours = columns->degree[v] <= rows->degree[u], both = k != EMPTY && j != EMPTY;
            if (ours)
                row[n++] = both ? l->w[k * l->in + j] : 0;
            else if (both && visible(l, k, j)) {
                nfi_import_fail(im, NF_EFORMAT, "tensor '%smask' is not autoregressive: row %zu sees column %zu",
                                l->name, k, j);
                return;
            }
        }
        nfi_put(im, n, row);
        b[u] = k == EMPTY ? 0 : l->b[k];
    }
    if (b)
        nfi_put(im, rows->n, b);
}

static void put_gate(nfi_import *im, const nfi_linear *gate, const side *rows)
{
    double *none = gate ? nfi_import_memory(im, gate->in, sizeof *none) : NULL;
    for (size_t u = 0; none && u < rows->n; u++)
        nfi_put(im, gate->in, rows->theirs[u] == EMPTY ? none : gate->w + rows->theirs[u] * gate->in);
    for (size_t u = 0; none && u < rows->n; u++)
        nfi_put(im, 1, rows->theirs[u] == EMPTY ? none : gate->b + rows->theirs[u]);
}

/* The inputs: features in their order, then the context, whose degree is 0. */
static side inputs_of(nfi_import *im, const nfi_masked_source *q)
{
    const size_t n = im->dim + q->n_ctx;
    side s = {n, nfi_import_memory(im, n, sizeof(size_t)), nfi_import_memory(im, n, sizeof(size_t))};
    for (size_t j = 0; im->status == NF_OK && j < n; j++) {
        const size_t at = j < im->dim ? q->rank[j] : j;
        s.theirs[at] = j;
        s.degree[at] = j < im->dim ? q->rank[j] + 1 : 0;
    }
    return s;
}

/* The outputs: in the order, those of a feature together. An output of rank r sees units of degrees up to r. */
static side outputs_of(nfi_import *im, const nfi_masked_source *q, size_t per_feature)
{
    const size_t n = im->dim * per_feature;
    side s = {n, nfi_import_memory(im, n, sizeof(size_t)), nfi_import_memory(im, n, sizeof(size_t))};
    for (size_t i = 0; im->status == NF_OK && i < im->dim; i++)
        for (size_t p = 0; p < per_feature; p++) {
            s.theirs[q->rank[i] * per_feature + p] = i * per_feature + p;
            s.degree[q->rank[i] * per_feature + p] = q->rank[i];
        }
    return s;
}

/* Degrees of the inputs in the packages' own order. */
static size_t *degrees_of_inputs(nfi_import *im, const nfi_masked_source *q)
{
    size_t *degree = nfi_import_memory(im, im->dim + q->n_ctx, sizeof *degree);
    for (size_t j = 0; degree && j < im->dim; j++)
        degree[j] = q->rank[j] + 1;
    return degree;
}

/* A net without blocks: each hidden layer has its own slots. */
static void put_plain(nfi_import *im, const nfi_masked_source *q, size_t least, side outputs, size_t *hidden)
{
    side below = inputs_of(im, q);
    const size_t *degree = degrees_of_inputs(im, q);
    for (size_t i = 0; im->status == NF_OK && i + 1 < q->n_layers; i++) {
        const nfi_linear *l = q->layer[i];
        degree = degrees_of(im, l, degree, least);
        hidden[i] = width_for(im, l->out, degree, least);
        const side here = slots(im, hidden[i], l->out, degree, least);
        put_masked(im, l, &here, &below);
        nfi_put_unit(im);
        below = here;
    }
    put_masked(im, q->layer[q->n_layers - 1], &outputs, &below);
}

/* A residual net: all layers are equally wide, and the stream keeps its degrees. */
static void put_residual(nfi_import *im, const nfi_masked_source *q, size_t least, side outputs, size_t *hidden)
{
    const size_t n_units = q->layer[0]->out;
    const size_t *stream = degrees_of(im, q->layer[0], degrees_of_inputs(im, q), least);
    size_t **inner = nfi_import_memory(im, q->n_blocks, sizeof *inner), width = width_for(im, n_units, stream, least);
    for (size_t k = 0; inner && im->status == NF_OK && k < q->n_blocks; k++) {
        inner[k] = degrees_of(im, q->layer[2 * k + 1], stream, least);
        const size_t needed = width_for(im, q->layer[2 * k + 1]->out, inner[k], least);
        width = needed > width ? needed : width;
    }
    if (im->status != NF_OK)
        return;
    *hidden = width;
    const side inputs = inputs_of(im, q), of_stream = slots(im, width, n_units, stream, least);
    put_masked(im, q->layer[0], &of_stream, &inputs);
    nfi_put_unit(im);
    for (size_t k = 0; im->status == NF_OK && k < q->n_blocks; k++) {
        const side of_inner = slots(im, width, q->layer[2 * k + 1]->out, inner[k], least);
        put_masked(im, q->layer[2 * k + 1], &of_inner, &of_stream);
        nfi_put_unit(im);
        put_masked(im, q->layer[2 * k + 2], &of_stream, &of_inner);
        if (k + 1 < q->n_blocks)
            nfi_put_unit(im);
        if (q->gate)
            put_gate(im, q->gate[k], &of_stream);
    }
    put_masked(im, q->layer[q->n_layers - 1], &outputs, &of_stream);
}

void nfi_import_autoregressive(nfi_import *im, bool from_data, const nfi_univariate *u, const nfi_masked_source *q,
                               const nfi_linear *context, nf_activation of_context, const char *prefix)
{
    const size_t least = q->n_ctx || im->dim == 1 ? 0 : 1;
    size_t *hidden = nfi_import_memory(im, q->n_layers, sizeof *hidden);
    size_t *order = nfi_import_memory(im, im->dim, sizeof *order);
    nfi_linear **layer = nfi_import_memory(im, q->n_layers, sizeof *layer);
    if (!layer)
        return;
    memcpy(layer, q->layer, q->n_layers * sizeof(nfi_linear *));
    layer[q->n_layers - 1] = nfi_arranged(im, u, layer[q->n_layers - 1]);
    nfi_masked_source arranged = *q;
    arranged.layer = layer;
    for (size_t i = 0; i < im->dim; i++)
        order[q->rank[i]] = i;
    if (im->status == NF_OK)
        (q->n_blocks ? put_residual : put_plain)(im, &arranged, least, outputs_of(im, q, u->n), hidden);
    nfi_put_linear(im, context);
    if (im->status != NF_OK)
        return;
    const size_t n_hidden = q->n_blocks ? 1 : q->n_layers - 1;
    const nf_masked_options options = {.hidden = n_hidden ? hidden : NULL,
                                       .n_hidden = n_hidden,
                                       .n_blocks = q->n_blocks,
                                       .activation = im->options.activation};
    nf_flow *transform = nfi_univariate_flow(u, 1);
    nf_net *net = nf_masked_net(im->dim, u->n, q->n_ctx, &options);
    nf_flow *f = nf_autoregressive(transform, net, order, NF_FORWARD);
    if (context)
        f = nf_context_net(f, nf_mlp(context->in, context->out, 0, &(nf_mlp_options){.output = of_context}));
    nfi_import_add(im, from_data, f, prefix);
}
