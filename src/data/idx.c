/*
 * Data sets in IDX files, and packed bits.
 *
 * IDX (LeCun's MNIST page): two bytes 0, 0; a type (0x08: unsigned bytes; the others are in elements[] below); the rank
 * r; then r big-endian 32-bit extents; then the elements, big-endian, the last index running fastest. Packed bits: rows
 * of ceil(dim / 8) bytes, most significant bit first, without a header.
 */
#include <nflow/data.h>
#include "base/memory.h"
#include "data/elements.h"
#include "io/stream.h"
#include <string.h>

/* The types of IDX elements. `width` is in bytes; 0: there is no such type. */
static const struct {
    const char *name;
    size_t width;
    nfi_element_kind kind;
} elements[] = {[0x08] = {"unsigned bytes", 1, NFI_UNSIGNED}, [0x09] = {"signed bytes", 1, NFI_SIGNED},
                [0x0b] = {"16-bit integers", 2, NFI_SIGNED},  [0x0c] = {"32-bit integers", 4, NFI_SIGNED},
                [0x0d] = {"floats", 4, NFI_FLOATING},         [0x0e] = {"doubles", 8, NFI_FLOATING}};
enum { UNSIGNED_BYTES = 0x08, N_TYPES = sizeof elements / sizeof *elements };

/* Reads a magic number: the type of the elements, which is returned in *type, and the rank. */
static nf_status read_magic(nfi_stream *s, nfi_raw_array *a, unsigned char *type)
{
    unsigned char magic[4];
    size_t got;
    nf_status status = nfi_stream_read(s, magic, sizeof magic, &got);
    if (status != NF_OK)
        return status;
    if (got < sizeof magic)
        return nf_error(NF_EFORMAT, "%s: %s: %zu bytes are too few for an IDX file", a->who, a->path, got);
    *type = magic[2];
    a->rank = magic[3];
    if (magic[0] != 0 || magic[1] != 0 || *type >= N_TYPES || elements[*type].width == 0 || a->rank == 0)
        return nf_error(NF_EFORMAT,
                        "%s: %s: magic number %02x%02x%02x%02x, not 0000ttrr (type 08, 09, 0b, 0c, 0d or 0e, and "
                        "rank 1 or more)",
                        a->who, a->path, magic[0], magic[1], magic[2], magic[3]);
    a->element = (nfi_element){.kind = elements[*type].kind, .width = elements[*type].width, .big_endian = true};
    return NF_OK;
}

/* Reads the magic number and the extents. */
static nf_status read_header(nfi_stream *s, nfi_raw_array *a, unsigned char *type)
{
    unsigned char raw[4 * NFI_MOST_RANK];
    size_t got;
    nf_status status = read_magic(s, a, type);
    if (status == NF_OK)
        status = nfi_stream_read(s, raw, 4 * a->rank, &got);
    if (status != NF_OK)
        return status;
    if (got < 4 * a->rank)
        return nf_error(NF_EFORMAT, "%s: %s: the header is cut: rank %zu, but %zu bytes of extents", a->who, a->path,
                        a->rank, got);
    for (size_t i = 0; i < a->rank; i++) {
        const unsigned char *b = raw + 4 * i;
        a->extent[i] = (size_t)b[0] << 24 | (size_t)b[1] << 16 | (size_t)b[2] << 8 | b[3];
    }
    return nfi_count_array(a);
}

static nf_status read_bytes(nfi_stream *s, nfi_raw_array *a, size_t limit, nf_bytes *out)
{
    unsigned char type;
    nf_status status = read_header(s, a, &type);
    if (status != NF_OK)
        return status;
    if (type != UNSIGNED_BYTES)
        return nf_error(NF_EFORMAT, "%s: %s: the elements are %s, not unsigned bytes; nf_load_idx_array() reads them",
                        a->who, a->path, elements[type].name);
    out->n = a->n;
    out->dim = a->dim;
    if (a->rank >= 3) {
        out->height = a->extent[1];
        out->width = a->extent[2];
    }
    return nfi_read_elements(s, a, 1, limit, &out->data);
}

