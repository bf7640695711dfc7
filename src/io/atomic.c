/*
 * Atomic replacement of a file: write a temporary file beside it, fsync, rename, fsync the folder. If the machine
 * crashes at any moment, `path` is afterwards either the old file or the new one.
 *
 * If `path` is a symbolic link, the file that it leads to is replaced. The new file has the old one's mode and, where
 * the system allows it, its owner and group.
 *
 * The temporary file of NAME is .NAME.nflow-K.tmp, K = 0, 1, ... Who writes it holds a lock on it (flock), which the
 * system gives up when the process ends, however it ends. So a temporary file whose lock is free was left by a process
 * that is gone, and the next writer of NAME removes it. Between creating a file and locking it, somebody may take it
 * for such a file: the writer then sees that it has no name any more, and takes another.
 */
#include "io/atomic.h"
#include "base/memory.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_ATTEMPTS = 1000, MAX_LINKS = 40, PATH_ROOM = 4096, NAME_PART = 200, NAME_ROOM = 256 };

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

/* Writes to target [PATH_ROOM] the path that `a->path` leads to, which need not exist. */
static nf_status follow_links(const nfi_atomic *a, char *target)
{
    char link[PATH_ROOM];
    errno = ENAMETOOLONG;
    if (strlen(a->path) >= PATH_ROOM)
        return failed(a, "write");
    strcpy(target, a->path);
    for (int i = 0; i < MAX_LINKS; i++) {
        ssize_t n = readlink(target, link, sizeof link);
        if (n < 0)
            return NF_OK; /* no link, or nothing at all */
        size_t folder = link[0] == '/' ? 0 : folder_length(target);
        errno = ENAMETOOLONG;
        if (folder + (size_t)n >= PATH_ROOM)
            return failed(a, "write");
        memcpy(target + folder, link, (size_t)n);
        target[folder + (size_t)n] = '\0';
    }
    errno = ELOOP;
    return failed(a, "write");
}

/* ---- temporary files ---- */

static void name_temporary(nfi_atomic *a, int number)
{
    size_t folder = folder_length(a->target);
    snprintf(a->temporary + folder, NAME_ROOM, ".%.*s.nflow-%d.tmp", NAME_PART, a->target + folder, number);
}

/* Whether the name a->temporary still leads to the open file fd, and that is a regular file. */
static bool still_named(const nfi_atomic *a, int fd)
{
    struct stat opened, named;
    return fstat(fd, &opened) == 0 && S_ISREG(opened.st_mode) && lstat(a->temporary, &named) == 0 &&
           opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

/* Removes the file a->temporary if nobody writes it. Returns whether there was such a file. Its writer may rename it
   between our opening and our locking it, and another writer then takes the name: hence the name is asked for again
   under the lock. Who has the lock is the only one that renames or removes the file. */
static bool remove_stale(const nfi_atomic *a)
{
    int fd = open(a->temporary, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno != ENOENT;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && still_named(a, fd))
        unlink(a->temporary);
    close(fd);
    return true;
}

/* Creates a->temporary and locks it; -1 if the name is taken or something fails (errno). Where the file system has no
   locks, files are never taken for stale ones. */
static int create_locked(const nfi_atomic *a, mode_t mode)
{
    struct stat s;
    int fd = open(a->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return -1;
    const bool taken = flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (!taken && fstat(fd, &s) == 0 && s.st_nlink > 0)
        return fd;
    close(fd);
    errno = EEXIST;
    return -1;
}

static nf_status create_temporary(nfi_atomic *a, mode_t mode)
{
    int number = 0;
    for (; number < MAX_ATTEMPTS && a->fd < 0; number++) {
        name_temporary(a, number);
        if (remove_stale(a))
            errno = EEXIST;
        a->fd = create_locked(a, mode);
        if (a->fd < 0 && errno != EEXIST)
            break;
    }
    if (a->fd < 0)
        return failed(a, "write");
    const int mine = number - 1;
    do /* those of other writers that are gone */
        name_temporary(a, number++);
    while (number < MAX_ATTEMPTS && remove_stale(a));
    name_temporary(a, mine);
    return NF_OK;
}

/* Gives the new file the owner and mode of the old one, as far as the system allows. */
static void keep_rights(int fd, const struct stat *old)
{
    mode_t mode = old->st_mode & 07777;
    if (fchown(fd, old->st_uid, old->st_gid) != 0) {
        mode &= 0777;
        if (fchown(fd, (uid_t)-1, old->st_gid) != 0)
            mode &= 0707 | (mode & 0070 & mode << 3); /* no more for another group than for all others */
    }
    (void)fchmod(fd, mode);
}

/* ---- writing ---- */

static nf_status open_temporary(nfi_atomic *a)
{
    struct stat present;
    nf_status status = follow_links(a, a->target);
    if (status != NF_OK)
        return status;
    const bool replaces = stat(a->target, &present) == 0;
    if (replaces && !S_ISREG(present.st_mode))
        return nf_error(NF_EIO, "%s: cannot replace %s: it is not a regular file", a->who, a->path);
    size_t folder = folder_length(a->target);
    if (!a->target[folder])
        return nf_error(NF_EIO, "%s: cannot write '%s': the file has no name", a->who, a->path);
    memcpy(a->temporary, a->target, folder);
    status = create_temporary(a, replaces ? 0600 : 0666);
    if (status == NF_OK && replaces)
        keep_rights(a->fd, &present);
    return status;
}

nf_status nfi_atomic_open(nfi_atomic *a, const char *who, const char *path)
{
    *a = (nfi_atomic){.who = who, .path = path, .fd = -1};
    a->target = nfi_calloc(2 * PATH_ROOM + NAME_ROOM, 1);
    if (!a->target)
        return NF_ENOMEM;
    a->temporary = a->target + PATH_ROOM;
    nf_status status = open_temporary(a);
    if (status != NF_OK)
        nfi_free(a->target);
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
    size_t folder = folder_length(a->target);
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
    const bool renamed = status == NF_OK && rename(a->temporary, a->target) == 0; /* while the lock is held */
    if (status == NF_OK && !renamed)
        status = failed(a, "rename a new file to");
    if (!renamed)
        unlink(a->temporary);
    if (close(a->fd) != 0 && status == NF_OK)
        status = failed(a, "write");
    if (status == NF_OK)
        status = flush_folder(a);
    nfi_free(a->target);
    return status;
}
