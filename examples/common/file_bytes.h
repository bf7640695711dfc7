/* A file's bytes in memory. */
#ifndef EXAMPLES_FILE_BYTES_H
#define EXAMPLES_FILE_BYTES_H
#include <stddef.h>

/* All bytes of a file, *n of them, unpacked if the file was packed by xz. To be released by free(). Exits 1 with one
   line if the file cannot be read, is damaged or has more than 4 GiB. */
unsigned char *file_bytes(const char *path, size_t *n);

#endif
