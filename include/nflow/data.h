/**
 * @file data.h
 * Data sets (arrays in memory, or rows on request), their minibatches, and reading of files: IDX, npy, tables as text
 * and packed bits, plain or gzip, and npy files that stay on disk.
 *
 * Files are not trusted: every size is checked, and memory is taken for what a file holds, not for what its header
 * promises. A function nf_load_...() holds at once at most 16 bytes for each byte of the file (unpacked, if it is gzip)
 * and 4 MiB more. A gzip file can unpack to a thousand times its size, so `max_bytes` is a limit as well: at most 6
 * times as much and 4 MiB more are held. These functions read pipes, too: "/dev/stdin" is the standard input.
 */
#ifndef NFLOW_DATA_H
#define NFLOW_DATA_H
#include <nflow/object.h>
NF_BEGIN_DECLS

/* ---- data sets ---- */

/** How grey values become bits. */
typedef enum nf_binarise {
    NF_GREY,              /**< they do not: grey values are kept */
    NF_BINARISE_STATIC,   /**< 1 with probability value, drawn once: the same bits in every step */
    NF_BINARISE_DYNAMIC,  /**< 1 with probability value, drawn anew in each step */
    NF_BINARISE_THRESHOLD /**< 1 where value >= 1/2 */
} nf_binarise;

/**
 * Rows on request, for data that are not an array in memory: a file that is mapped or read in parts, a data base, a
 * simulation. The same row must have the same values each time.
 */
typedef struct nf_source {
    /**
     * Reads `count` rows, at least 1. Row number rows[i], which is below nf_data.n, goes to x[i x dim], and its context
     * to ctx[i x n_ctx]; both arrays are row-major. Row numbers come in any order, and one number may come twice. ctx
     * NULL: not wanted.
     * @return 0. Any other value ends the computation that needs the rows. Its status and message are those of
     * nf_error() if the callback called it, otherwise the status is NF_EIO.
     */
    int (*read)(void *user, size_t count, const size_t *rows, nf_real *x, nf_real *ctx);
    void *user; /**< passed to read; must live as long as the data are used */
    /**
     * true: read may be called from several threads at once. false: each objective (or nf_minibatches) makes one call
     * at a time, though not always from the same thread. Two objectives that run at once and share a source need true.
     */
    bool thread_safe;
} nf_source;

/**
 * A data set: n rows (samples). Their values are given in one of three ways: as x, as bytes that stand for value / 255,
 * or by a source. The results are the same in all three. What the struct points to is borrowed.
 */
typedef struct nf_data {
    size_t n;                   /**< rows, >= 1 */
    size_t dim;                 /**< columns, >= 1 */
    const nf_real *x;           /**< [n x dim], or NULL */
    const unsigned char *bytes; /**< [n x dim], or NULL */
    size_t n_ctx;               /**< columns of context */
    const nf_real *ctx;         /**< [n x n_ctx]; NULL: there is no context, or the source gives it */
    nf_binarise binarise;       /**< what is done to values when they are read */
    uint64_t binarise_seed;     /**< of static binarisation: a bit is a function of this seed, the row and the column */
    /**
     * [n], finite and >= 0, not all 0; NULL: all 1. How much each row counts in nf_maximum_likelihood() and
     * nf_flow_matching(): survey or importance weights, or 0 for rows that are held out. nf_vae_elbo() and
     * nf_vae_score() refuse weights.
     */
    const double *weight;
    const nf_source *source; /**< gives values and context; NULL: the arrays do. Copied together with the nf_data */
} nf_data;

/* ---- minibatches ---- */

/**
 * Shuffled batches of a data set's rows, for objectives that users write (nf_maximum_likelihood and nf_vae_elbo use
 * them internally). Each row comes once an epoch. Every epoch has another random order, which is computed row by row
 * and takes no memory (nf_noise_permuted). The epochs form one long sequence, and step t has places t b .. t b + b - 1
 * of it, where b is the batch. If an epoch does not divide into batches, a batch has the rest of one epoch and the
 * first rows of the next. The rows of a step are a function of (seed, step) alone. An objective's `begin` calls
 * nf_minibatches_begin(); its `forward` or `backward` calls nf_minibatches_tile() for each tile.
 */
