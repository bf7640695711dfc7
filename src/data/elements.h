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
/* Rows rows[0 .. count - 1] of the array whose elements are `raw`, to out [count x dim]; rows NULL: all, in order.
   NF_EFORMAT if a finite number is infinite in nf_real. */
nf_status nfi_decode_rows(const nfi_raw_array *a, const unsigned char *raw, size_t count, const size_t *rows,
                          nf_real *out);

/* Reads a header, behind which the stream then stands, to *a, whose who and path are given. */
typedef nf_status nfi_header_fn(nfi_stream *s, nfi_raw_array *a);
/* Reads a whole file of one array: nf_load_npy and its like, which is `who`. After an error *out is empty. */
nf_status nfi_load_array(const char *who, const char *path, size_t max_bytes, nfi_header_fn *read_header,
                         nf_array *out);
/* Those of npy files. */
nfi_header_fn nfi_read_npy_header;

/* The most bytes that a file may have in memory: max_bytes, or what stands for 0. */
size_t nfi_limit_of(size_t max_bytes);

#endif
