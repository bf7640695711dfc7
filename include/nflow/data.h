/**
 * @file data.h
 * Reading data sets: IDX files (plain or gzip) and packed bits. Files are not trusted: every size is checked.
 */
#ifndef NFLOW_DATA_H
#define NFLOW_DATA_H
#include <nflow/base.h>
NF_BEGIN_DECLS

/** An array of bytes read from a file; release with nf_bytes_free. */
typedef struct nf_bytes {
    size_t n;            /**< rows (images) */
    size_t dim;          /**< bytes a row: the product of the further extents */
    size_t height;       /**< of an image: the second extent of an IDX file, 0 if it has none */
    size_t width;        /**< the third, likewise */
    unsigned char *data; /**< [n x dim] */
} nf_bytes;

/**
 * Reads an IDX file of unsigned bytes (LeCun's MNIST format, magic 0x000008rr), plain or gzip.
 * @return NF_EIO if it cannot be opened (the message names the file), NF_EFORMAT (wrong magic, no rows, impossible
 * sizes, truncated, bytes left over), NF_ENOMEM, NF_EUNSUPPORTED (gzip in a build without zlib).
 */
NF_API NF_CHECKED nf_status nf_read_idx(const char *path, nf_bytes *out);
/**
 * Reads rows of `dim` bits packed most significant bit first in ceil(dim / 8) bytes, plain or gzip, no header: static
 * binarised MNIST. Values become 0 and 255, so that value / 255 is the bit. Errors as nf_read_idx.
 */
NF_API NF_CHECKED nf_status nf_read_packed_bits(const char *path, size_t dim, nf_bytes *out);
/** Releases the array and clears the struct. */
NF_API void nf_bytes_free(nf_bytes *b);

NF_END_DECLS
#endif