typedef struct nf_minibatches nf_minibatches;

/**
 * Minibatches of `batch` rows. If batch is n or more, each step has all rows in order.
 * @param data what it points to is borrowed; the struct itself is copied
 * @return NULL on NF_EARG (NULL, batch 0, no rows or columns, not exactly one of x, bytes and source, a context without
 * columns or the reverse, ctx beside a source, sizes that overflow; numbers of x or ctx that are not finite, or outside
 * [0, 1] where they are binarised: the message has row and column), NF_ENOMEM.
 */
NF_API nf_minibatches *nf_minibatches_new(const nf_data *data, size_t batch);
/** Releases the minibatches, but not the data. NULL is allowed. */
NF_API void nf_minibatches_free(nf_minibatches *b);
/** Rows a step: the smaller of `batch` and n. 0 if b is NULL. */
NF_API size_t nf_minibatches_batch(const nf_minibatches *b);
/**
 * Selects the rows of step `step` under `seed`. Call this once a step, while no other thread uses b. A new b is at step
 * 0 of seed 0.
 * @return NF_EARG (NULL).
 */
NF_API NF_CHECKED nf_status nf_minibatches_begin(nf_minibatches *b, uint64_t seed, uint64_t step);
/**
 * The number of the data set's row that is sample `sample` of the step. `sample` may be any number below
 * nf_minibatches_batch(). The result is n if there is no such sample, and 0 if b is NULL.
 */
NF_API size_t nf_minibatches_row(const nf_minibatches *b, size_t sample);
/**
 * Writes the values of a tile. Any number of threads may call this at once. Column s is sample first + s of the step,
 * or, if p->noise.column is given, sample first + p->noise.column[s]. `first` may be anywhere in the batch.
 * @param p   the tile's pass: n, ld, noise.column and scratch are used
 * @param x   [dim x ld], written, with padding; bits if the data are binarised
 * @param ctx [n_ctx x ld], likewise; NULL: not wanted. Not changed if n_ctx is 0
 * @return NF_EARG (NULL, a sample beyond the batch), NF_ENOMEM; of a source, what it reports (see nf_source).
 */
NF_API NF_CHECKED nf_status nf_minibatches_tile(const nf_minibatches *b, const nf_pass *p, size_t first, nf_real *x,
                                                nf_real *ctx);

/* ---- files ---- */

/** An array of bytes loaded from a file; release with nf_bytes_free. */
typedef struct nf_bytes {
    size_t n;            /**< rows (images) */
    size_t dim;          /**< bytes of a row: the product of all extents but the first */
    size_t height;       /**< of an image: the second extent of an IDX file, 0 if it has none */
    size_t width;        /**< the third, likewise */
    unsigned char *data; /**< [n x dim] */
} nf_bytes;

/**
 * Loads an IDX file of unsigned bytes (LeCun's MNIST format, magic 0x000008rr), plain or gzip. A gzip file may have
 * several members, which are joined, and zeros behind each of them, which are skipped. nf_load_idx_array() reads the
 * other element types.
 * @param max_bytes the most bytes that out->data may have; 0: 4 GiB. Give a limit for files from outside. A larger size
 * is refused before memory is taken for it.
 * @return NF_EIO if the file cannot be opened (the message has its name), NF_EFORMAT (wrong magic, no rows, impossible
 * sizes, more than max_bytes, truncated, bytes left over), NF_ENOMEM, NF_EUNSUPPORTED (gzip in a build without zlib).
 */
NF_API NF_CHECKED nf_status nf_load_idx(const char *path, size_t max_bytes, nf_bytes *out);

/**
 * An array of numbers loaded from a file; release with nf_array_free. It may have any number of indices. Seen as a data
 * set (nf_data.x), the first index counts the rows, and the others together the columns.
 */
