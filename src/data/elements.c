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

double nfi_element_value(const nfi_element *e, const unsigned char *bytes)
{
    const uint64_t bits = bits_of(e, bytes);
    if (e->kind == NFI_FLOATING)
        return floating(e, bits);
    const uint64_t half = e->kind == NFI_SIGNED ? UINT64_C(1) << (8 * e->width - 1) : 0;
    return bits < half || half == 0 ? (double)bits : -(double)((half - (bits - half)));
}

bool nfi_raw_array_count(nfi_raw_array *a)
{
    a->n = a->rank ? a->extent[0] : 1;
    a->dim = 1;
    for (size_t i = 1; i < a->rank; i++)
        if (!nfi_mul(a->dim, a->extent[i], &a->dim))
            return false;
    return nfi_mul(a->n, a->dim, &a->all);
}

/* Where number i, the last index running fastest, stands where the first one runs fastest. */
static size_t fortran_place(const nfi_raw_array *a, size_t i)
{
    size_t place = 0;
    for (size_t k = a->rank, stride = a->all; k-- > 0;) {
        stride /= a->extent[k];
        place += i % a->extent[k] * stride;
        i /= a->extent[k];
    }
    return place;
}

nf_status nfi_decode_array(const nfi_raw_array *a, const unsigned char *raw, nf_array *out)
{
    out->data = nfi_calloc(a->all, sizeof *out->data);
    out->extent = nfi_calloc(a->rank ? a->rank : 1, sizeof *out->extent);
    if (!out->data || !out->extent)
        return NF_ENOMEM;
    if (a->rank)
        memcpy(out->extent, a->extent, a->rank * sizeof *out->extent);
    out->rank = a->rank;
    out->n = a->n;
    out->dim = a->dim;
    for (size_t i = 0; i < a->all; i++) {
        const size_t place = a->fortran ? fortran_place(a, i) : i;
        const double value = nfi_element_value(&a->element, raw + place * a->element.width);
        out->data[i] = (nf_real)value;
        if (isfinite(value) && !isfinite(out->data[i]))
            return nf_error(NF_EFORMAT, "%s: %s: number %zu of row %zu is too large for single precision", a->who,
                            a->path, i % a->dim, i / a->dim);
    }
    return NF_OK;
}
