/* The elementwise monotone rational-quadratic spline (Durkan et al. 2019, "Neural spline flows"; the spline is Gregory
   & Delbourgo's, 1982). It acts on the box [low, high], whose size is 2 B, and is the identity outside. Its slope at
   the ends of the box is 1, or free, or it is circular (Rezende et al. 2020, "Normalizing flows on tori and spheres",
   section 2.1.2): f(x + 2 B) = f(x) + 2 B, with one free slope where the ends of the box meet.

   theta, dimension by dimension: w [K], h [K], d [K - 1] (circular: d [K]; free ends: d [K + 1]). With S the softmax,

       widths 2 B (m_w + (1 - K m_w) S(w)),   heights 2 B (m_h + (1 - K m_h) S(h)),
       slopes at the knots m_d + softplus(d + c), where c = log(e^(1 - m_d) - 1) makes the slope 1 at d = 0.

   This is as in the paper's code, except for c. NF_SPLINE_SOFT_CLIPPED is the form of the package zuko: with
   C(a, u) = a / (1 + |a| / u) and u = -log m_d,

       widths 2 B S(C(w, u / 2)),   heights 2 B S(C(h, u / 2)),   slopes at the knots exp(C(d, u)).

   The d[0] of a circular spline is the slope at both ends. A spline with
   free ends maps the box onto itself, edges included, and what is outside stays where it is, to the bit. So a uniform
   base on the box has density 0 outside after any number of such splines. */
#include "flows/elementwise/spline.h"
#include "base/memory.h"
#include "flows/types.h"
#include "object/options.h"
#include "object/tree.h"
#include <nflow/elementwise.h>
#include <float.h>
#include <math.h>

#ifdef NF_SINGLE
#define nfi_next nextafterf
#else
#define nfi_next nextafter
#endif

typedef struct spline {
    nf_spline_options options; /* with defaults filled in */
    nfi_spline kernel;
} spline;

static nf_spline_form form_of(const nf_object *o)
{
    return ((const spline *)nf_self(o))->options.form;
}

static size_t params_of(const nfi_spline *q)
{
    return 3 * q->bins + q->free_ends - !(q->circular || q->free_ends);
}

/* How many reals are kept of a dimension: bins [NFI_BIN_ROWS x ld], then softmaxes [2 bins x ld]; if parameters are
   shared, [2 bins], rounded up to whole NFI_LANES. */
static size_t kept_of(const nfi_spline *q, const nf_pass *p)
{
    const size_t shared = (2 * q->bins + NFI_LANES - 1) / NFI_LANES * NFI_LANES;
    return NFI_BIN_ROWS * p->ld + (p->theta_stride ? 2 * q->bins * p->ld : shared);
}

static nfi_spline_rows rows_of(const nfi_spline *q, const nf_pass *p, size_t i, nf_real *kept)
{
    const size_t columns = p->theta_stride ? p->ld : 1;
    return (nfi_spline_rows){
        .theta = p->theta + i * params_of(q) * columns, .bins = kept, .parts = kept + NFI_BIN_ROWS * p->ld};
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    const nfi_spline *q = &((const spline *)nf_self(o))->kernel;
    const size_t dim = nf_object_shape(o)->dim_in, kept = kept_of(q, p);
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *bins = p->tape ? nf_arena_reals(p->tape, dim, kept) : nf_arena_reals(p->scratch, 1, kept);
    nf_real *work = bins ? nf_arena_reals(p->scratch, NFI_SPLINE_APPLY_WORK, p->ld) : NULL;
    if (!work)
        return NF_ENOMEM;
    for (size_t i = 0; i < dim; i++)
        nfi_spline_apply(form_of(o), p->theta_stride, q, d, p->ld, rows_of(q, p, i, bins + (p->tape ? i * kept : 0)),
                         x + i * p->ld, y + i * p->ld, log_det, work);
    if (p->tape)
        *saved = bins;
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)x, (void)y;
    const nfi_spline *q = &((const spline *)nf_self(o))->kernel;
    const size_t dim = nf_object_shape(o)->dim_in, kept = kept_of(q, p), columns = p->theta_stride ? p->ld : 1;
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *work = nf_arena_reals(p->scratch, NFI_SPLINE_VJP_WORK, p->ld);
    if (!work)
        return NF_ENOMEM;
    for (size_t i = 0; i < dim; i++)
        nfi_spline_vjp(form_of(o), p->theta_stride, q, d, p->ld, rows_of(q, p, i, (nf_real *)saved + i * kept),
                       gy + i * p->ld, g_log_det, gx + i * p->ld,
                       g->theta ? g->theta + i * params_of(q) * columns : NULL, work);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}

