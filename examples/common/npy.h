/* Arrays in numpy's format (NEP 1), as numpy.save writes them. */
#ifndef EXAMPLES_NPY_H
#define EXAMPLES_NPY_H
#include <nflow/data.h>

enum { NPY_MOST = 4 }; /* indices */
typedef struct npy {
    size_t rank, extent[NPY_MOST];
    unsigned char *data; /* the last index runs fastest; to be released by free() */
} npy;

/* Reads a .npy file, plain or packed by xz. Exits 1 with one line if it is no such file, is damaged, or holds anything
   but uint8 in C order. */
npy npy_read(const char *path);
/* Reads an array of real numbers of any type as nf_load_npy() does, plain or packed by gzip or xz; to be released by
   nf_array_free(). Exits 1 with one line if anything is wrong. */
nf_array npy_numbers(const char *path);

#endif
