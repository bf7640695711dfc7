/* Flows of zuko (Rozet et al.): lists of transforms from the data to the base,

       transform.transforms.K.   order [D], hyper.N. (MaskedMLP)   an autoregressive one: MAF, NSF
                                 mask [D], hyper.N. (MLP)          a coupling, whose mask is 1 where features pass: NICE
                                 phi.P [D ...] or hyper.N.         one for each feature alone
                                 transform.                        LazyInverse of what follows
       base.loc, base.scale [D]                                    DiagNormal

   `order` has the pass in which each feature comes. With as many passes as features it is their order. With two
   (passes = 2, zuko's coupling of splines) the layer is a pair of couplings: the features of the first pass are
   transformed by constants, or by what the context gives, those of the second by what the first ones give. */
#include "import/import.h"
#include <math.h>

static nfi_univariate univariate(nfi_import *im, size_t n, const char *prefix, nf_import_family affine)
{
    nfi_univariate u = nfi_univariate_of(im, n, prefix);
    const nf_import_options *q = &im->options;
    if (u.kind != NFI_SPLINE)
        nfi_import_is(im, prefix, affine, affine);
    else if (u.spline.free_ends)
        nfi_import_fail(im, NF_EUNSUPPORTED, "the net of '%s...' gives %zu numbers a feature, not 1, 2 or 3 bins - 1",
                        prefix, n);
    else
        nfi_import_spline_asked(im, prefix, n);
    u.affine = (nf_scaled_affine_options){.scale = NF_SCALE_SOFTSIGN, .limit = -log(q->min_slope)};
    u.spline.box = q->tail_bound > 0 ? q->tail_bound : 5;
    u.spline.min_slope = q->min_slope;
    u.spline.form = NF_SPLINE_SOFT_CLIPPED;
    return u;
}

/* The numbers of a feature, given a net's last layer and for how many features it is. */
static size_t per_feature(nfi_import *im, const nfi_linear *last, size_t n_features)
{
    if (n_features && last->out % n_features == 0)
        return last->out / n_features;
    nfi_import_fail(im, NF_EFORMAT, "tensor '%sbias' has the shape [%zu], expected a multiple of %zu", last->name,
                    last->out, n_features);
    return 0;
}

/* Those rows of a layer that are for the features whose mask is set. */
static nfi_linear *rows_of(nfi_import *im, const nfi_linear *l, size_t n, const unsigned char *mask, bool set)
{
    size_t n_rows = 0, to = 0;
    for (size_t i = 0; i < im->dim; i++)
        n_rows += n * (mask[i] == set);
    nfi_linear *out = nfi_new_linear(im, l->in, n_rows, l->name, false);
    for (size_t i = 0; out && i < im->dim * n; i++)
        if (mask[i / n] == set) {
            out->b[to] = l->b[i];
            for (size_t j = 0; j < l->in; j++)
                out->w[to * l->in + j] = l->w[i * l->in + j];
            to++;
        }
    return out;
}

/* A first layer that has the columns of the features whose mask is not set, all 0 (blind) or as they are, and those of
   the context. */
static nfi_linear *columns_of(nfi_import *im, const nfi_linear *l, const unsigned char *mask, bool blind)
{
    size_t n = 0;
    for (size_t i = 0; i < im->dim; i++)
        n += !mask[i];
    nfi_linear *out = nfi_new_linear(im, n + l->in - im->dim, l->out, l->name, false);
    for (size_t k = 0; out && k < l->out; k++) {
        size_t to = k * out->in;
        for (size_t j = 0; j < l->in; j++) {
            const double w = l->w[k * l->in + j];
            if (j >= im->dim || !mask[j])
                out->w[to++] = j < im->dim && blind ? 0 : w;
            else if (!blind && fabs(w) > 0)
                return nfi_import_fail(im, NF_EFORMAT,
                                       "tensor '%smask': unit %zu sees feature %zu, which is of the last "
                                       "pass",
                                       l->name, k, j);
        }
        out->b[k] = l->b[k];
    }
    return out;
}

/* Fails if a feature of the first pass reads, through any units, a feature; masks say what reads what. */
static void check_first_pass(nfi_import *im, const unsigned char *mask, size_t per_feature, size_t n,
                             nfi_linear *const *l)
{
    bool *reads = NULL; /* of each unit: whether it reads a feature */
    for (size_t i = 0; i < n; i++) {
        bool *next = nfi_import_memory(im, l[i]->out, sizeof *next);
        for (size_t k = 0; next && k < l[i]->out; k++)
            for (size_t j = 0; j < l[i]->in; j++)
                if ((reads ? reads[j] : j < im->dim) && (!l[i]->mask || fabs(l[i]->mask[k * l[i]->in + j]) > 0))
                    next[k] = true;
        reads = next;
    }
    for (size_t k = 0; reads && k < im->dim * per_feature; k++)
        if (mask[k / per_feature] && reads[k])
            nfi_import_fail(im, NF_EFORMAT,
                            "tensor '%smask' is not autoregressive: row %zu, of the first pass, reads a feature",
                            l[n - 1]->name, k);
}

