/* Files that appear whole or not at all: a temporary file is written in the same folder, flushed and renamed. */
#ifndef NFI_ATOMIC_H
#define NFI_ATOMIC_H
#include <nflow/base.h>

typedef struct nfi_atomic {
    const char *who, *path; /* borrowed */
    char *target;           /* the file that is replaced: `path` without symbolic links */
    char *temporary;        /* the temporary file's path, in the target's folder */
    int fd;
} nfi_atomic;

/* Creates the temporary file, after those that dead processes have left of the same target were removed. After NF_OK
 * call nfi_atomic_finish, whatever happens. NF_EIO, NF_ENOMEM. */
nf_status nfi_atomic_open(nfi_atomic *a, const char *who, const char *path);
/* Appends n bytes. NF_EIO. */
nf_status nfi_atomic_write(nfi_atomic *a, const void *bytes, size_t n);
/* If status is NF_OK, the temporary file replaces `path`. If status is an error, or if replacing fails, the temporary
   file is removed, and an old file at `path` stays as it was. Returns the first failure. */
nf_status nfi_atomic_finish(nfi_atomic *a, nf_status status);

#endif