typedef struct nf_array {
    size_t n;       /**< rows: the first extent; 1 if the rank is 0 */
    size_t dim;     /**< numbers of a row: the product of all other extents */
    size_t rank;    /**< number of indices; 0: a single number */
    size_t *extent; /**< [rank] */
    nf_real *data;  /**< [n x dim], the last index running fastest */
} nf_array;

/**
 * Loads an IDX file of any element type, plain or gzip: unsigned bytes (type 08), signed bytes (09), 16-bit integers
 * (0b), 32-bit integers (0c), floats (0d) and doubles (0e). Each element becomes the number that it is: bytes are not
 * divided by 255. The library in float rounds doubles and large integers to the nearest float. Numbers that are not
 * finite stay what they are.
 * @param max_bytes the most bytes that out->data may have, as in nf_load_idx(); 0: 4 GiB
 * @return as nf_load_idx(); NF_EFORMAT also for a finite double that is too large for the library's precision.
 */
NF_API NF_CHECKED nf_status nf_load_idx_array(const char *path, size_t max_bytes, nf_array *out);
/**
 * Loads an npy file (NumPy's numpy.save), plain or gzip, of bool, integers or floats of 1 to 8 bytes, in either byte
 * order, in C's or Fortran's order; the array is in C's. Each element becomes the number that it is, true being 1.
 * Rounding and numbers that are not finite are as in nf_load_idx_array().
 * @param max_bytes the most bytes that out->data may have, as in nf_load_idx(); 0: 4 GiB
 * @return as nf_load_idx_array(); NF_EFORMAT also for elements of another type (complex numbers, text, structures).
 */
NF_API NF_CHECKED nf_status nf_load_npy(const char *path, size_t max_bytes, nf_array *out);
/** Releases the array and clears the struct. NULL is allowed. */
NF_API void nf_array_free(nf_array *a);

/**
 * The rows of an npy file that stays on disk, for data that are larger than memory. The file is mapped (mmap): the
 * system reads the parts that are used, keeps them while there is room, and drops them when memory is short. The
 * mapping takes addresses for the whole file, but no memory of the process's own. A limit on addresses (RLIMIT_AS) must
 * have room for the file; limits on data (RLIMIT_DATA) and control groups need not.
 *
 *     nf_mapped *m = nf_map_npy("train.npy");
 *     nf_data data = {.n = nf_mapped_rows(m), .dim = nf_mapped_columns(m), .source = nf_mapped_source(m)};
 *
 * While a file is mapped, nobody may change it. Numbers that change are seen or not, and where the file has been cut,
 * the system ends the process with SIGBUS. A program that replaces the file should write another one and rename it:
 * the mapping then stays that of the old file.
 */
typedef struct nf_mapped nf_mapped;

/**
 * Maps an npy file of the types of elements and the orders that nf_load_npy() reads. It must be a regular file and not
 * gzip. The header is read and checked, and the file must have exactly the bytes that the header promises; the numbers
 * are not looked at. Rows and columns are as in nf_array: the first index counts the rows, the others together the
 * columns. Files in C's order are the fast ones: a row stands in one place. In Fortran's order each number of a row is
 * in another part of the file, so that rows in random order are slow if the file does not fit in memory.
 * @return release by nf_mapped_free(). NULL on NF_EARG (NULL), NF_EIO if the file cannot be opened or mapped,
 * NF_EFORMAT as nf_load_npy(), NF_EUNSUPPORTED (gzip data, a pipe), NF_ENOMEM (no memory, or no addresses for the
 * file).
 */
NF_API nf_mapped *nf_map_npy(const char *path);
/** The number of rows. 0 if m is NULL. */
NF_API size_t nf_mapped_rows(const nf_mapped *m);
/** The number of columns. 0 if m is NULL. */
NF_API size_t nf_mapped_columns(const nf_mapped *m);
/**
 * Reads `count` rows: row rows[i], counted from 0, to x[i x columns]. Row numbers come in any order, and one number may
 * come twice. Each element becomes the number that it is. Numbers that are not finite stay what they are, so that the
 * caller may look for missing values. Any number of threads may call this at once. Nothing is allocated. Of a file that
 * is not in memory, the rows of one call are read from disk at once, so calls should ask for many: some hundreds of
 * rows in random order, or some hundred thousand bytes of rows that follow each other.
 * @param rows [count]; NULL if count is 0
 * @param x    [count x columns], written; NULL if count is 0
 * @return NF_EARG (NULL, a row that there is not); NF_EFORMAT if a finite double is too large for the library in float:
 * the message has its row and column, and x has been written.
 */
