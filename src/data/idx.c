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

enum { MOST_RANK = 255 };

/* The types of IDX elements. `width` is in bytes; 0: there is no such type. */
static const struct {
    const char *name;
    size_t width;
    nfi_element_kind kind;
} elements[] = {[0x08] = {"unsigned bytes", 1, NFI_UNSIGNED}, [0x09] = {"signed bytes", 1, NFI_SIGNED},
                [0x0b] = {"16-bit integers", 2, NFI_SIGNED},  [0x0c] = {"32-bit integers", 4, NFI_SIGNED},
                [0x0d] = {"floats", 4, NFI_FLOATING},         [0x0e] = {"doubles", 8, NFI_FLOATING}};
enum { UNSIGNED_BYTES = 0x08, N_TYPES = sizeof elements / sizeof *elements };

/* What the header of an IDX file says. */
typedef struct idx_header {
    const char *who, *path; /* for messages */
    unsigned char type;
    size_t width;          /* of an element, in bytes */
    size_t rank, dim, all; /* dim: the product of all extents but the first; all: of all extents */
    size_t extent[MOST_RANK];
} idx_header;

/* Reads a magic number whose type has a width. */
static nf_status read_magic(nfi_stream *s, idx_header *h)
{
    unsigned char magic[4];
    size_t got;
    nf_status status = nfi_stream_read(s, magic, sizeof magic, &got);
    if (status != NF_OK)
        return status;
    if (got < sizeof magic)
        return nf_error(NF_EFORMAT, "%s: %s: %zu bytes are too few for an IDX file", h->who, h->path, got);
    h->type = magic[2];
    h->rank = magic[3];
    h->width = h->type < N_TYPES ? elements[h->type].width : 0;
    if (magic[0] != 0 || magic[1] != 0 || h->width == 0 || h->rank == 0)
        return nf_error(NF_EFORMAT,
                        "%s: %s: magic number %02x%02x%02x%02x, not 0000ttrr (type 08, 09, 0b, 0c, 0d or 0e, and "
                        "rank 1 or more)",
                        h->who, h->path, magic[0], magic[1], magic[2], magic[3]);
    return NF_OK;
}

/* Reads the magic number and the extents, and checks their product. */
static nf_status read_header(nfi_stream *s, idx_header *h)
{
    unsigned char raw[4 * MOST_RANK];
    size_t got;
    nf_status status = read_magic(s, h);
    if (status == NF_OK)
        status = nfi_stream_read(s, raw, 4 * h->rank, &got);
    if (status != NF_OK)
        return status;
    if (got < 4 * h->rank)
        return nf_error(NF_EFORMAT, "%s: %s: the header is cut: rank %zu, but %zu bytes of extents", h->who, h->path,
                        h->rank, got);
    h->dim = 1;
    bool possible = true;
    for (size_t i = 0; i < h->rank; i++) {
        const unsigned char *b = raw + 4 * i;
        h->extent[i] = (size_t)b[0] << 24 | (size_t)b[1] << 16 | (size_t)b[2] << 8 | b[3];
        if (h->extent[i] == 0)
            return nf_error(NF_EFORMAT, "%s: %s: %s (extent %zu of %zu is 0)", h->who, h->path,
                            i ? "rows are empty" : "there are no rows", i + 1, h->rank);
        possible = possible && (i == 0 || nfi_mul(h->dim, h->extent[i], &h->dim));
    }
    if (!possible || !nfi_mul(h->extent[0], h->dim, &h->all))
        return nf_error(NF_EFORMAT, "%s: %s: the header's %zu extents have an impossible product", h->who, h->path,
                        h->rank);
    return NF_OK;
}

/* Reads all elements as they are in the file, to *raw [all x width], and checks that the file ends there. They become
   `wide` bytes each in memory, of which there may be `limit`. */
static nf_status read_elements(nfi_stream *s, const idx_header *h, size_t wide, size_t limit, unsigned char **raw)
{
    size_t total, bytes, got;
    if (!nfi_mul(h->all, h->width, &total) || !nfi_mul(h->all, wide, &bytes))
        return nf_error(NF_EFORMAT, "%s: %s: the header's %zu extents have an impossible product", h->who, h->path,
                        h->rank);
    if (bytes > limit)
        return nf_error(NF_EFORMAT, "%s: %s: the header promises %zu bytes, more than max_bytes, %zu", h->who, h->path,
                        bytes, limit);
    nf_status status = nfi_stream_read_all(s, total, raw, &got);
    if (status == NF_OK && got < total)
        status = nf_error(NF_EFORMAT, "%s: %s: %zu bytes of data, the header promises %zu x %zu %s", h->who, h->path,
                          got, h->extent[0], h->dim, elements[h->type].name);
    return status == NF_OK ? nfi_stream_expect_end(s) : status;
}

static nf_status read_bytes(nfi_stream *s, idx_header *h, size_t limit, nf_bytes *out)
{
    nf_status status = read_header(s, h);
    if (status != NF_OK)
        return status;
    if (h->type != UNSIGNED_BYTES)
        return nf_error(NF_EFORMAT, "%s: %s: the elements are %s, not unsigned bytes; nf_load_idx_array() reads them",
                        h->who, h->path, elements[h->type].name);
    out->n = h->extent[0];
    out->dim = h->dim;
    if (h->rank >= 3) {
        out->height = h->extent[1];
        out->width = h->extent[2];
    }
    return read_elements(s, h, 1, limit, &out->data);
}

nf_status nf_load_idx(const char *path, size_t max_bytes, nf_bytes *out)
{
    if (!out || !path)
        return nf_error(NF_EARG, "nf_load_idx: %s is NULL", out ? "path" : "out");
    *out = (nf_bytes){0};
    nfi_stream *s = nfi_stream_open("nf_load_idx", path, true);
    if (!s)
        return nf_error_status();
    nf_status status = read_bytes(s, &(idx_header){.who = "nf_load_idx", .path = path}, nfi_limit_of(max_bytes), out);
    nfi_stream_close(s);
    if (status != NF_OK)
        nf_bytes_free(out);
    return status;
}

/* ---- elements as numbers ---- */

static nf_status read_array(nfi_stream *s, idx_header *h, size_t limit, nf_array *out)
{
    unsigned char *raw = NULL;
    nf_status status = read_header(s, h);
    if (status == NF_OK)
        status = read_elements(s, h, sizeof(nf_real), limit, &raw);
    const nfi_raw_array all = {.who = h->who,
                               .path = h->path,
                               .element = {.kind = h->type < N_TYPES ? elements[h->type].kind : NFI_UNSIGNED,
                                           .width = h->width,
                                           .big_endian = true},
                               .rank = h->rank,
                               .n = h->extent[0],
                               .dim = h->dim,
                               .all = h->all,
                               .extent = h->extent};
    if (status == NF_OK)
        status = nfi_decode_array(&all, raw, out);
    nfi_free(raw);
    return status;
}

nf_status nf_load_idx_array(const char *path, size_t max_bytes, nf_array *out)
{
    if (!out || !path)
        return nf_error(NF_EARG, "nf_load_idx_array: %s is NULL", out ? "path" : "out");
    *out = (nf_array){0};
    nfi_stream *s = nfi_stream_open("nf_load_idx_array", path, true);
    if (!s)
        return nf_error_status();
    idx_header h = {.who = "nf_load_idx_array", .path = path};
    nf_status status = read_array(s, &h, nfi_limit_of(max_bytes), out);
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
