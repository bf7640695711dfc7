/* The elements of arrays in files, as numbers. */
#ifndef NFI_ELEMENTS_H
#define NFI_ELEMENTS_H
#include <nflow/data.h>
#include "io/stream.h"

typedef enum nfi_element_kind { NFI_UNSIGNED, NFI_SIGNED, NFI_FLOATING } nfi_element_kind;

/* One sort of elements. Signed ones are two's complement, floating ones IEEE 754. */
typedef struct nfi_element {
    nfi_element_kind kind;
    size_t width;    /* in bytes: 1, 2, 4 or 8; of floating ones 2, 4 or 8 */
    bool big_endian; /* the first byte counts most */
} nfi_element;

enum { NFI_MOST_RANK = 255 };

/* An array as a file has it: what its header says. */
typedef struct nfi_raw_array {
    const char *who, *path; /* for messages */
    nfi_element element;
    size_t rank, n, dim,
        all; /* n: the first extent, dim: the product of the others, all: of all; 1 where there are none */
    size_t extent[NFI_MOST_RANK];
    bool fortran; /* the first index runs fastest */
} nfi_raw_array;

/* n, dim and all from rank and extent. NF_EFORMAT if an extent is 0, or if so many elements have more bytes than a
   size_t can count. */
nf_status nfi_count_array(nfi_raw_array *a);
/* Reads the elements as they are in the file, to *raw [all x width], and checks that the file ends there. They will
   become `wide` bytes each in memory, of which there may be `limit`. */
nf_status nfi_read_elements(nfi_stream *s, const nfi_raw_array *a, size_t wide, size_t limit, unsigned char **raw);
/* Reads the elements and makes the array of numbers of them. After an error the caller releases `out`. */
nf_status nfi_read_array(nfi_stream *s, const nfi_raw_array *a, size_t limit, nf_array *out);
/* Rows rows[0 .. count - 1] of the array whose elements are `raw`, to out [count x dim]; rows NULL: all, in order.
   NF_EFORMAT if a finite number is infinite in nf_real. */
nf_status nfi_decode_rows(const nfi_raw_array *a, const unsigned char *raw, size_t count, const size_t *rows,
                          nf_real *out);

/* Reads the header of an npy file, where the stream then stands behind it, to *a, whose who and path are given. */
nf_status nfi_read_npy_header(nfi_stream *s, nfi_raw_array *a);

/* The most bytes that a file may have in memory: max_bytes, or what stands for 0. */
size_t nfi_limit_of(size_t max_bytes);

#endif
