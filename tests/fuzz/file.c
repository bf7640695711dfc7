/* An input as a file: the library reads files, and a file in memory costs no disk. */
#include "fuzz.h"
#include <sys/mman.h>
#include <unistd.h>

const char *fuzz_file(const uint8_t *data, size_t size)
{
    static char path[64];
    static int fd = -1;
    if (fd < 0)
        fd = memfd_create("fuzz", MFD_CLOEXEC);
    FUZZ_MUST(fd >= 0 && ftruncate(fd, 0) == 0, "no file in memory");
    FUZZ_MUST(size == 0 || pwrite(fd, data, size, 0) == (ssize_t)size, "a file in memory cannot be written");
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return path;
}
