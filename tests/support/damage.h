/* A small file, damaged everywhere, for a reader of files that are not trusted. */
#ifndef DAMAGE_H
#define DAMAGE_H
#include "fail_alloc.h"
#include "temp_files.h"
#include <nflow/base.h>

/* What is read, and by whom. */
typedef struct damage_reader {
    const char *who;                     /* the function, with which each message begins */
    nf_status (*read)(const char *path); /* reads the file, and releases what it got */
    bool whole;                          /* every beginning of a file is refused */
    size_t factor, rest;                 /* at no time does it hold more than factor x the file's bytes + rest */
} damage_reader;

/* Reads the file of n bytes: it must be accepted or refused with a message, leave nothing, and take no more memory than
   it may. Returns whether it was accepted. */
static inline bool damage_read(const damage_reader *r, const char *path, size_t n, const char *what, size_t where)
{
    const size_t live = alloc_live(), before = alloc_bytes();
    alloc_peak();
    const nf_status status = r->read(path);
    const size_t most = alloc_peak() - before;
    cr_assert(status == NF_OK || status == NF_EFORMAT, "%s: %s %zu: %s: %s", r->who, what, where,
              nf_status_text(status), nf_error_message());
    cr_assert(status == NF_OK || (nf_error_status() == status && strstr(nf_error_message(), r->who)),
              "%s: %s %zu: '%s'", r->who, what, where, nf_error_message());
    cr_assert_eq(alloc_live(), live, "%s: %s %zu leaks", r->who, what, where);
    cr_assert_leq(most, r->factor * n + r->rest, "%s: %s %zu: %zu bytes are taken for %zu", r->who, what, where, most,
                  n);
    return status == NF_OK;
}

/* Every beginning of the file, then the whole with one byte changed to others: all of them if `step` is 1, else every
   step-th. Returns how many were refused. */
static inline size_t damage_everywhere(const damage_reader *r, const char *path, const void *bytes, size_t n,
                                       size_t step)
{
    size_t refused = 0;
    for (size_t cut = 0; cut < n; cut++) {
        file_write(path, bytes, cut);
        const bool accepted = damage_read(r, path, cut, "cut at byte", cut);
        cr_assert(!accepted || !r->whole, "%s accepts %zu of %zu bytes", r->who, cut, n);
        refused += !accepted;
    }
    file_write(path, bytes, n);
    cr_assert(damage_read(r, path, n, "nothing changed, up to byte", n), "%s", nf_error_message());
    FILE *f = fopen(path, "r+b");
    cr_assert(f && setvbuf(f, NULL, _IONBF, 0) == 0);
    for (size_t i = 0; i < n; i++) {
        const unsigned char kept = ((const unsigned char *)bytes)[i];
        for (size_t change = 1; change < 256; change += step) {
            cr_assert(fseek(f, (long)i, SEEK_SET) == 0 && fputc(kept ^ (int)change, f) != EOF);
            refused += !damage_read(r, path, n, "change of byte", i);
        }
        cr_assert(fseek(f, (long)i, SEEK_SET) == 0 && fputc(kept, f) != EOF);
    }
    fclose(f);
    return refused;
}

#endif
