/* Convolutions as products. In a grid [channels x pixels ld], a run of neighbouring pixels of one image row is a run of
   numbers in every channel. So for the pixels p of a run,

       z[o, p] = sum over taps t and channels c of W[o, t, c] x[c, p + shift_t]

   is a product of W with an array of `in` features for each tap t, the same array shifted by whole pixels
   (nfi_matrix.tap). Taps that would read outside the image are left out: for a kernel of side 3, a row has three runs,
   its first pixel, its last one, and those between, and the first and the last row have fewer taps. So no border is
   stored and nothing is multiplied by it. The transposed convolution is the same with W^T and opposite shifts.

   The gradient of W sums over pixels and samples,

       gW[o, t, c] = sum over p of gz[o, p] x[c, p + shift_t],

   and needs the transpose of x, where shifts are whole rows. It is made one image row at a time, which then serves all
   taps while it is in cache. If x has so few channels that they do not fill a vector, gz is transposed instead, and
   multiplies the numbers of x under the kernel, which are copied to stand beside one another: gW^T has more columns. */
#include "nn/conv.h"
#include "math/rows.h"
#include "math/transpose.h"
#include <string.h>

/* The pixels from `first` on for which the same taps are inside the image. */
typedef struct run {
    size_t first, pixels, n_taps;
    nfi_tap tap[NFI_LONGEST_SIDE * NFI_LONGEST_SIDE];
} run;

/* How far a kernel that reaches `reach` pixels may go from place i of `length`, backwards and forwards. */
typedef struct reach {
    size_t back, ahead;
} reach;
static reach reach_at(size_t reach_of_kernel, size_t i, size_t length)
{
    const size_t left = length - 1 - i;
    return (reach){i < reach_of_kernel ? i : reach_of_kernel, left < reach_of_kernel ? left : reach_of_kernel};
}

/* The run that begins at pixel j of image row i; W^T reads its taps in the opposite order. */
static void find_run(const nfi_conv *c, bool opposite, size_t ld, size_t i, size_t j, run *r)
{
    const size_t width = c->grid.width, half = c->side / 2;
    const reach rows = reach_at(half, i, c->grid.height), columns = reach_at(half, j, width);
    size_t end = j + 1;
    for (; end < width; end++) {
        const reach next = reach_at(half, end, width);
        if (next.back != columns.back || next.ahead != columns.ahead)
            break;
    }
    *r = (run){.first = i * width + j, .pixels = end - j};
    for (size_t a = half - rows.back; a <= half + rows.ahead; a++)
        for (size_t b = half - columns.back; b <= half + columns.ahead; b++) {
            const size_t number = a * c->side + b, last = c->side * c->side - 1;
            const ptrdiff_t down = (ptrdiff_t)a - (ptrdiff_t)half, right = (ptrdiff_t)b - (ptrdiff_t)half;
            r->tap[r->n_taps++] = (nfi_tap){.column = (opposite ? last - number : number) * c->in,
                                            .shift = (down * (ptrdiff_t)width + right) * (ptrdiff_t)ld};
        }
}

/* Sets the pixel of each channel to 0 that does not belong to the image. */
static void clear_rest(const nfi_conv *c, size_t channels, size_t ld, nf_real *grid)
{
    const size_t image = c->grid.height * c->grid.width, pixels = c->grid.pixels;
    for (size_t i = 0; i < channels; i++)
        memset(grid + (i * pixels + image) * ld, 0, (pixels - image) * ld * sizeof *grid);
}

static nfi_matrix matrix_of(const nfi_conv *c)
{
    return (nfi_matrix){.n_rows = c->out, .width = c->in, .stride = nfi_conv_fan_in(c)};
}

