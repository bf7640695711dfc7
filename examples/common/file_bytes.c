#include "file_bytes.h"
#include "cli.h"
#include <errno.h>
#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const unsigned char xz_magic[6] = {0xfd, '7', 'z', 'X', 'Z', 0};
static const size_t most = (size_t)4 << 30;

/* Doubles an array's room. */
static unsigned char *grow(unsigned char *x, size_t *room, const char *path)
{
    if (*room >= most)
        cli_fail(1, "%s: more than 4 GiB", path);
    *room = *room ? 2 * *room : (size_t)1 << 20;
    unsigned char *more = realloc(x, *room);
    if (!more)
        cli_fail(1, "%s: out of memory", path);
    return more;
}

static unsigned char *read_all(const char *path, size_t *n)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        cli_fail(1, "cannot read %s: %s", path, strerror(errno));
    unsigned char *x = NULL;
    size_t room = 0, got = 1;
    for (*n = 0; got > 0; *n += got) {
        if (*n == room)
            x = grow(x, &room, path);
        got = fread(x + *n, 1, room - *n, file);
    }
    if (ferror(file))
        cli_fail(1, "cannot read %s: %s", path, strerror(errno));
    fclose(file);
    return x;
}

static unsigned char *unpack(const char *path, const unsigned char *packed, size_t *n)
{
    lzma_stream s = LZMA_STREAM_INIT;
    unsigned char *x = NULL;
    size_t room = 0;
    lzma_ret status = lzma_stream_decoder(&s, UINT64_MAX, LZMA_CONCATENATED);
    s.next_in = packed;
    s.avail_in = *n;
    while (status == LZMA_OK) {
        if (s.total_out == room)
            x = grow(x, &room, path);
        s.next_out = x + s.total_out;
        s.avail_out = room - (size_t)s.total_out;
        status = lzma_code(&s, LZMA_FINISH);
    }
    *n = (size_t)s.total_out;
    lzma_end(&s);
    if (status != LZMA_STREAM_END)
        cli_fail(1, "%s: %s", path, status == LZMA_MEM_ERROR ? "out of memory" : "a damaged xz file");
    return x;
}

unsigned char *file_bytes(const char *path, size_t *n)
{
    unsigned char *x = read_all(path, n);
    if (*n < sizeof xz_magic || memcmp(x, xz_magic, sizeof xz_magic) != 0)
        return x;
    unsigned char *unpacked = unpack(path, x, n);
    free(x);
    return unpacked;
}