/* One of the two couplings of a layer of two passes: of the features of that pass. */
static void one_pass(nfi_import *im, bool from_data, const size_t *pass, size_t which, const nfi_univariate *u,
                     size_t n, nfi_linear *const *l, const char *prefix)
{
    unsigned char *mask = nfi_import_memory(im, im->dim, 1);
    nfi_linear **own = nfi_import_memory(im, n, sizeof *own);
    if (!mask || !own)
        return;
    size_t n_passed = 0;
    for (size_t i = 0; i < im->dim; i++) {
        mask[i] = pass[i] == which;
        n_passed += !mask[i];
    }
    nfi_linear *last = nfi_arranged(im, u, rows_of(im, l[n - 1], u->n, mask, true));
    if (which == 0)
        check_first_pass(im, mask, u->n, n, l);
    bool constant = which == 0;
    for (size_t i = 0; last && i < last->out * last->in; i++)
        constant = constant && fabs(last->w[i]) <= 0;
    if (constant) {
        nfi_import_constant(im, from_data, mask, u, last, prefix);
        return;
    }
    for (size_t i = 0; i + 1 < n; i++)
        own[i] = i ? l[i] : columns_of(im, l[0], mask, which == 0);
    own[n - 1] = last;
    if (im->status == NF_OK)
        nfi_import_coupling(im, from_data, mask, u, nfi_import_mlp(im, n, own, n_passed), prefix);
}

/* Sorts features by their pass. Returns the number of passes. */
static size_t ranks_of(const size_t *pass, size_t dim, size_t *rank)
{
    size_t n = 0, n_passes = 0;
    for (size_t p = 0; p < dim; p++) {
        const size_t before = n;
        for (size_t i = 0; i < dim; i++)
            if (pass[i] == p)
                rank[i] = n++;
        n_passes += n > before;
    }
    return n_passes;
}

static void autoregressive(nfi_import *im, bool from_data, const char *prefix)
{
    size_t n_layers, dim = im->dim;
    const size_t *pass = nfi_import_take_indices(im, prefix, "order", &dim, dim);
    nfi_linear **l = nfi_take_sequence(im, nfi_name(im, "%shyper.", prefix), 2, &n_layers);
    size_t *rank = nfi_import_memory(im, dim, sizeof *rank);
    if (!pass || !l || !rank)
        return;
    if (n_layers < 2 || l[0]->in < dim) {
        nfi_import_fail(im, NF_EFORMAT, "'%shyper...' has %zu layers and reads %zu numbers, expected 2 and %zu or more",
                        prefix, n_layers, l[0]->in, dim);
        return;
    }
    const nfi_univariate u =
        univariate(im, per_feature(im, l[n_layers - 1], dim), prefix, from_data ? NF_IMPORT_MAF : NF_IMPORT_IAF);
    const size_t n_passes = ranks_of(pass, dim, rank);
    if (n_passes == 2 && dim > 2 && im->status == NF_OK) {
        size_t first = pass[0], second = pass[0];
        for (size_t i = 0; i < dim; i++) {
            first = pass[i] < first ? pass[i] : first;
            second = pass[i] > second ? pass[i] : second;
        }
        size_t *which = rank;
        for (size_t i = 0; i < dim; i++)
            which[i] = pass[i] == second;
        one_pass(im, from_data, which, !from_data, &u, n_layers, l, prefix);
        one_pass(im, from_data, which, from_data, &u, n_layers, l, prefix);
        return;
    }
    const nfi_masked_source q = {.rank = rank, .n_ctx = l[0]->in - dim, .n_layers = n_layers, .layer = l};
    if (im->status == NF_OK)
        nfi_import_autoregressive(im, from_data, &u, &q, NULL, NF_IDENTITY, prefix);
}