NF_API NF_CHECKED nf_status nf_mapped_read(const nf_mapped *m, size_t count, const size_t *rows, nf_real *x);
/**
 * The file as a source of data: all columns as x, no context. nf_data.dim must be the number of columns, and nf_data.n
 * at most the number of rows. It is thread-safe. Beside the errors of nf_mapped_read(), a number that is not finite is
 * NF_EFORMAT, and the message has its row and column; so a computation ends there.
 * @return owned by m, and valid as long as m; NULL if m is NULL
 */
NF_API const nf_source *nf_mapped_source(const nf_mapped *m);
/** Ends the mapping. Sources must not be used any more. NULL is allowed. */
NF_API void nf_mapped_free(nf_mapped *m);

/** A table of numbers loaded from a text file; release with nf_table_free. As a data set: nf_data.x, n, dim. */
typedef struct nf_table {
    size_t n;      /**< rows */
    size_t dim;    /**< columns */
    char **name;   /**< [dim] names of the columns; NULL if the file has none */
    nf_real *data; /**< [n x dim] */
} nf_table;

/** Whether the first line of a table has the names of the columns. */
typedef enum nf_csv_header {
    NF_CSV_DETECT,  /**< it has them if one of its fields is neither a number nor a missing value */
    NF_CSV_NAMES,   /**< it has them */
    NF_CSV_NO_NAMES /**< it has numbers */
} nf_csv_header;

/** Options of nf_load_csv; zero means the default. */
typedef struct nf_csv_options {
    /**
     * Between fields: ',' say, or ' ' for any number of spaces and tabs. 0: the most frequent one of tab, semicolon and
     * comma in the first line; spaces if there is none.
     */
    char separator;
    nf_csv_header header; /**< NF_CSV_DETECT */
    /** The most bytes that the numbers may take; the names may take as many and 65536 more. 0: 4 GiB. */
    size_t max_bytes;
    /** Lines that begin with this character are skipped: '#', say, for draws of nf_save_draws_csv(). 0: no such lines.
     */
    char comment;
} nf_csv_options;

/**
 * Loads a table of numbers from a text file, plain or gzip (RFC 4180): a row a line, fields that may stand in quotes.
 * Blank lines and spaces around fields do not count. Numbers are written as in C, with a point, whatever the locale is.
 * All rows need as many fields as the first line. Memory in use is at most four times that of the numbers, and 200 kB.
 * @param options NULL: the defaults
 * @return NF_EIO if the file cannot be opened; NF_EFORMAT for text that is no number, a value that is missing (nothing,
 * NA, NaN, null, None, ?, - or .) or not finite (the message has line, column and name), a line with another number of
 * fields, no rows, a quote that is not closed, more than max_bytes; NF_EARG, NF_ENOMEM, NF_EUNSUPPORTED (gzip in a
 * build without zlib).
 */
NF_API NF_CHECKED nf_status nf_load_csv(const char *path, const nf_csv_options *options, nf_table *out);
/** Releases the table and clears the struct. NULL is allowed. */
NF_API void nf_table_free(nf_table *t);

/**
 * Loads rows of `dim` bits from a file without header, plain or gzip. A row is packed in ceil(dim / 8) bytes, the most
 * significant bit first. Statically binarised MNIST has this format. Values become 0 and 255, so that value / 255 is
 * the bit. max_bytes is the limit of the unpacked bytes, n x dim; 0: 4 GiB. Errors as in nf_load_idx.
 */
NF_API NF_CHECKED nf_status nf_load_packed_bits(const char *path, size_t dim, size_t max_bytes, nf_bytes *out);
/** Releases the array and clears the struct. NULL is allowed. */
NF_API void nf_bytes_free(nf_bytes *b);

NF_END_DECLS
#endif
