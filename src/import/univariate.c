/* Transforms of single features, whose numbers a net gives: what they are in each package, and how the rows of the
   net's last layer become those of the library. The library has (m, a) feature by feature for affine maps, and (w, h,
   d) for splines, of which d = 0 is a slope of 1; nflows and normflows have slope 1 at d = log(e^(1 - min) - 1). */
#include "import/import.h"
#include <math.h>

nfi_univariate nfi_univariate_of(nfi_import *im, size_t n, const char *prefix)
{
    nfi_univariate u = {.n = n, .kind = n == 1 ? NFI_SHIFT : n == 2 ? NFI_AFFINE : NFI_SPLINE, .share = 1};
    u.spline = (nf_spline_options){.bins = n % 3 == 2 ? (n + 1) / 3 : (n - 1) / 3, .free_ends = n % 3 == 1};
    if (n == 0 || (n > 1 && n % 3 == 0))
        nfi_import_fail(im, NF_EUNSUPPORTED,
                        "the net of '%s...' gives %zu numbers a feature, which is no transform that the library has",
                        prefix, n);
    return u;
}

void nfi_import_durkan(nfi_import *im, nfi_univariate *u, size_t width)
{
    const nf_import_options *q = &im->options;
    u->share = width ? 1 / sqrt((double)width) : 1;
    u->knot = -log(expm1(1 - q->min_slope));
    u->spline.min_width = q->min_width;
    u->spline.min_height = q->min_height;
    u->spline.min_slope = q->min_slope;
    if (u->spline.free_ends)
        u->spline.high = 1;
    else
        u->spline.box = q->tail_bound > 0 ? q->tail_bound : q->package == NF_IMPORT_NFLOWS ? 1 : 3;
}

void nfi_import_spline_asked(nfi_import *im, const char *prefix, size_t n)
{
    if (im->options.package != NF_IMPORT_NORMFLOWS && im->options.family != NF_IMPORT_NSF)
        nfi_import_fail(im, NF_EUNSUPPORTED,
                        "the net of '%s...' gives %zu numbers a feature, not the 1 or 2 of affine layers%s", prefix, n,
                        im->options.family ? ""
                                           : ". If they are those of a spline, ask for the family NF_IMPORT_NSF (nsf)");
    else
        nfi_import_is(im, prefix, NF_IMPORT_NSF, NF_IMPORT_NSF);
}

nf_flow *nfi_univariate_flow(const nfi_univariate *u, size_t dim)
{
    return u->kind == NFI_SHIFT    ? nf_shift(dim)
           : u->kind == NFI_AFFINE ? nf_scaled_affine(dim, &u->affine)
                                   : nf_spline(dim, &u->spline);
}

nfi_linear *nfi_arranged(nfi_import *im, const nfi_univariate *u, const nfi_linear *last)
{
    nfi_linear *l = last ? nfi_new_linear(im, last->in, last->out, last->name, last->mask) : NULL;
    const size_t n = l ? last->out / u->n : 0;
    for (size_t i = 0; i < n; i++)
        for (size_t p = 0; p < u->n; p++) {
            const size_t q = u->swapped ? u->n - 1 - p : p, from = u->blocked ? q * n + i : i * u->n + q;
            const size_t to = i * u->n + p;
            const bool spline = u->kind == NFI_SPLINE, knot = p >= 2 * u->spline.bins;
            const double scale = spline && !knot ? u->share : 1;
            l->b[to] = last->b[from] * scale + (spline && knot ? u->knot : 0);
            for (size_t j = 0; j < l->in; j++) {
                l->w[to * l->in + j] = last->w[from * l->in + j] * scale;
                if (l->mask)
                    l->mask[to * l->in + j] = last->mask[from * l->in + j];
            }
        }
    return l;
}

static size_t count(const unsigned char *mask, size_t dim)
{
    size_t n = 0;
    for (size_t i = 0; i < dim; i++)
        n += mask[i];
    return n;
}

void nfi_import_coupling(nfi_import *im, bool from_data, const unsigned char *mask, const nfi_univariate *u,
                         nf_net *net, const char *prefix)
{
    if (im->status != NF_OK) {
        nf_net_free(net);
        return;
    }
    nf_flow *transform = nfi_univariate_flow(u, count(mask, im->dim));
    nfi_import_add(im, from_data, nf_coupling(im->dim, mask, transform, net), prefix);
}

void nfi_import_constant(nfi_import *im, bool from_data, const unsigned char *mask, const nfi_univariate *u,
                         const nfi_linear *numbers, const char *prefix)
{
    const size_t passed = im->status == NF_OK ? im->dim - count(mask, im->dim) : 0;
    nfi_linear *l = numbers ? nfi_new_linear(im, passed, numbers->out, prefix, false) : NULL;
    if (!l)
        return;
    l->b = numbers->b;
    nfi_put_linear(im, l);
    nfi_import_coupling(im, from_data, mask, u, nf_mlp(passed, l->out, 0, NULL), prefix);
}

unsigned char *nfi_import_mask(nfi_import *im, size_t n, const size_t *features)
{
    unsigned char *mask = nfi_import_memory(im, im->dim, 1);
    for (size_t i = 0; mask && features && i < n; i++)
        mask[features[i]] = 1;
    return mask;
}
