/* Elements of arrays in files: integers and floating numbers of either byte order, as numbers of the library. */
#include "data/elements.h"
#include "base/memory.h"
#include <math.h>
#include <string.h>

size_t nfi_limit_of(size_t max_bytes)
{
    return max_bytes == 0 ? (size_t)4 << 30 : max_bytes < SIZE_MAX ? max_bytes : SIZE_MAX - 1;
}

static uint64_t bits_of(const nfi_element *e, const unsigned char *bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < e->width; i++)
        value = value << 8 | bytes[e->big_endian ? i : e->width - 1 - i];
    return value;
}

/* IEEE 754's binary16: a sign, 5 bits of exponent, 10 of fraction. */
static double half_float(uint64_t bits)
{
    const int exponent = (int)(bits >> 10 & 31);
    const double fraction = (double)(bits & 1023), sign = bits >> 15 ? -1 : 1;
    if (exponent == 31)
        return fraction > 0 ? NAN : sign * INFINITY;
    return sign * (exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24));
}

static double floating(const nfi_element *e, uint64_t bits)
{
    const uint32_t low = (uint32_t)bits;
    float narrow;
    double value;
    if (e->width == 2)
        return half_float(bits);
    memcpy(&narrow, &low, sizeof narrow);
    memcpy(&value, &bits, sizeof value);
    return e->width == 4 ? (double)narrow : value;
}

/* The number that an element is; 64-bit integers are rounded to the nearest double. */
static double value_of(const nfi_element *e, const unsigned char *bytes)
{
    const uint64_t bits = bits_of(e, bytes);
    if (e->kind == NFI_FLOATING)
        return floating(e, bits);
    const uint64_t half = e->kind == NFI_SIGNED ? UINT64_C(1) << (8 * e->width - 1) : 0;
    return bits < half || half == 0 ? (double)bits : -(double)((half - (bits - half)));
}

/* ---- sizes ---- */

static nf_status impossible(const nfi_raw_array *a)
{
    return nf_error(NF_EFORMAT, "%s: %s: the header's %zu extents have an impossible product", a->who, a->path,
                    a->rank);
}

nf_status nfi_count_array(nfi_raw_array *a)
{
    size_t bytes;
    a->n = a->rank ? a->extent[0] : 1;
    a->dim = 1;
    for (size_t i = 0; i < a->rank; i++)
        if (a->extent[i] == 0)
            return nf_error(NF_EFORMAT, "%s: %s: %s (extent %zu of %zu is 0)", a->who, a->path,
                            i ? "rows are empty" : "there are no rows", i + 1, a->rank);
    for (size_t i = 1; i < a->rank; i++)
        if (!nfi_mul(a->dim, a->extent[i], &a->dim))
            return impossible(a);
    return nfi_mul(a->n, a->dim, &a->all) && nfi_mul(a->all, a->element.width, &bytes) ? NF_OK : impossible(a);
}

/* ---- numbers ---- */

/* n elements that follow each other. */
static void decode_run(const nfi_element *e, size_t n, const unsigned char *raw, nf_real *out)
{
    const bool native = e->big_endian == (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__);
    if (native && e->kind == NFI_FLOATING && e->width == sizeof(double))
        for (size_t i = 0; i < n; i++) {
            double value;
            memcpy(&value, raw + i * sizeof value, sizeof value); /* it need not be aligned */
            out[i] = (nf_real)value;
        }
    else if (native && e->kind == NFI_FLOATING && e->width == sizeof(float))
        for (size_t i = 0; i < n; i++) {
            float value;
            memcpy(&value, raw + i * sizeof value, sizeof value);
            out[i] = (nf_real)value;
        }
    else
        for (size_t i = 0; i < n; i++)
            out[i] = (nf_real)value_of(e, raw + i * e->width);
}

/* Where element `column` of row 0 stands if the first index runs fastest; that of row r stands r elements further. */
static size_t fortran_place(const nfi_raw_array *a, size_t column)
{
    size_t place = 0;
    for (size_t k = a->rank, stride = a->all; k-- > 1;) {
        stride /= a->extent[k];
        place += column % a->extent[k] * stride;
        column /= a->extent[k];
    }
    return place;
}

/* Where element `column` of row `row` stands. */
static const unsigned char *element_at(const nfi_raw_array *a, const unsigned char *raw, size_t row, size_t column)
{
    return raw + (a->fortran ? fortran_place(a, column) + row : row * a->dim + column) * a->element.width;
}

