/*
 * Atomic replacement of a file: write a temporary file beside it, fsync, rename, fsync the folder. If the machine
 * crashes at any moment, `path` is afterwards either the old file or the new one.
 */
#include "io/atomic.h"
#include "base/memory.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_ATTEMPTS = 1000, NAME_ROOM = 64 };

static nf_status failed(const nfi_atomic *a, const char *what)
{
    return nf_error(NF_EIO, "%s: cannot %s %s: %s", a->who, what, a->path, strerror(errno));
}

/* The length of the folder in `path`, with its last slash. */
static size_t folder_length(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

nf_status nfi_atomic_open(nfi_atomic *a, const char *who, const char *path)
{
    *a = (nfi_atomic){.who = who, .path = path, .fd = -1};
    struct stat present;
    if (stat(path, &present) == 0 && !S_ISREG(present.st_mode))
        return nf_error(NF_EIO, "%s: cannot replace %s: it is not a regular file", who, path);
    size_t folder = folder_length(path);
    if (!path[folder])
        return nf_error(NF_EIO, "%s: cannot write '%s': the file has no name", who, path);
    a->temporary = nfi_calloc(folder + NAME_ROOM, 1);
    if (!a->temporary)
        return NF_ENOMEM;
    memcpy(a->temporary, path, folder);
    for (int attempt = 0; attempt < MAX_ATTEMPTS && a->fd < 0; attempt++) {
        snprintf(a->temporary + folder, NAME_ROOM, ".nflow-%ld-%d.tmp", (long)getpid(), attempt);
        a->fd = open(a->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (a->fd < 0 && errno != EEXIST)
            break;
    }
    if (a->fd >= 0)
        return NF_OK;
    nf_status status = failed(a, "write");
    nfi_free(a->temporary);
    return status;
}

nf_status nfi_atomic_write(nfi_atomic *a, const void *bytes, size_t n)
{
    const unsigned char *at = bytes;
    while (n) {
        ssize_t done = write(a->fd, at, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return failed(a, "write");
        at += done;
        n -= (size_t)done;
    }
    return NF_OK;
}

/* Flushes the folder, so that the rename itself survives a crash. File systems that cannot flush a folder say
   EINVAL. */
static nf_status flush_folder(const nfi_atomic *a)
{
    size_t folder = folder_length(a->path);
    a->temporary[folder] = '\0';
    int fd = open(folder ? a->temporary : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == EACCES ? NF_OK : failed(a, "flush the folder of"); /* a folder may be writable, not readable */
    nf_status status = fsync(fd) != 0 && errno != EINVAL ? failed(a, "flush the folder of") : NF_OK;
    close(fd);
    return status;
}

nf_status nfi_atomic_finish(nfi_atomic *a, nf_status status)
{
    if (status == NF_OK && fsync(a->fd) != 0)
        status = failed(a, "flush");
    if (close(a->fd) != 0 && status == NF_OK)
        status = failed(a, "write");
    if (status == NF_OK && rename(a->temporary, a->path) != 0)
        status = failed(a, "rename a new file to");
    if (status == NF_OK)
        status = flush_folder(a);
    else
        unlink(a->temporary);
    nfi_free(a->temporary);
    return status;
}
