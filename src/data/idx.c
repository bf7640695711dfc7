/*
 * Data sets of bytes.
 *
 * IDX (LeCun's MNIST page): two bytes 0, 0; a type (0x08: unsigned bytes); the rank r; then r big-endian 32-bit
 * extents; then the bytes, the last index running fastest. Packed bits: rows of ceil(dim / 8) bytes, most significant
 * bit first, without a header.
 */
#include <nflow/data.h>
#include "base/memory.h"
#include "io/stream.h"
#include <string.h>

/* Packed bits have no header that says how many there are, so gzip data are unpacked only up to this many bytes. */
static const size_t max_unpacked_bits_bytes = (size_t)1 << 28;

/* The product of all extents but the first; false on overflow. */
static bool row_size(size_t rank, const size_t *extent, size_t *size)
{
    *size = 1;
    for (size_t i = 1; i < rank; i++)
        if (!nfi_mul(*size, extent[i], size))
            return false;
    return true;
}

/* Reads the magic number and the extents [256]. */
static nf_status read_header(nfi_stream *s, const char *path, size_t *rank, size_t *extent)
{
    unsigned char magic[4], raw[4 * 255];
    size_t got;
    nf_status status = nfi_stream_read(s, magic, 4, &got);
    if (status != NF_OK)
        return status;
    if (got < 4)
        return nf_error(NF_EFORMAT, "nf_load_idx: %s: %zu bytes are too few for an IDX file", path, got);
    *rank = magic[3];
    if (magic[0] != 0 || magic[1] != 0 || magic[2] != 8 || *rank == 0)
        return nf_error(NF_EFORMAT, "nf_load_idx: %s: magic number %02x%02x%02x%02x, not 000008rr (unsigned bytes)",
                        path, magic[0], magic[1], magic[2], magic[3]);
    status = nfi_stream_read(s, raw, 4 * *rank, &got);
    if (status != NF_OK)
        return status;
    if (got < 4 * *rank)
        return nf_error(NF_EFORMAT, "nf_load_idx: %s: the header is cut: rank %zu, but %zu bytes of extents", path,
                        *rank, got);
    for (size_t i = 0; i < *rank; i++) {
        const unsigned char *b = raw + 4 * i;
        extent[i] = (size_t)b[0] << 24 | (size_t)b[1] << 16 | (size_t)b[2] << 8 | b[3];
        if (extent[i] == 0)
            return nf_error(NF_EFORMAT, "nf_load_idx: %s: %s (extent %zu of %zu is 0)", path,
                            i ? "rows are empty" : "there are no rows", i + 1, *rank);
    }
    return NF_OK;
}

static nf_status read_idx(nfi_stream *s, const char *path, nf_bytes *out)
{
    size_t rank = 0, extent[255], total, got;
    nf_status status = read_header(s, path, &rank, extent);
    if (status != NF_OK)
        return status;
    if (!row_size(rank, extent, &out->dim) || !nfi_mul(extent[0], out->dim, &total))
        return nf_error(NF_EFORMAT, "nf_load_idx: %s: the header's %zu extents have an impossible product", path, rank);
    out->n = extent[0];
    if (rank >= 3) {
        out->height = extent[1];
        out->width = extent[2];
    }
    status = nfi_stream_read_all(s, total, &out->data, &got);
    if (status != NF_OK)
        return status;
    if (got < total)
        return nf_error(NF_EFORMAT, "nf_load_idx: %s: %zu bytes of data, the header promises %zu x %zu", path, got,
                        out->n, out->dim);
    return nfi_stream_expect_end(s);
}

nf_status nf_load_idx(const char *path, nf_bytes *out)
{
    if (!out || !path)
        return nf_error(NF_EARG, "nf_load_idx: %s is NULL", out ? "path" : "out");
    *out = (nf_bytes){0};
    nfi_stream *s = nfi_stream_open("nf_load_idx", path, true);
    if (!s)
        return nf_error_status();
    nf_status status = read_idx(s, path, out);
    nfi_stream_close(s);
    if (status != NF_OK)
        nf_bytes_free(out);
    return status;
}

/* Unpacks bits [n x row] to bytes 0 and 255 [n x dim]. */
static void unpack_bits(size_t n, size_t row, size_t dim, const unsigned char *packed, unsigned char *out)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < dim; j++)
            out[i * dim + j] = packed[i * row + j / 8] >> (7 - j % 8) & 1 ? 255 : 0;
}

static nf_status read_bits(nfi_stream *s, const char *path, nf_bytes *out)
{
    unsigned char *packed;
    size_t row = out->dim / 8 + (out->dim % 8 != 0), got, total;
    size_t limit = nfi_stream_is_gzip(s) ? max_unpacked_bits_bytes : SIZE_MAX;
    nf_status status = nfi_stream_read_all(s, limit, &packed, &got);
    if (status != NF_OK)
        return status;
    if (got == limit)
        status = nf_error(NF_EFORMAT, "nf_load_packed_bits: %s: unpacks to %zu bytes or more", path, limit);
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

nf_status nf_load_packed_bits(const char *path, size_t dim, nf_bytes *out)
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
    nf_status status = read_bits(s, path, out);
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