/* Whether a finite element has become infinite, which then is the error. Only in the library in float can one. */
static nf_status check_range(const nfi_raw_array *a, const unsigned char *raw, size_t count, const size_t *rows,
                             const nf_real *out)
{
    for (size_t i = 0; sizeof(nf_real) < sizeof(double) && i < count * a->dim; i++)
        if (isinf(out[i])) {
            const size_t row = rows ? rows[i / a->dim] : i / a->dim, column = i % a->dim;
            if (isfinite(value_of(&a->element, element_at(a, raw, row, column))))
                return nf_error(NF_EFORMAT, "%s: %s: number %zu of row %zu is too large for single precision", a->who,
                                a->path, column, row);
        }
    return NF_OK;
}

nf_status nfi_decode_rows(const nfi_raw_array *a, const unsigned char *raw, size_t count, const size_t *rows,
                          nf_real *out)
{
    const nfi_element *e = &a->element;
    if (!a->fortran && !rows)
        decode_run(e, count * a->dim, raw, out);
    else if (!a->fortran)
        for (size_t i = 0; i < count; i++)
            decode_run(e, a->dim, element_at(a, raw, rows[i], 0), out + i * a->dim);
    else
        for (size_t c = 0; c < a->dim; c++) {
            const unsigned char *column = element_at(a, raw, 0, c);
            for (size_t i = 0; i < count; i++)
                out[i * a->dim + c] = (nf_real)value_of(e, column + (rows ? rows[i] : i) * e->width);
        }
    return check_range(a, raw, count, rows, out);
}

/* ---- arrays ---- */

nf_status nfi_read_elements(nfi_stream *s, const nfi_raw_array *a, size_t wide, size_t limit, unsigned char **raw)
{
    const size_t bytes = a->all * a->element.width;
    size_t got;
    if (a->all > limit / wide)
        return nf_error(NF_EFORMAT,
                        "%s: %s: the header promises %zu numbers of %zu bytes, more than max_bytes, %zu, has room for",
                        a->who, a->path, a->all, wide, limit);
    nf_status status = nfi_stream_read_all(s, bytes, raw, &got);
    if (status == NF_OK && got < bytes)
        status = nf_error(NF_EFORMAT, "%s: %s: %zu bytes of data, the header promises %zu x %zu elements of %zu",
                          a->who, a->path, got, a->n, a->dim, a->element.width);
    return status == NF_OK ? nfi_stream_expect_end(s) : status;
}

/* Reads the elements and makes the array of numbers of them. */
static nf_status read_array(nfi_stream *s, const nfi_raw_array *a, size_t limit, nf_array *out)
{
    unsigned char *raw = NULL;
    nf_status status = nfi_read_elements(s, a, sizeof(nf_real), limit, &raw);
    if (status == NF_OK) {
        *out = (nf_array){.n = a->n,
                          .dim = a->dim,
                          .rank = a->rank,
                          .extent = nfi_calloc(a->rank, sizeof *out->extent),
                          .data = nfi_calloc(a->all, sizeof *out->data)};
        status = out->extent && out->data ? nfi_decode_rows(a, raw, a->n, NULL, out->data) : NF_ENOMEM;
        if (status == NF_OK)
            memcpy(out->extent, a->extent, a->rank * sizeof *out->extent);
    }
    nfi_free(raw);
    return status;
}

nf_status nfi_load_array(const char *who, const char *path, size_t max_bytes, nfi_header_fn *read_header, nf_array *out)
{
    if (!out || !path)
        return nf_error(NF_EARG, "%s: %s is NULL", who, out ? "path" : "out");
    *out = (nf_array){0};
    nfi_stream *s = nfi_stream_open(who, path, true);
    if (!s)
        return nf_error_status();
    nfi_raw_array a = {.who = who, .path = path};
    nf_status status = read_header(s, &a);
    if (status == NF_OK)
        status = read_array(s, &a, nfi_limit_of(max_bytes), out);
    nfi_stream_close(s);
    if (status != NF_OK)
        nf_array_free(out);
    return status;
}

void nf_array_free(nf_array *a)
{
    if (!a)
        return;
    nfi_free(a->extent);
    nfi_free(a->data);
    *a = (nf_array){0};
}