/* By runs: for each of them one product, whose sums over taps and channels stay in registers. */
static void convolve_runs(const nfi_conv *c, bool transposed, size_t ld, const nf_real *w, const nf_real *x, bool add,
                          nf_real *z)
{
    nfi_matrix W = matrix_of(c);
    const size_t plane = c->grid.pixels * ld;
    run r;
    W.tap = r.tap;
    for (size_t i = 0; i < c->grid.height; i++)
        for (size_t j = 0; j < c->grid.width; j += r.pixels) {
            find_run(c, transposed, ld, i, j, &r);
            W.n_taps = r.n_taps;
            const size_t at = r.first * ld, n = r.pixels * ld;
            if (transposed)
                nfi_times_transposed(&W, w, 0, c->in, n, plane, x + at, add, z + at);
            else
                nfi_times(&W, w, 0, c->out, n, plane, x + at, add, z + at);
        }
}

/* ---- few channels of the result ---- */

/* A part of an image row has at most so many numbers, so that what is made of it stays in the first-level cache. */
enum { PART_WIDEST = 128, PART = 1 << 14 /* with all taps and channels */, FEW = 4 };

static size_t rows_of_part(const nfi_conv *c, bool transposed)
{
    return c->side * c->side * (transposed ? c->in : c->out);
}

/* Adds to z what the numbers from .. to - 1 of image row i of x give to it. `part` has their products with each tap,
   [channels x taps x (to - from)], or [taps x channels x (to - from)] of W^T. Each number of z gets the pixels of x in
   their order. */
static void add_part(const nfi_conv *c, bool transposed, size_t ld, size_t i, size_t from, size_t to,
                     const nf_real *part, nf_real *z)
{
    const size_t half = c->side / 2, width = c->grid.width * ld, taps = c->side * c->side, n = to - from;
    const size_t channels = transposed ? c->in : c->out;
    for (size_t t = 0; t < taps; t++) {
        const size_t down = t / c->side, left = t % c->side * ld, right = half * ld; /* to from + right - left */
        const size_t first = from + right < left ? left - right - from : 0;
        const size_t past = to + right > width + left ? to + right - width - left : 0;
        const size_t tap = transposed ? taps - 1 - t : t;
        if (i + half < down || i + half - down >= c->grid.height || first + past >= n)
            continue;
        const nf_real *of_tap = part + (transposed ? tap * channels : tap) * n + first;
        nf_real *to_row = z + (i + half - down) * width + (from + first + right - left);
        for (size_t k = 0; k < channels; k++)
            nfi_add_scaled(n - first - past, 1, of_tap + (transposed ? k : k * taps) * n,
                           to_row + k * c->grid.pixels * ld);
    }
}

/* By parts of image rows of x, with all taps as rows of one product. In a run, few channels of the result would read
   each number of x for few sums, and again for each tap. */
static void convolve_parts(const nfi_conv *c, bool transposed, size_t ld, const nf_real *w, const nf_real *x, bool add,
                           nf_real *z)
{
    const size_t rows = rows_of_part(c, transposed), width = c->grid.width * ld, plane = c->grid.pixels * ld;
    const size_t room = PART / rows / NFI_LANES * NFI_LANES, widest = room < PART_WIDEST ? room : PART_WIDEST;
    nfi_matrix W = transposed ? (nfi_matrix){.n_rows = c->out, .width = rows, .stride = rows}
                              : (nfi_matrix){.n_rows = rows, .width = c->in, .stride = c->in};
    nf_real part[PART];
    for (size_t k = 0; !add && k < (transposed ? c->in : c->out); k++)
        memset(z + k * plane, 0, plane * sizeof *z);
    for (size_t i = 0; i < c->grid.height; i++)
        for (size_t from = 0; from < width; from += W.ld_of_result) {
            W.ld_of_result = width - from < widest ? width - from : widest;
            (transposed ? nfi_times_transposed : nfi_times)(&W, w, 0, rows, W.ld_of_result, plane, x + i * width + from,
                                                            false, part);
            add_part(c, transposed, ld, i, from, from + W.ld_of_result, part, z);
        }
}

