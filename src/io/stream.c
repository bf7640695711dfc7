/*
 * Reading files: raw bytes or gzip members (RFC 1952), by zlib's inflate.
 *
 * gzread is not used because it overlooks garbage behind the last member and cannot allocate through the library. The
 * checksum of a gzip member is verified only when its end is reached, so readers finish with nfi_stream_expect_end.
 * Zeros behind a member are skipped: tar and tapes fill the last block with them, and gzip does not mind them either.
 */
#include "io/stream.h"
#include "base/memory.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef NFI_ZLIB
#include <zlib.h>
#endif

enum { BUFFER_BYTES = 1 << 16, FIRST_CAPACITY = 1 << 16, MAGIC_BYTES = 3 };

struct nfi_stream {
    const char *who, *path;
    int fd;
    bool gzip, ended;  /* ended: there is nothing behind what is in the buffer */
    size_t begin, end; /* the unread part of the buffer */
    unsigned char buffer[BUFFER_BYTES];
#ifdef NFI_ZLIB
    bool member_done;
    uint64_t unpacked;
    z_stream z;
#endif
};

static bool at_end(const nfi_stream *s)
{
    return s->ended && s->begin == s->end;
}

/* Reads what there is to the end of the buffer, at least a byte, unless the file has ended. */
static nf_status read_more(nfi_stream *s)
{
    ssize_t got;
    do
        got = read(s->fd, s->buffer + s->end, sizeof s->buffer - s->end);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return nf_error(NF_EIO, "%s: cannot read %s: %s", s->who, s->path, strerror(errno));
    s->end += (size_t)got;
    s->ended = got == 0;
    return NF_OK;
}

/* Refills an empty buffer: afterwards begin < end, unless the file has ended. */
static nf_status fill(nfi_stream *s)
{
    if (s->begin < s->end || s->ended)
        return NF_OK;
    s->begin = s->end = 0;
    return read_more(s);
}

static nf_status read_plain(nfi_stream *s, unsigned char *out, size_t n, size_t *got)
{
    *got = 0;
    while (*got < n) {
        nf_status status = fill(s);
        if (status != NF_OK)
            return status;
        if (at_end(s))
            break;
        size_t part = n - *got < s->end - s->begin ? n - *got : s->end - s->begin;
        memcpy(out + *got, s->buffer + s->begin, part);
        s->begin += part;
        *got += part;
    }
    return NF_OK;
}

#ifdef NFI_ZLIB
static void *zlib_calloc(void *unused, unsigned count, unsigned size)
{
    (void)unused;
    return nfi_calloc(count, size);
}

static void zlib_free(void *unused, void *p)
{
    (void)unused;
    nfi_free(p);
}

static nf_status start_gzip(nfi_stream *s)
{
    s->z = (z_stream){.zalloc = zlib_calloc, .zfree = zlib_free};
    int r = inflateInit2(&s->z, 16 + MAX_WBITS);
    if (r != Z_OK)
        return nf_error(r == Z_MEM_ERROR ? NF_ENOMEM : NF_EUNSUPPORTED, "%s: cannot unpack %s: %s", s->who, s->path,
                        zError(r));
    s->gzip = true;
    return NF_OK;
}

static nf_status read_gzip(nfi_stream *s, unsigned char *out, size_t n, size_t *got)
{
    *got = 0;
    while (*got < n) {
        nf_status status = fill(s);
        if (status != NF_OK)
            return status;
        if (s->member_done && !at_end(s) && s->buffer[s->begin] == 0) {
            s->begin++;
            continue;
        }
        if (s->member_done) {
            if (at_end(s))
                break;
            inflateReset(&s->z);
            s->member_done = false;
        }
        if (at_end(s))
            return nf_error(NF_EFORMAT, "%s: %s: the gzip data end early, after %llu unpacked bytes", s->who, s->path,
                            (unsigned long long)s->unpacked);
        size_t room = n - *got < BUFFER_BYTES ? n - *got : BUFFER_BYTES;
        s->z.next_in = s->buffer + s->begin;
        s->z.avail_in = (uInt)(s->end - s->begin);
        s->z.next_out = out + *got;
        s->z.avail_out = (uInt)room;
        int r = inflate(&s->z, Z_NO_FLUSH);
        s->begin = s->end - s->z.avail_in;
        *got += room - s->z.avail_out;
        s->unpacked += room - s->z.avail_out;
        if (r == Z_STREAM_END)
            s->member_done = true;
        else if (r == Z_MEM_ERROR)
            return nf_error(NF_ENOMEM, "%s: %s: out of memory while unpacking", s->who, s->path);
        else if (r != Z_OK && r != Z_BUF_ERROR)
            return nf_error(NF_EFORMAT, "%s: %s: damaged gzip data (%s)", s->who, s->path,
                            s->z.msg ? s->z.msg : zError(r));
    }
    return NF_OK;
}
#endif

