/* NumPy's files in memory. */
#ifndef NPY_FILE_H
#define NPY_FILE_H
#include <stddef.h>
#include <string.h>

/* A file of that version in memory, with the header as numpy writes it, padded to a multiple of 64 bytes. Returns its
   length. */
static inline size_t npy_make(unsigned char *file, int version, const char *header, size_t n, const void *elements)
{
    const size_t prefix = version == 1 ? 10 : 12, text = strlen(header) + 1, whole = (prefix + text + 63) / 64 * 64;
    const size_t length = whole - prefix;
    memcpy(file, "\x93NUMPY", 6);
    file[6] = (unsigned char)version;
    file[7] = 0;
    for (size_t i = 8; i < prefix; i++)
        file[i] = (unsigned char)(length >> 8 * (i - 8));
    memset(file + prefix, ' ', length);
    memcpy(file + prefix, header, text - 1);
    file[whole - 1] = '\n';
    memcpy(file + whole, elements, n);
    return whole + n;
}

#endif
