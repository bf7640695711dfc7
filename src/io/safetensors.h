/* The safetensors container, read from files that are not trusted: named tensors, and a map of strings. Tensors of F64,
   F32, F16 and BF16 are read; the library writes F64 or F32. */
#ifndef NFI_SAFETENSORS_H
#define NFI_SAFETENSORS_H
#include "io/atomic.h"
#include "io/slices.h"

struct json_t; /* Jansson's, which only .c files include */

typedef struct nfi_tensor {
    const char *name, *dtype;
    size_t begin, end; /* place in `data`, in bytes */
    size_t width;      /* bytes per number: 8, 4 or 2; 0: this library does not read the dtype, or so many indices */
    size_t rank, extents[NFI_MAX_RANK], count;
    bool taken;
} nfi_tensor;

/* What a file must be: its metadata have `name` as format and `version` as format_version. */
typedef struct nfi_format {
    const char *name, *version;
    const char *what; /* for messages: "model" */
} nfi_format;

typedef struct nfi_container {
    const char *path;          /* borrowed */
    struct nfi_stream *stream; /* open until the data have been read */
    unsigned char *text;       /* the header's text [n_text] */
    size_t n_text;
    unsigned char *data; /* [n_data]; NULL before nfi_container_read_data */
    size_t n_data;       /* bytes of all tensors together */
    struct json_t *header;
    nfi_tensor *tensor; /* [n_tensors], sorted by name */
    size_t n_tensors;
    size_t n_numbers; /* in all tensors together */
} nfi_container;

#define NFI_METADATA_KEY "__metadata__" /* the header's entry with the map of strings */
enum { NFI_LENGTH_BYTES = 8 };          /* the header's length, at the beginning of a file */

/* The number that n bytes are, the lowest one first. */
static inline uint64_t nfi_little_endian(const unsigned char *bytes, size_t n)
{
    uint64_t value = 0;
    for (size_t i = n; i-- > 0;)
        value = value << 8 | bytes[i];
    return value;
}

/* Opens a file, reads its header and checks it, also against the file's size. A safetensors file of another format is
   refused by a message that says what it is (`format` NULL: none is, nor is a tensor that this library does not read).
   The data are not read: the caller sees from the metadata whether it wants them. `who` and `path` are for messages,
   and are borrowed until the container is freed. NF_EIO, NF_EFORMAT, NF_ENOMEM. */
nf_status nfi_container_open(nfi_container *c, const char *who, const char *path, const nfi_format *format);
/* Reads the data, which nfi_container_take and nfi_container_sum need. NF_EIO, NF_EFORMAT, NF_ENOMEM. */
nf_status nfi_container_read_data(nfi_container *c, const char *who);
void nfi_container_free(nfi_container *c);
/* A string of the metadata; NULL if there is none. */
const char *nfi_container_metadata(const nfi_container *c, const char *key);
/* Copies the tensor `s->name` to out [s->count], in the library's precision. NF_EFORMAT if the tensor is missing, has
   been taken before, has another shape, or has a number that is too large for the library's precision. */
nf_status nfi_container_take(nfi_container *c, const char *who, const nfi_slice *s, nf_real *out);

/* How many bytes a number of the tensor has, of a dtype that nfi_container_number reads: also whole numbers and
   booleans. 0: it is of none of them, has too many indices, or its bytes are not as many as its shape says. */
size_t nfi_tensor_width(const nfi_tensor *t);
/* Number i of a tensor that has such a width. */
double nfi_container_number(const nfi_container *c, const nfi_tensor *t, size_t i);

/* Appends a tensor of the library's precision to a header that is being composed. *n_data is the number of bytes of
   data so far; it grows by the tensor's. */
nf_status nfi_header_add(struct json_t *header, const char *who, const nfi_slice *s, size_t *n_data);
/* Writes n numbers of the library's precision as little-endian bytes [n * sizeof(nf_real)]. */
void nfi_encode(size_t n, const nf_real *numbers, unsigned char *bytes);

/* A file that is being written atomically: the header, then the numbers of its tensors in the header's order. */
typedef struct nfi_container_writer {
    nfi_atomic file;
    uint64_t sum; /* checksum of the header and the numbers so far, against damage */
} nfi_container_writer;
/* After NF_OK call nfi_container_finish, whatever happens. NF_EIO, NF_ENOMEM. */
nf_status nfi_container_begin(nfi_container_writer *w, const char *who, const char *path, const struct json_t *header);
nf_status nfi_container_put(nfi_container_writer *w, size_t n, const nf_real *numbers);
/* As nfi_atomic_finish. */
nf_status nfi_container_finish(nfi_container_writer *w, nf_status status);
/* The checksum that the writer had when n_data bytes of data had been written. */
uint64_t nfi_container_sum(const nfi_container *c, size_t n_data);

#endif