nfi_stream *nfi_stream_open(const char *who, const char *path, bool gzip)
{
    nfi_stream *s = nfi_calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->who = who;
    s->path = path;
    s->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0) {
        nf_error(NF_EIO, "%s: cannot open %s: %s", who, path, strerror(errno));
        nfi_free(s);
        return NULL;
    }
    nf_status status = NF_OK;
    while (status == NF_OK && s->end < MAGIC_BYTES && !s->ended) /* a pipe may give them one by one */
        status = read_more(s);
    if (status == NF_OK && gzip && s->end >= MAGIC_BYTES && memcmp(s->buffer, "\x1f\x8b\x08", MAGIC_BYTES) == 0) {
#ifdef NFI_ZLIB
        status = start_gzip(s);
#else
        status = nf_error(NF_EUNSUPPORTED, "%s: %s is gzip data, but this build has no zlib", who, path);
#endif
    }
    if (status != NF_OK) {
        nfi_stream_close(s);
        return NULL;
    }
    return s;
}

void nfi_stream_close(nfi_stream *s)
{
    if (!s)
        return;
#ifdef NFI_ZLIB
    if (s->gzip)
        inflateEnd(&s->z);
#endif
    close(s->fd);
    nfi_free(s);
}

/* The size of a regular file that is not unpacked, and which byte of it is the next to be read. */
static bool place(const nfi_stream *s, uint64_t *next, uint64_t *size)
{
    struct stat file;
    const off_t at = lseek(s->fd, 0, SEEK_CUR);
    if (s->gzip || fstat(s->fd, &file) != 0 || !S_ISREG(file.st_mode) || at < 0)
        return false;
    *next = (uint64_t)at - (s->end - s->begin);
    *size = (uint64_t)(file.st_size > at ? file.st_size : at);
    return true;
}

bool nfi_stream_left(const nfi_stream *s, uint64_t *left)
{
    uint64_t next, size;
    if (!place(s, &next, &size))
        return false;
    *left = size - next;
    return true;
}

nf_status nfi_stream_read(nfi_stream *s, unsigned char *buffer, size_t n, size_t *got)
{
#ifdef NFI_ZLIB
    if (s->gzip)
        return read_gzip(s, buffer, n, got);
#endif
    return read_plain(s, buffer, n, got);
}

nf_status nfi_stream_read_all(nfi_stream *s, size_t limit, unsigned char **data, size_t *got)
{
    size_t capacity = limit < FIRST_CAPACITY ? limit : FIRST_CAPACITY;
    nf_status status = NF_ENOMEM;
    *got = 0;
    *data = nfi_calloc(capacity, 1);
    while (*data) {
        size_t part = 0;
        status = nfi_stream_read(s, *data + *got, capacity - *got, &part);
        *got += part;
        if (status != NF_OK || *got < capacity || capacity == limit)
            break;
        capacity = capacity > limit / 2 ? limit : 2 * capacity;
        unsigned char *more = nfi_calloc(capacity, 1);
        if (more)
            memcpy(more, *data, *got);
        else
            status = NF_ENOMEM;
        nfi_free(*data);
        *data = more;
    }
    if (status != NF_OK) {
        nfi_free(*data);
        *data = NULL;
    }
    return status;
}

nf_status nfi_stream_expect_end(nfi_stream *s)
{
    unsigned char byte;
    size_t got;
    nf_status status = nfi_stream_read(s, &byte, 1, &got);
    if (status == NF_OK && got)
        status = nf_error(NF_EFORMAT, "%s: %s: bytes are left over behind the data", s->who, s->path);
    return status;
}

/* ---- mapping ---- */

nf_status nfi_stream_map(const nfi_stream *s, bool scattered, nfi_mapping *out)
{
    uint64_t next, size;
    *out = (nfi_mapping){0};
    if (!place(s, &next, &size))
        return nf_error(NF_EUNSUPPORTED, "%s: %s is %s, which cannot be mapped", s->who, s->path,
                        s->gzip ? "gzip data" : "no regular file");
    void *start = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, s->fd, 0);
    if (start == MAP_FAILED)
        return nf_error(errno == ENOMEM ? NF_ENOMEM : NF_EIO, "%s: cannot map the %llu bytes of %s: %s", s->who,
                        (unsigned long long)size, s->path, strerror(errno));
    if (scattered)
        (void)posix_madvise(start, (size_t)size, POSIX_MADV_RANDOM); /* only a wish, as is the one below */
    *out = (nfi_mapping){.start = start,
                         .length = (size_t)size,
                         .data = (const unsigned char *)start + next,
                         .left = (size_t)(size - next)};
    return NF_OK;
}

void nfi_stream_unmap(nfi_mapping *m)
{
    if (m->start)
        munmap(m->start, m->length);
    *m = (nfi_mapping){0};
}

void nfi_mapping_ahead(const unsigned char *data, size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), before = (uintptr_t)data % page;
    (void)posix_madvise((void *)(uintptr_t)(data - before), bytes + before, POSIX_MADV_WILLNEED);
}