static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    (void)x, (void)y;
    const nfi_spline *q = &((const spline *)nf_self(o))->kernel;
    const size_t kept = kept_of(q, p);
    for (size_t i = 0; i < nf_object_shape(o)->dim_in; i++)
        nfi_spline_solve(form_of(o), q, d, p->ld, rows_of(q, p, i, (nf_real *)saved + i * kept), gx + i * p->ld,
                         gy + i * p->ld);
    return NF_OK;
}

/* ---- structure ---- */

static const char *const names[] = {[NF_SPLINE_SOFTPLUS] = "softplus", [NF_SPLINE_SOFT_CLIPPED] = "soft_clipped"};
static const nf_choices forms = NFI_CHOICES("form", names);
static const nf_option options_of_type[] = {
    {NF_OPTION(NF_OPTION_SIZE, nf_spline_options, bins), .least = 1, .help = "pieces"},
    {NF_OPTION(NF_OPTION_REAL, nf_spline_options, box), .least = 1e-15, .most = 1e15,
     .flags = NF_OPTION_ABOVE | NF_OPTION_BELOW, .help = "B: the spline maps [-B, B] onto itself"},
    {NF_OPTION(NF_OPTION_REAL, nf_spline_options, min_width), .least = 1e-6, .help = "least width / (2 B)"},
    {NF_OPTION(NF_OPTION_REAL, nf_spline_options, min_height), .least = 1e-6, .help = "least height / (2 B)"},
    {NF_OPTION(NF_OPTION_REAL, nf_spline_options, min_slope), .least = 1e-6, .most = 1, .flags = NF_OPTION_BELOW,
     .help = "least slope at a knot"},
    {NF_OPTION(NF_OPTION_BOOL, nf_spline_options, circular), .help = "periodic, a map of the circle"},
    {NF_OPTION(NF_OPTION_REAL, nf_spline_options, low), .least = -DBL_MAX, .flags = NF_OPTION_ADDED,
     .help = "the box's lower edge, if not -B"},
    {NF_OPTION(NF_OPTION_REAL, nf_spline_options, high), .least = -DBL_MAX, .flags = NF_OPTION_ADDED,
     .help = "the box's upper edge, if not B"},
    {NF_OPTION(NF_OPTION_BOOL, nf_spline_options, free_ends), .flags = NF_OPTION_ADDED,
     .help = "slopes at the box's edges are parameters"},
    {NF_OPTION(NF_OPTION_CHOICE, nf_spline_options, form), .choices = &forms, .flags = NF_OPTION_ADDED,
     .help = "how parameters become widths, heights and slopes"},
};
static const nf_spline_options defaults = {
    .bins = 8, .box = 3, .min_width = 1e-3, .min_height = 1e-3, .min_slope = 1e-3};
static const nf_option_table table = NF_OPTION_TABLE("nf_spline", nf_spline_options, options_of_type, &defaults);

NFI_REBUILD(flow, nf_spline_options, nf_spline(nf_read_dim_in(r), q))

static void slices(const nf_object *o, nf_slice_fn *each, void *user)
{
    const nfi_spline *q = &((const spline *)nf_self(o))->kernel;
    each(user, "w_h_d", 0, 2, (const size_t[]){nf_object_shape(o)->dim_in, params_of(q)});
}

const nf_flow_type nfi_spline_type = {
    .part = {.name = "spline", .slices = slices, .destroy = nfi_free},
    .abi = sizeof(nf_flow_type),
    .apply = apply,
    .vjp = vjp,
    .solve_jt = solve_jt,
    .rebuild = rebuild,
    .options = &table,
};

