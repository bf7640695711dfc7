/**
 * @file data.h
 * Data sets: arrays in memory or rows on request, and their minibatches; and reading IDX files (plain or gzip) and
 * packed bits. Files are not trusted: every size is checked.
 */
#ifndef NFLOW_DATA_H
#define NFLOW_DATA_H
#include <nflow/object.h>
NF_BEGIN_DECLS

/* ---- data sets ---- */

/** How grey values become bits. */
typedef enum nf_binarise {
    NF_GREY,              /**< they stay */
    NF_BINARISE_STATIC,   /**< 1 with probability value, once: the same for every step */
    NF_BINARISE_DYNAMIC,  /**< 1 with probability value, anew each step */
    NF_BINARISE_THRESHOLD /**< 1 where value >= 1/2 */
} nf_binarise;

/**
 * Rows on request, for data that are not an array in memory: a mapped or a seeked file, a data base, a simulation. The
 * same row must have the same values each time.
 */
typedef struct nf_source {
    /**
     * Reads `count` rows, at least 1: row number rows[i], below nf_data.n, to x[i x dim], and its context to
     * ctx[i x n_ctx], both row-major. Numbers come in any order, and one may come twice. ctx NULL: not wanted.
     * @return 0; anything else ends the computation that wants the rows, with the status and message of the callback's
     * own nf_error(), or, where it called none, with NF_EIO.
     */
    int (*read)(void *user, size_t count, const size_t *rows, nf_real *x, nf_real *ctx);
    void *user; /**< handed to read; must outlive all that uses the data */
    /**
     * true: read may be called from several threads at once. false: of each objective (or nf_minibatches) one call at a
     * time, though not always from the same thread; two objectives that run at once and share a source need true.
     */
    bool thread_safe;
} nf_source;

/**
 * A data set: n rows. Their values are given in one of three ways: x, or bytes that stand for value / 255, or a source.
 * All numbers that are computed are the same in each. What it points to is borrowed.
 */
typedef struct nf_data {
    size_t n;                   /**< rows, >= 1 */
    size_t dim;                 /**< columns, >= 1 */
    const nf_real *x;           /**< [n x dim], or NULL */
    const unsigned char *bytes; /**< [n x dim], or NULL */
    size_t n_ctx;               /**< columns of context */
    const nf_real *ctx;         /**< [n x n_ctx], or NULL: no context, or it comes from the source */
    nf_binarise binarise;       /**< applied to values as they are read */
    uint64_t binarise_seed;     /**< of static binarisation: a bit is a function of it, the row and the column */
    const nf_source *source; /**< gives values and context; NULL: the arrays. The struct is copied where it is taken */
} nf_data;

/* ---- minibatches ---- */

/**
 * Shuffled batches of a data set's rows, for objectives of one's own (nf_maximum_likelihood and nf_vae_elbo have them
 * inside). Each row comes once an epoch; every epoch has another random order, which is computed row by row and takes
 * no memory (nf_noise_permuted). Epochs are laid end to end, and step t has places t b .. t b + b - 1 of that sequence:
 * an epoch's remainder is carried over into the next, and a step's rows are a function of (seed, step) alone. An
 * objective's `begin` calls nf_minibatches_begin(), its `forward` or `backward` nf_minibatches_tile() for each tile.
 */
typedef struct nf_minibatches nf_minibatches;

/**
 * Minibatches of `batch` rows; n or more: all rows in order, each step.
 * @param data what it points to is borrowed; the struct itself is copied
 * @return NULL on NF_EARG (NULL, batch 0, no rows or columns, not exactly one of x, bytes and source, a context without
 * columns or the reverse, ctx beside a source, sizes that overflow), NF_ENOMEM.
 */
NF_API nf_minibatches *nf_minibatches_new(const nf_data *data, size_t batch);
/** Releases it; the data are left alone. NULL is allowed. */
NF_API void nf_minibatches_free(nf_minibatches *b);
/** Rows a step: the smaller of `batch` and n. 0 if b is NULL. */
NF_API size_t nf_minibatches_batch(const nf_minibatches *b);
/**
 * Once a step, while no other thread uses b: selects the rows of step `step` under `seed`. A new b is at step 0 of seed
 * 0. @return NF_EARG (NULL).
 */
NF_API NF_CHECKED nf_status nf_minibatches_begin(nf_minibatches *b, uint64_t seed, uint64_t step);
/**
 * The data set's row that is sample `sample` of the step, which may be any sample below nf_minibatches_batch(). n if
 * there is no such sample, 0 if b is NULL.
 */
NF_API size_t nf_minibatches_row(const nf_minibatches *b, size_t sample);
/**
 * The values of a tile, by any number of threads at once: column s is sample first + s of the step, or, where
 * p->noise.column is given, sample first + p->noise.column[s]. `first` may be anywhere in the batch.
 * @param p   the tile's pass: n, ld, noise.column and scratch are used
 * @param x   [dim x ld], written, padded, bits where the data are binarised
 * @param ctx [n_ctx x ld], likewise; NULL: not wanted. Left alone where n_ctx is 0
 * @return NF_EARG (NULL, a sample beyond the batch), NF_ENOMEM; of a source, what it reports (see nf_source).
 */
NF_API NF_CHECKED nf_status nf_minibatches_tile(const nf_minibatches *b, const nf_pass *p, size_t first, nf_real *x,
                                                nf_real *ctx);

/* ---- files ---- */

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
