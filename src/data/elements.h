/* The elements of arrays in files, as numbers. */
#ifndef NFI_ELEMENTS_H
#define NFI_ELEMENTS_H
#include <nflow/data.h>

typedef enum nfi_element_kind { NFI_UNSIGNED, NFI_SIGNED, NFI_FLOATING } nfi_element_kind;

/* One sort of elements. Signed ones are two's complement, floating ones IEEE 754. */
typedef struct nfi_element {
    nfi_element_kind kind;
    size_t width;    /* in bytes: 1, 2, 4 or 8; of floating ones 2, 4 or 8 */
    bool big_endian; /* the first byte counts most */
} nfi_element;

/* The number that an element is; 64-bit integers are rounded to the nearest double. */
double nfi_element_value(const nfi_element *e, const unsigned char *bytes);

/* An array as a file has it, with elements [all x width]. */
typedef struct nfi_raw_array {
    const char *who, *path; /* for messages */
    nfi_element element;
    size_t rank, n, dim, all; /* n: the first extent, dim: the product of the others; 1 where there are none */
    const size_t *extent;     /* [rank] */
    bool fortran;             /* the first index runs fastest */
} nfi_raw_array;

/* n, dim and all from rank and extent; false if a product overflows. */
bool nfi_raw_array_count(nfi_raw_array *a);
/* Makes the array of numbers. NF_EFORMAT if a finite number is infinite in nf_real, NF_ENOMEM. */
nf_status nfi_decode_array(const nfi_raw_array *a, const unsigned char *raw, nf_array *out);

/* The most bytes that a file may have in memory: max_bytes, or what stands for 0. */
size_t nfi_limit_of(size_t max_bytes);

#endif
