/* The golden corpus: model files that were written once, in format version 1, and load in every version with the same
   numbers. tests/golden/make.c makes new ones. */
#include "golden/numbers.h"
#include "model/types.h"
#include "temp_files.h"
#include <criterion/criterion.h>
#include <math.h>

#define CORPUS "tests/golden"

/* What rounding may do. Files in the other precision are rounded as they are read. */
static const double tolerance = sizeof(nf_real) == sizeof(double) ? 1e-12 : 1e-4;

/* Calls `visit` for every file; returns their number. */
static size_t for_files(void (*visit)(const char *path, const char *text))
{
    size_t n = 0;
    char path[320], text[320];
    DIR *folder = opendir(CORPUS);
    cr_assert_not_null(folder, "there is no folder " CORPUS " here");
    for (struct dirent *e; (e = readdir(folder));) {
        const char *dot = strstr(e->d_name, ".safetensors");
        if (!dot || strcmp(dot, ".safetensors") != 0)
            continue;
        snprintf(path, sizeof path, CORPUS "/%s", e->d_name);
        snprintf(text, sizeof text, CORPUS "/%.*s.txt", (int)(dot - e->d_name), e->d_name);
        visit(path, text);
        n++;
    }
    closedir(folder);
    return n;
}

static nf_model *load(const char *path)
{
    nf_model *m = nf_load(path, NULL);
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

/* ---- the same numbers ---- */

typedef struct expected {
    const char *path;
    FILE *file;
    size_t n;
} expected;

static void compare_row(void *user, size_t n, const double *row)
{
    expected *e = user;
    for (size_t i = 0; i < n; i++, e->n++) {
        double value;
        cr_assert_eq(fscanf(e->file, "%lf", &value), 1, "%s has more numbers", e->path);
        cr_assert(isfinite(value) || value < 0, "%s: number %zu is %g", e->path, e->n, value);
        if (isinf(value) && isinf(row[i]) && signbit(value) == signbit(row[i]))
            continue;
        cr_assert_float_eq(row[i], value, tolerance * fmax(1, fabs(value)), "%s: number %zu is %.17g, not %.17g",
                           e->path, e->n, row[i], value);
    }
}

static void check_numbers(const char *path, const char *text)
{
    nf_model *m = load(path);
    expected e = {.path = path, .file = fopen(text, "r")};
    double more;
    cr_assert_not_null(e.file, "%s", text);
    cr_assert_eq(golden_numbers(m, golden_kind(nf_model_object(m)), compare_row, &e), NF_OK, "%s: %s", path,
                 nf_error_message());
    cr_assert_geq(e.n, GOLDEN_ROWS, "%s has no numbers", path);
    cr_assert_eq(fscanf(e.file, "%lf", &more), EOF, "%s has fewer numbers", path);
    fclose(e.file);
    nf_model_free(m);
}

Test(golden, every_file_gives_its_numbers)
{
    cr_assert_geq(for_files(check_numbers), 60);
}

/* ---- every type is there ---- */

enum { MOST_TYPES = 200 };
static bool seen[MOST_TYPES];

static void see(const nf_object *o)
{
    const char *name;
    nfi_kind kind;
    for (size_t i = 0; (name = nfi_type_name(i, &kind)); i++)
        if (kind == o->kind && strcmp(name, nf_object_name(o)) == 0)
            seen[i] = true;
    for (size_t i = 0; i < nf_n_children(o); i++)
        see(nf_child(o, i));
}

static void see_file(const char *path, const char *text)
{
    (void)text;
    nf_model *m = load(path);
    see(nf_model_object(m));
    nf_model_free(m);
}

Test(golden, every_type_has_a_file)
{
    const char *name;
    nfi_kind kind;
    size_t i;
    for_files(see_file);
    for (i = 0; (name = nfi_type_name(i, &kind)); i++) {
        cr_assert_lt(i, MOST_TYPES);
        cr_expect(seen[i], "no file of " CORPUS " has the %s '%s': see " CORPUS "/make.c", nfi_kind_name(kind), name);
    }
    cr_assert_geq(i, 41);
}

/* ---- saving again gives the same bytes, save for the version of the library ---- */

static char copy_path[128];
static size_t n_compared, n_renamed;

/* Takes the version, and the padding behind the header, out of a file; returns its new length. */
static size_t without_version(unsigned char *bytes, size_t n)
{
    static const char key[] = "\"library_version\":\"";
    size_t length = 0;
    for (size_t i = 8; i-- > 0;)
        length = length << 8 | bytes[i];
    cr_assert_leq(length + 8, n);
    unsigned char *header = bytes + 8, *at = memmem(header, length, key, strlen(key));
    cr_assert_not_null(at);
    unsigned char *begin = at + strlen(key), *end = memchr(begin, '"', length), *last = header + length;
    while (last[-1] == ' ')
        last--;
    memmove(last, header + length, n - 8 - length);
    memmove(begin, end, n - (size_t)(end - bytes));
    memset(bytes, 0, 8);
    return n - (size_t)(header + length - last) - (size_t)(end - begin);
}

/* Gives a field its present name, as saving does; returns the new length. */
static size_t rename_field(unsigned char *bytes, size_t n, const char *old, const char *new)
{
    unsigned char *at = memmem(bytes, n, old, strlen(old));
    if (!at)
        return n;
    memmove(at + strlen(new), at + strlen(old), n - (size_t)(at - bytes) - strlen(old));
    memcpy(at, new, strlen(new));
    n_renamed++;
    return n - strlen(old) + strlen(new);
}

static void save_again(const char *path, const char *text)
{
    (void)text;
    if ((strstr(path, "_f32.") != NULL) != (sizeof(nf_real) == sizeof(float)))
        return; /* the other precision's */
    nf_model *m = load(path);
    cr_assert_eq(nf_save(m, copy_path), NF_OK, "%s", nf_error_message());
    nf_model_free(m);
    size_t n[2];
    unsigned char *bytes[2] = {file_read(path, &n[0]), file_read(copy_path, &n[1])};
    for (int k = 0; k < 2; k++)
        n[k] = without_version(bytes[k], n[k]);
    n[0] = rename_field(bytes[0], n[0], "momentum\\\":", "decay\\\":");
    n[1] = rename_field(bytes[1], n[1], "{\\\"relative\\\":false}", "{}"); /* actnorm's, which it did not have */
    cr_assert(n[0] == n[1] && memcmp(bytes[0], bytes[1], n[0]) == 0, "%s comes back with other bytes", path);
    free(bytes[0]);
    free(bytes[1]);
    n_compared++;
}

Test(golden, saving_again_gives_the_same_bytes)
{
    const char *folder = temp_folder();
    snprintf(copy_path, sizeof copy_path, "%s/again.safetensors", folder);
    for_files(save_again);
    cr_assert_geq(n_compared, sizeof(nf_real) == sizeof(float) ? 8 : 50);
    cr_assert_eq(n_renamed, sizeof(nf_real) == sizeof(float) ? 1 : 2);
    temp_remove(folder);
}