/* Checks `least`, the smallest share that each of `bins` bins has of the box. */
static nf_status check_least(const char *name, double least, size_t bins)
{
    if (least * (double)bins >= 1)
        return nf_error(NF_EARG, "nf_spline: `%s` is %g, but %zu bins share 1", name, least, bins);
    return NF_OK;
}

/* Settles the box: half its size, and its two edges. `asked` is the half that the caller gave, or 0. */
static nf_status settle_box(double asked, nf_spline_options *f, nf_real edge[2])
{
    const bool given = f->low != 0 || f->high != 0;
    const double half = given ? (f->high - f->low) / 2 : f->box, most = 1e15;
    edge[0] = (nf_real)(given ? f->low : -half);
    edge[1] = (nf_real)(given ? f->high : half);
    if (!(half > 1 / most && edge[0] < edge[1] && edge[0] >= -(nf_real)most && edge[1] <= (nf_real)most))
        return nf_error(NF_EARG,
                        "nf_spline: `low` is %g and `high` %g, but they must be in this order, far enough apart, and "
                        "between -1e15 and 1e15",
                        f->low, f->high);
    if (asked != 0 && fabs(asked - half) > 1e-9 * half)
        return nf_error(NF_EARG, "nf_spline: `box` is %g, but [%g, %g] has half the size %g", f->box, f->low, f->high,
                        half);
    if (f->circular && f->free_ends)
        return nf_error(NF_EARG, "nf_spline: `free_ends` and `circular` are both true, but the ends of a circle's box "
                                 "are one point, whose slope is free");
    f->box = half;
    return NF_OK;
}

nf_flow *nf_spline(size_t dim, const nf_spline_options *options)
{
    nf_spline_options f;
    nf_real edge[2];
    size_t numbers;
    if (nf_options_settle(&table, options, &f) != NF_OK || settle_box(options ? options->box : 0, &f, edge) != NF_OK)
        return NULL;
    const nf_real low = edge[0], high = edge[1];
    if (dim == 0 || !nfi_mul(f.bins, 3, &numbers) || !nfi_add(numbers, 1, &numbers) ||
        !nfi_mul(numbers, dim, &numbers)) {
        nf_error(NF_EARG, "nf_spline: `dim` is %zu, `bins` %zu", dim, f.bins);
        return NULL;
    }
    if (check_least("min_width", f.min_width, f.bins) != NF_OK ||
        check_least("min_height", f.min_height, f.bins) != NF_OK)
        return NULL;
    spline *q = nfi_calloc(1, sizeof *q);
    if (!q)
        return NULL;
    q->options = f;
    const bool clipped = f.form == NF_SPLINE_SOFT_CLIPPED;
    const double min_width = clipped ? 0 : f.min_width, min_height = clipped ? 0 : f.min_height;
    q->kernel = (nfi_spline){.bins = f.bins,
                             .circular = f.circular,
                             .free_ends = f.free_ends,
                             .low = low,
                             .high = high,
                             .size = high - low,
                             .first = f.free_ends ? low : nfi_next(low, high),
                             .last = f.free_ends ? high : nfi_next(high, low),
                             .middle = f.circular ? low + (high - low) / 2 : 0,
                             .period = f.circular ? high - low : 0,
                             .turns = (nf_real)(f.circular ? 1 / (2 * f.box) : 0),
                             .min_width = (nf_real)min_width,
                             .spread_w = (nf_real)(1 - min_width * (double)f.bins),
                             .min_height = (nf_real)min_height,
                             .spread_h = (nf_real)(1 - min_height * (double)f.bins),
                             .min_slope = (nf_real)f.min_slope,
                             .slope_bias = (nf_real)log(expm1(1 - f.min_slope)),
                             .limit = (nf_real)-log(f.min_slope)};
    const nf_shape shape = {.dim_in = dim,
                            .dim_out = dim,
                            .n_params = dim * params_of(&q->kernel),
                            .n_saved = dim * (NFI_BIN_ROWS + 2 * f.bins),
                            .flags = NF_PER_SAMPLE | NFI_SAVES_ALIKE};
    return nf_flow_new(&nfi_spline_type, &shape, q, NULL, 0);
}
