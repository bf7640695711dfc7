/* Reads the bytes of a file from outside, plain or gzip. Memory grows with what the file holds, never with what it
   claims to hold. */
#ifndef NFI_STREAM_H
#define NFI_STREAM_H
#include <nflow/base.h>

typedef struct nfi_stream nfi_stream;

/* Opens a file. If `gzip`, gzip data are unpacked; they are recognised by their first bytes. `who` (the public
   function, for messages) and `path` are borrowed until the stream is closed. NULL on NF_EIO, NF_ENOMEM,
   NF_EUNSUPPORTED. */
nfi_stream *nfi_stream_open(const char *who, const char *path, bool gzip);
void nfi_stream_close(nfi_stream *s);
/* Whether the file's size is known, as it is for a regular file that is not unpacked; *left is what follows. */
bool nfi_stream_left(const nfi_stream *s, uint64_t *left);

/* Reads the next n bytes. *got < n only where the file ends. NF_EIO, NF_ENOMEM; NF_EFORMAT if gzip data are damaged or
   cut off. */
nf_status nfi_stream_read(nfi_stream *s, unsigned char *buffer, size_t n, size_t *got);
/* Reads all that is left, but at most `limit` bytes. *data belongs to the caller (nfi_free); it is NULL on failure. */
nf_status nfi_stream_read_all(nfi_stream *s, size_t limit, unsigned char **data, size_t *got);
/* NF_EFORMAT if there is another byte. */
nf_status nfi_stream_expect_end(nfi_stream *s);

/* A file that is mapped for reading. */
typedef struct nfi_mapping {
    void *start;               /* of the whole file; NULL: nothing is mapped */
    size_t length;             /* of the whole file */
    const unsigned char *data; /* what the stream had not read, [left] */
    size_t left;
} nfi_mapping;

/* Maps the file, which stays so when the stream is closed. `scattered`: its pages will be read in no order, and the
   system should read no more than it is told to by nfi_mapping_ahead. NF_EUNSUPPORTED if the file is gzip data, a pipe
   or a device; NF_ENOMEM if there are no addresses for it; NF_EIO. */
nf_status nfi_stream_map(const nfi_stream *s, bool scattered, nfi_mapping *out);
void nfi_stream_unmap(nfi_mapping *m);
/* Asks the system to begin to read these bytes of a mapping, so that several parts are read at once. */
void nfi_mapping_ahead(const unsigned char *data, size_t bytes);

#endif