static void convolve(const nfi_conv *c, bool transposed, size_t ld, const nf_real *w, const nf_real *x, bool add,
                     nf_real *z)
{
    const size_t rows = rows_of_part(c, transposed), channels = transposed ? c->in : c->out;
    const bool few =
        c->side > 1 && channels <= FEW && channels < (transposed ? c->out : c->in) && NFI_LANES * rows <= PART;
    (few ? convolve_parts : convolve_runs)(c, transposed, ld, w, x, add, z);
}

void nfi_conv_apply(const nfi_conv *c, size_t ld, const nf_real *w, const nf_real *x, bool add, nf_real *z)
{
    convolve(c, false, ld, w, x, add, z);
    if (!add)
        clear_rest(c, c->out, ld, z);
}

void nfi_conv_transposed(const nfi_conv *c, size_t ld, const nf_real *w, const nf_real *gz, nf_real *gx)
{
    convolve(c, true, ld, w, gz, false, gx);
    clear_rest(c, c->in, ld, gx);
}

/* The stride of a transpose of that many rows: an odd number of whole vectors, as in nfi_weight_gradient. */
static size_t odd_lanes(size_t rows)
{
    return ((rows + NFI_LANES - 1) / NFI_LANES | 1) * NFI_LANES;
}

/* Adds what image row i of x, transposed in xt [width ld x ldt], gives to the gradient of W. */
static void outer_of_row(const nfi_conv *c, size_t ld, size_t i, size_t ldt, const nf_real *xt, const nf_real *gz,
                         nf_real *gw)
{
    const nfi_matrix W = matrix_of(c);
    const size_t half = c->side / 2, width = c->grid.width;
    for (size_t a = 0; a < c->side; a++) {
        if (i + half < a || i + half - a >= c->grid.height)
            continue;
        const size_t row = i + half - a; /* of gz */
        for (size_t b = 0; b < c->side; b++) {
            const size_t far = b < half ? half - b : b - half;
            if (far >= width)
                continue;
            const size_t from = b < half ? 0 : far, to = b < half ? far : 0; /* first pixels of x and of gz */
            nfi_outer(&W, (width - far) * ld, c->grid.pixels * ld, gz + (row * width + to) * ld, ldt,
                      xt + from * ld * ldt, true, gw + (a * c->side + b) * c->in);
        }
    }
}

/* The numbers under the kernel at each pixel of image row i, patch [taps and channels x width ld]; zeros outside the
   image. */
static void patches_of_row(const nfi_conv *c, size_t ld, size_t i, const nf_real *x, nf_real *patch)
{
    const size_t half = c->side / 2, width = c->grid.width, n = width * ld, plane = c->grid.pixels * ld;
    memset(patch, 0, nfi_conv_fan_in(c) * n * sizeof *patch);
    for (size_t a = 0; a < c->side; a++)
        for (size_t b = 0; b < c->side && i + a >= half && i + a - half < c->grid.height; b++) {
            const size_t far = b < half ? half - b : b - half, from = b < half ? 0 : far, to = b < half ? far : 0;
            for (size_t k = 0; far < width && k < c->in; k++)
                memcpy(patch + ((a * c->side + b) * c->in + k) * n + to * ld,
                       x + k * plane + ((i + a - half) * width + from) * ld, (width - far) * ld * sizeof *patch);
        }
}

/* gW^T = the patches of x times the transpose of gz, part by part of each image row, in sums [fan in x ldt]. */
static nf_status outer_of_patches(const nfi_conv *c, size_t ld, nf_arena *scratch, const nf_real *x, const nf_real *gz,
                                  nf_real *gw)
{
    const size_t n = c->grid.width * ld, fan_in = nfi_conv_fan_in(c), ldt = odd_lanes(c->out);
    const nfi_matrix sum = {.n_rows = fan_in, .width = c->out, .stride = ldt};
    nf_real *patch = nf_arena_reals(scratch, fan_in, n), *gzt = nf_arena_reals(scratch, PART_WIDEST, ldt);
    nf_real *sums = nf_arena_reals(scratch, fan_in, ldt);
    if (!patch || !gzt || !sums)
        return NF_ENOMEM;
    for (size_t i = 0; i < c->grid.height; i++) {
        patches_of_row(c, ld, i, x, patch);
        for (size_t from = 0, part; from < n; from += part) {
            part = n - from < PART_WIDEST ? n - from : PART_WIDEST;
            nfi_transpose(c->out, part, gz + i * n + from, c->grid.pixels * ld, gzt, ldt);
            nfi_outer(&sum, part, n, patch + from, ldt, gzt, i + from > 0, sums);
        }
    }
    for (size_t o = 0; o < c->out; o++)
        for (size_t k = 0; k < fan_in; k++)
            gw[o * fan_in + k] += sums[k * ldt + o];
    return NF_OK;
}

