/* "\x93NUMPY", two bytes of version, the header's length in 2 bytes (version 1) or 4, the header, the data. The header
   is a Python dictionary, {'descr': '|u1', 'fortran_order': False, 'shape': (50000, 3, 8, 8), }, padded by spaces. */
#include "npy.h"
#include "cli.h"
#include "file_bytes.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What follows 'key': in the header. */
static const char *field(const char *path, const char *header, const char *key)
{
    const char *at = strstr(header, key);
    if (!at)
        cli_fail(1, "%s: a damaged npy file: its header has no %s", path, key);
    at += strlen(key);
    return at + strspn(at, ": ");
}

static void read_shape(const char *path, const char *at, npy *a)
{
    at += *at == '(';
    for (a->rank = 0; *at >= '0' && *at <= '9'; a->rank++) {
        if (a->rank == NPY_MOST)
            cli_fail(1, "%s: the array has more than %d indices", path, NPY_MOST);
        char *end;
        a->extent[a->rank] = (size_t)strtoull(at, &end, 10);
        at = end + strspn(end, ", ");
    }
    if (*at != ')')
        cli_fail(1, "%s: a damaged npy file: its header has no shape", path);
}

/* Whether the array has as many bytes as are there. */
static bool fits(const npy *a, size_t bytes)
{
    size_t n = 1;
    for (size_t i = 0; i < a->rank; i++) {
        if (a->extent[i] && n > bytes / a->extent[i])
            return false;
        n *= a->extent[i];
    }
    return n == bytes;
}

npy npy_read(const char *path)
{
    size_t n;
    unsigned char *x = file_bytes(path, &n);
    if (n < 12 || memcmp(x, "\x93NUMPY", 6) != 0)
        cli_fail(1, "%s: no npy file", path);
    const size_t begin = x[6] == 1 ? 10 : 12;
    const size_t length = x[8] + 256u * x[9] + (x[6] == 1 ? 0 : 65536u * x[10] + ((size_t)x[11] << 24));
    char header[4096] = "";
    if (length >= sizeof header || begin + length > n)
        cli_fail(1, "%s: a damaged npy file: its header is cut off", path);
    memcpy(header, x + begin, length);
    npy a;
    const char *type = field(path, header, "'descr'"), *fortran = field(path, header, "'fortran_order'");
    if (strncmp(type, "'|u1'", 5) != 0)
        cli_fail(1, "%s: its numbers are %.*s, but bytes ('|u1', numpy.uint8) are wanted", path,
                 (int)strcspn(type, ",}"), type);
    if (strncmp(fortran, "False", 5) != 0)
        cli_fail(1, "%s: the array is in Fortran's order, but C's is wanted (numpy.ascontiguousarray)", path);
    read_shape(path, field(path, header, "'shape'"), &a);
    if (!fits(&a, n - begin - length))
        cli_fail(1, "%s: a damaged npy file: %zu bytes of data do not fit its shape", path, n - begin - length);
    memmove(x, x + begin + length, n - begin - length);
    a.data = x;
    return a;
}

/* The library does not unpack xz: it gets the unpacked bytes in a file without a name. */
nf_array npy_numbers(const char *path)
{
    size_t n;
    unsigned char *x = file_bytes(path, &n);
    FILE *file = tmpfile();
    if (!file || fwrite(x, 1, n, file) != n || fflush(file) != 0)
        cli_fail(1, "%s: cannot write its %zu bytes to a temporary file: %s", path, n, strerror(errno));
    free(x);
    char name[64];
    nf_array a;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fileno(file));
    const nf_status status = nf_load_npy(name, 0, &a);
    if (status != NF_OK)
        cli_fail(1, "%s: %s", path, nf_error_message());
    fclose(file);
    return a;
}
