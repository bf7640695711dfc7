/* Rows of a data set as tiles: from arrays or from a source, binarised on the way. */
#ifndef NFI_FIT_DATA_H
#define NFI_FIT_DATA_H
#include <nflow/data.h>
#include <pthread.h>

/* Sites for the noise of data and of objectives over data, far from the sites of trees. */
enum {
    NFI_SHUFFLE_SITE = 0x7ffffff0,
    NFI_STATIC_SITE,
    NFI_DYNAMIC_SITE,
    NFI_TIME_SITE,
    NFI_JITTER_SITE,
    NFI_BLUR_SITE
};

/* A data set that is open for reading. It holds its own address, so it must not be moved. */
typedef struct nfi_data {
    nf_data data;          /* its `source` points to the copy here, or is NULL */
    nf_source source;      /* a copy */
    nf_real value[256];    /* value[b] is the number that byte b stands for */
    pthread_mutex_t *lock; /* &mutex, held while a source that is not thread-safe reads; NULL: no lock needed */
    pthread_mutex_t mutex;
} nfi_data;

/* Checks `data`, with messages that begin with `who`, and opens it in *r. `probabilities`: the reader takes the numbers
   of an array x for such, also where none become bits. After an error there is nothing to close. */
nf_status nfi_data_open(nfi_data *r, const nf_data *data, bool probabilities, const char *who);
void nfi_data_close(nfi_data *r);

/* Makes a tile in which column s is row row[s] of the data set, s < p->n: x [dim x ld], ctx [n_ctx x ld] or NULL (not
   wanted). The padding is filled. `dynamic` names the noise of dynamic bits. Of p only n, ld and scratch are used. Any
   number of threads may call this at once. */
nf_status nfi_data_tile(const nfi_data *r, const nf_pass *p, const size_t *row, const nf_noise *dynamic, nf_real *x,
                        nf_real *ctx);

#endif