static nf_status outer_of_rows(const nfi_conv *c, size_t ld, nf_arena *scratch, const nf_real *x, const nf_real *gz,
                               nf_real *gw)
{
    const size_t n = c->grid.width * ld, ldt = odd_lanes(c->in);
    nf_real *xt = nf_arena_reals(scratch, n, ldt);
    for (size_t i = 0; xt && i < c->grid.height; i++) {
        nfi_transpose(c->in, n, x + i * n, c->grid.pixels * ld, xt, ldt);
        outer_of_row(c, ld, i, ldt, xt, gz, gw);
    }
    return xt ? NF_OK : NF_ENOMEM;
}

nf_status nfi_conv_outer(const nfi_conv *c, size_t ld, nf_arena *scratch, const nf_real *x, const nf_real *gz, bool add,
                         nf_real *gw)
{
    const nf_mark mark = nf_arena_mark(scratch);
    if (!add)
        memset(gw, 0, c->out * nfi_conv_fan_in(c) * sizeof *gw);
    const bool few = c->in < NFI_LANES && c->in < c->out;
    const nf_status status = (few ? outer_of_patches : outer_of_rows)(c, ld, scratch, x, gz, gw);
    nf_arena_rewind(scratch, mark);
    return status;
}

/* ---- between features and grids ---- */

size_t nfi_count_pixels(const nfi_grid *g, nf_pixels which)
{
    const size_t pixels = g->height * g->width;
    return which == NF_ALL_PIXELS ? pixels : (pixels + (which == NF_EVEN_PIXELS)) / 2;
}

static bool is_chosen(const nfi_grid *g, nf_pixels which, size_t pixel)
{
    return which == NF_ALL_PIXELS || nfi_pixel_is_odd(pixel, g->width) == (which == NF_ODD_PIXELS);
}

/* Channel c of the pixel that comes i-th among `count` of them is row (c / n count + i) n + c % n of an array. */
static size_t first_row(size_t channel, size_t n, size_t count)
{
    return channel / n * count * n + channel % n;
}

void nfi_to_grid(const nfi_grid *g, nf_pixels which, size_t n, size_t channels, size_t ld, const nf_real *x,
                 nf_real *grid)
{
    const size_t image = g->height * g->width, count = nfi_count_pixels(g, which);
    for (size_t c = 0; c < channels; c++) {
        const nf_real *from = x + first_row(c, n, count) * ld;
        for (size_t p = 0; p < g->pixels; p++, grid += ld)
            if (p < image && is_chosen(g, which, p)) {
                memcpy(grid, from, ld * sizeof *grid);
                from += n * ld;
            } else {
                memset(grid, 0, ld * sizeof *grid);
            }
    }
}

void nfi_from_grid(const nfi_grid *g, nf_pixels which, size_t n, size_t channels, size_t ld, const nf_real *grid,
                   nf_real *x)
{
    const size_t image = g->height * g->width, count = nfi_count_pixels(g, which);
    for (size_t c = 0; c < channels; c++) {
        nf_real *to = x + first_row(c, n, count) * ld;
        for (size_t p = 0; p < g->pixels; p++, grid += ld)
            if (p < image && is_chosen(g, which, p)) {
                memcpy(to, grid, ld * sizeof *grid);
                to += n * ld;
            }
    }
}