static void coupling(nfi_import *im, bool from_data, const char *prefix)
{
    size_t n_layers, dim = im->dim, n_passed = 0;
    const double *passes = nfi_import_take(im, prefix, "mask", 1, &dim);
    nfi_linear **l = nfi_take_sequence(im, nfi_name(im, "%shyper.", prefix), 2, &n_layers);
    unsigned char *mask = nfi_import_memory(im, dim, 1);
    if (!passes || !l || !mask)
        return;
    for (size_t i = 0; i < dim; i++) {
        const bool passed = fabs(passes[i]) > 0;
        mask[i] = !passed;
        n_passed += !mask[i];
    }
    const nfi_univariate u =
        univariate(im, per_feature(im, l[n_layers - 1], dim - n_passed), prefix, NF_IMPORT_REALNVP);
    if (im->status == NF_OK)
        l[n_layers - 1] = nfi_arranged(im, &u, l[n_layers - 1]);
    if (im->status == NF_OK)
        nfi_import_coupling(im, from_data, mask, &u, nfi_import_mlp(im, n_layers, l, n_passed), prefix);
}

/* Each feature by itself, with numbers of its own or those that the context gives. */
static void elementwise(nfi_import *im, bool from_data, const char *prefix)
{
    size_t n_layers, dim = im->dim, n = 0;
    if (nfi_import_has_any(im, prefix, "hyper.")) {
        nfi_linear **l = nfi_take_sequence(im, nfi_name(im, "%shyper.", prefix), 2, &n_layers);
        const size_t n_ctx = l ? l[0]->in : 0;
        if (!l)
            return;
        const nfi_univariate u = univariate(im, per_feature(im, l[n_layers - 1], dim), prefix, NF_IMPORT_MAF);
        if (im->status == NF_OK)
            l[n_layers - 1] = nfi_arranged(im, &u, l[n_layers - 1]);
        nf_net *head = im->status == NF_OK ? nfi_import_mlp(im, n_layers, l, n_ctx) : NULL;
        if (im->status == NF_OK)
            nfi_import_add(im, from_data, nf_amortized(nfi_univariate_flow(&u, dim), head), prefix);
        return;
    }
    double *phi[3] = {NULL};
    size_t extents[3][2] = {{dim, 1}, {dim, 1}, {dim, 1}}, n_phi = 0;
    while (n_phi < 3 && nfi_import_has(im, prefix, nfi_name(im, "phi.%zu", n_phi))) {
        const bool vectors = nfi_import_has(im, prefix, "phi.2");
        extents[n_phi][1] = vectors ? NFI_ANY : 1;
        phi[n_phi] = nfi_import_take(im, prefix, nfi_name(im, "phi.%zu", n_phi), vectors ? 2 : 1, extents[n_phi]);
        n += extents[n_phi++][1];
    }
    if (im->status != NF_OK)
        return;
    const nfi_univariate u = univariate(im, n, prefix, NF_IMPORT_MAF);
    unsigned char *mask = nfi_import_memory(im, dim, 1);
    nfi_linear *all = nfi_new_linear(im, 0, dim * n, prefix, false);
    for (size_t i = 0, to = 0; all && mask && i < dim; i++) {
        mask[i] = 1;
        for (size_t k = 0; k < n_phi; k++)
            for (size_t p = 0; p < extents[k][1]; p++)
                all->b[to++] = phi[k][i * extents[k][1] + p];
    }
    nfi_import_constant(im, from_data, mask, &u, nfi_arranged(im, &u, all), prefix);
}

static void zuko_layer(nfi_import *im, bool from_data, const char *prefix)
{
    if (nfi_import_has(im, prefix, "order"))
        autoregressive(im, from_data, prefix);
    else if (nfi_import_has(im, prefix, "mask"))
        coupling(im, from_data, prefix);
    else if (nfi_import_has(im, prefix, "phi.0") || nfi_import_has_any(im, prefix, "hyper."))
        elementwise(im, from_data, prefix);
    else
        nfi_import_fail(im, NF_EUNSUPPORTED, "'%s...' is no layer of zuko that the library knows", prefix);
}

void nfi_read_zuko(nfi_import *im)
{
    const bool named = nfi_import_has(im, "base.", "loc"); /* older versions number them */
    size_t dim = NFI_ANY;
    const double *mean = nfi_import_take(im, "base.", named ? "loc" : "_0", 1, &dim);
    double *scale = nfi_import_take(im, "base.", named ? "scale" : "_1", 1, &dim);
    for (size_t i = 0; scale && i < dim; i++) {
        if (!(scale[i] > 0))
            nfi_import_fail(im, NF_EFORMAT, "tensor 'base.scale' has the number %g", scale[i]);
        scale[i] = log(scale[i]);
    }
    if (im->status != NF_OK)
        return;
    nfi_import_dim(im, dim, "base.");
    nfi_import_normal(im, dim, mean, scale);
    nfi_import_nested(im, &(nfi_nesting){"transforms.", "transform.", zuko_layer}, true, "transform.", 0);
}
