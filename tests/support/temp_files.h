/* Files for tests: a folder of the test's own, bytes to and from files. */
#ifndef TEMP_FILES_H
#define TEMP_FILES_H
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char temp_name[] = "/tmp/nflow-test-XXXXXX";

/* A new empty folder; the name is valid until the next call. */
static inline const char *temp_folder(void)
{
    strcpy(temp_name + sizeof temp_name - 7, "XXXXXX");
    cr_assert_not_null(mkdtemp(temp_name));
    return temp_name;
}

/* Removes the folder and what is in it; returns the number of files that were there. */
static inline size_t temp_remove(const char *folder)
{
    size_t n = 0;
    char path[512];
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
            n++;
            if (remove(path) != 0)
                perror(path);
        }
    if (d)
        closedir(d);
    rmdir(folder);
    return n;
}

/* The end of a test whose beginning made the folder. */
static inline void temp_teardown(void)
{
    temp_remove(temp_name);
}

static inline void file_write(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    cr_assert_not_null(f);
    cr_assert_eq(fwrite(bytes, 1, n, f), n);
    cr_assert_eq(fclose(f), 0);
}

/* The whole file, to be freed by plain_free; its length in *n. */
static inline unsigned char *file_read(const char *path, size_t *n)
{
    struct stat s;
    cr_assert_eq(stat(path, &s), 0, "%s", path);
    *n = (size_t)s.st_size;
    unsigned char *bytes = malloc(*n + 1);
    FILE *f = fopen(path, "rb");
    cr_assert(bytes && f);
    cr_assert_eq(fread(bytes, 1, *n, f), *n);
    fclose(f);
    return bytes;
}

#endif