nf_status nf_load_idx(const char *path, size_t max_bytes, nf_bytes *out)
{
    if (!out || !path)
        return nf_error(NF_EARG, "nf_load_idx: %s is NULL", out ? "path" : "out");
    *out = (nf_bytes){0};
    nfi_stream *s = nfi_stream_open("nf_load_idx", path, true);
    if (!s)
        return nf_error_status();
    nf_status status =
        read_bytes(s, &(nfi_raw_array){.who = "nf_load_idx", .path = path}, nfi_limit_of(max_bytes), out);
    nfi_stream_close(s);
    if (status != NF_OK)
        nf_bytes_free(out);
    return status;
}

/* An nfi_header_fn, for elements of every type. */
static nf_status read_any_header(nfi_stream *s, nfi_raw_array *a)
{
    unsigned char type;
    return read_header(s, a, &type);
}

nf_status nf_load_idx_array(const char *path, size_t max_bytes, nf_array *out)
{
    return nfi_load_array("nf_load_idx_array", path, max_bytes, read_any_header, out);
}

/* ---- packed bits ---- */

/* Unpacks bits [n x row] to bytes 0 and 255 [n x dim]. */
static void unpack_bits(size_t n, size_t row, size_t dim, const unsigned char *packed, unsigned char *out)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < dim; j++)
            out[i * dim + j] = packed[i * row + j / 8] >> (7 - j % 8) & 1 ? 255 : 0;
}

static nf_status read_bits(nfi_stream *s, const char *path, size_t limit, nf_bytes *out)
{
    unsigned char *packed;
    size_t row = out->dim / 8 + (out->dim % 8 != 0), got, total;
    const size_t most_rows = limit / out->dim; /* whose unpacked bytes stay within the limit; row <= dim */
    nf_status status = nfi_stream_read_all(s, most_rows * row + 1, &packed, &got);
    if (status != NF_OK)
        return status;
    if (got > most_rows * row)
        status = nf_error(NF_EFORMAT,
                          "nf_load_packed_bits: %s: more than %zu rows of %zu, which is all that max_bytes, "
                          "%zu, allows",
                          path, most_rows, out->dim, limit);
    else if (got == 0)
        status = nf_error(NF_EFORMAT, "nf_load_packed_bits: %s: there are no rows", path);
    else if (got % row != 0)
        status = nf_error(NF_EFORMAT,
                          "nf_load_packed_bits: %s: %zu bytes are no whole number of rows of %zu bits "
                          "(%zu bytes)",
                          path, got, out->dim, row);
    else if (!nfi_mul(got / row, out->dim, &total))
        status = nf_error(NF_ENOMEM, "nf_load_packed_bits: %s: %zu rows of %zu do not fit", path, got / row, out->dim);
    else if (!(out->data = nfi_calloc(total, 1)))
        status = NF_ENOMEM;
    else {
        out->n = got / row;
        unpack_bits(out->n, row, out->dim, packed, out->data);
    }
    nfi_free(packed);
    return status;
}

nf_status nf_load_packed_bits(const char *path, size_t dim, size_t max_bytes, nf_bytes *out)
{
    if (!out || !path)
        return nf_error(NF_EARG, "nf_load_packed_bits: %s is NULL", out ? "path" : "out");
    *out = (nf_bytes){0};
    if (dim == 0)
        return nf_error(NF_EARG, "nf_load_packed_bits: dim is 0");
    nfi_stream *s = nfi_stream_open("nf_load_packed_bits", path, true);
    if (!s)
        return nf_error_status();
    out->dim = dim;
    nf_status status = read_bits(s, path, nfi_limit_of(max_bytes), out);
    nfi_stream_close(s);
    if (status != NF_OK)
        nf_bytes_free(out);
    return status;
}

void nf_bytes_free(nf_bytes *b)
{
    if (!b)
        return;
    nfi_free(b->data);
    *b = (nf_bytes){0};
}
