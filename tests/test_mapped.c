/* An npy file that is mapped: its rows are those of nf_load_npy, of every type and order, and a fit from it is that of
   the array; files that cannot be mapped, numbers that cannot be data, a file larger than memory. */
#include "fail_alloc.h"
#include "temp_files.h"
#include "support/expect.h"
#include "support/npy_file.h"
#include <fcntl.h>
#include <math.h>
#include <nflow/nflow.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <zlib.h>

static char path[128];

static void setup(void)
{
    snprintf(path, sizeof path, "%s/rows.npy", temp_folder());
}

TestSuite(mapped, .init = setup, .fini = temp_teardown);

enum { ROWS = 5, COLUMNS = 6, NUMBERS = ROWS * COLUMNS };

/* A file of 5 rows and 6 columns, whose elements are `bytes`. */
static void write_array(const char *type, bool fortran, const char *shape, size_t n, const void *bytes)
{
    unsigned char file[1024];
    char header[128];
    snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }", type,
             fortran ? "True" : "False", shape);
    file_write(path, file, npy_make(file, 1, header, n, bytes));
}

static nf_mapped *map(void)
{
    nf_mapped *m = nf_map_npy(path);
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

/* Rows in an order of no pattern, one of them twice, then some that follow each other, are those that nf_load_npy
   reads, to the bit. */
static void compare_with_loaded(const char *what)
{
    static const size_t order[] = {3, 0, 4, 3, 1, 2, 3, 4};
    nf_array a;
    cr_assert_eq(nf_load_npy(path, 0, &a), NF_OK, "%s", nf_error_message());
    nf_mapped *m = map();
    cr_assert(nf_mapped_rows(m) == a.n && nf_mapped_columns(m) == a.dim, "%s", what);
    for (size_t first = 0; first < 8; first++)
        for (size_t count = 0; first + count <= 8; count++) {
            nf_real x[8 * NUMBERS];
            size_t rows[8];
            for (size_t i = 0; i < count; i++)
                rows[i] = order[first + i] % a.n;
            cr_assert_eq(nf_mapped_read(m, count, rows, x), NF_OK, "%s", nf_error_message());
            for (size_t i = 0; i < count; i++)
                cr_assert_arr_eq(x + i * a.dim, a.data + rows[i] * a.dim, a.dim * sizeof *x, "%s, row %zu", what,
                                 rows[i]);
        }
    nf_mapped_free(m);
    nf_array_free(&a);
}

Test(mapped, rows_are_those_of_the_loaded_array)
{
    static const char *const types[] = {"|b1", "|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4",
                                        "<f8", ">u2", ">i2", ">u4", ">i4", ">u8", ">i8", ">f2", ">f4", ">f8"};
    static const char *const shapes[] = {"(5, 6)", "(5, 2, 3)", "(30,)", "(1, 5, 3, 2)"};
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (size_t k = 0; k < 8; k++) {
            const size_t width = (size_t)(types[t][2] - '0');
            unsigned char bytes[8 * NUMBERS];
            for (size_t i = 0; i < NUMBERS * width; i++) /* exponents stay within those of a float */
                bytes[i] = (unsigned char)(i % width == (types[t][0] == '>' ? 0 : width - 1) ? 0x3f : 37 * i + 11);
            write_array(types[t], k % 2, shapes[k / 2], NUMBERS * width, bytes);
            compare_with_loaded(types[t]);
        }
}

/* A header whose length leaves the elements at an odd place, which old writers do. */
Test(mapped, elements_need_not_be_aligned)
{
    static const char header[] = "{'descr':'<f8','fortran_order':False,'shape':(5,3)}";
    for (size_t blanks = 0; blanks < 8; blanks++) {
        unsigned char file[256] = "\x93NUMPY\1";
        double x[15];
        const size_t length = sizeof header - 1 + blanks;
        for (size_t i = 0; i < 15; i++)
            x[i] = 2.385 * (double)i - 7;
        file[8] = (unsigned char)length;
        memset(file + 10, ' ', length);
        memcpy(file + 10, header, sizeof header - 1);
        memcpy(file + 10 + length, x, sizeof x);
        file_write(path, file, 10 + length + sizeof x);
        compare_with_loaded("not aligned");
    }
}

static void write_table(const double *x)
{
    write_array("<f8", false, "(5, 6)", NUMBERS * sizeof *x, x);
}

/* The same numbers in every test, all below 1. */
static void fill(double *x)
{
    for (size_t i = 0; i < NUMBERS; i++)
        x[i] = sin(2.385 * (double)i);
}

/* As the data of an objective: the loss and its gradient are those of the array, to the bit, with one thread and
   with two. */
Test(mapped, a_step_is_that_of_the_array)
{
    double x[NUMBERS];
    nf_real numbers[NUMBERS];
    fill(x);
    write_table(x);
    for (size_t i = 0; i < NUMBERS; i++)
        numbers[i] = (nf_real)x[i];
    nf_mapped *mapped = map();
    nf_data data[2] = {
        {.n = ROWS, .dim = COLUMNS, .x = numbers},
        {.n = nf_mapped_rows(mapped), .dim = nf_mapped_columns(mapped), .source = nf_mapped_source(mapped)}};
    nf_fit_report report[3];
    nf_real theta[3][2 * COLUMNS];
    for (size_t k = 0; k < 3; k++) {
        nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(COLUMNS), nf_affine(COLUMNS)), NULL);
        nf_objective *o = nf_maximum_likelihood(m, &data[k > 0], &(nf_likelihood_options){.batch = 3});
        cr_assert_not_null(o, "%s", nf_error_message());
        cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 20, .threads = k == 2 ? 2 : 1}, &report[k]), NF_OK, "%s",
                     nf_error_message());
        memcpy(theta[k], nf_model_theta(m), sizeof theta[k]);
        nf_objective_free(o);
        nf_model_free(m);
    }
    cr_assert_arr_eq(theta[0], theta[1], sizeof theta[0]);
    cr_assert_arr_eq(theta[0], theta[2], sizeof theta[0]);
    nf_mapped_free(mapped);
}

/* What cannot be data is what it is for nf_mapped_read, and an error with its place for the source. */
Test(mapped, numbers_that_are_not_finite)
{
    static const double bad[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
    static const size_t rows[] = {4, 2};
    for (size_t k = 0; k < 3; k++) {
        double numbers[NUMBERS];
        nf_real x[2 * COLUMNS];
        fill(numbers);
        numbers[2 * COLUMNS + 4] = bad[k];
        write_table(numbers);
        nf_mapped *m = map();
        const nf_source *s = nf_mapped_source(m);
        cr_assert_eq(nf_mapped_read(m, 2, rows, x), NF_OK);
        cr_assert(k ? x[COLUMNS + 4] == (nf_real)bad[k] : isnan(x[COLUMNS + 4]));
        cr_assert(s->thread_safe && s->read(s->user, 1, rows, x, NULL) == 0);
        expect((nf_status)s->read(s->user, 2, rows, x, NULL), NF_EFORMAT, "rows.npy: number 4 of row 2 is ");
        expect((nf_status)s->read(s->user, 1, rows, x, x), NF_EARG, "gives no context");
        nf_mapped_free(m);
    }
    double numbers[NUMBERS];
    nf_real x[2 * COLUMNS];
    fill(numbers);
    numbers[2 * COLUMNS + 5] = 1e300;
    write_table(numbers);
    nf_mapped *m = map();
    if (sizeof(nf_real) == sizeof(float))
        expect(nf_mapped_read(m, 2, rows, x), NF_EFORMAT, "rows.npy: number 5 of row 2 is too large");
    else
        cr_assert(nf_mapped_read(m, 2, rows, x) == NF_OK && x[COLUMNS + 5] == (nf_real)1e300);
    nf_mapped_free(m);
}

Test(mapped, what_is_refused)
{
    double x[NUMBERS];
    fill(x);
    write_table(x);
    size_t n;
    unsigned char *file = file_read(path, &n);
    file_write(path, file, n - 1);
    expect_none(nf_map_npy(path), NF_EFORMAT, "rows.npy: 239 bytes of data, the header promises 5 x 6");
    file = realloc(file, n + 1);
    file_write(path, file, n + 1);
    expect_none(nf_map_npy(path), NF_EFORMAT, "rows.npy: 241 bytes of data, the header promises 5 x 6");
    gzFile f = gzopen(path, "wb");
    cr_assert(gzwrite(f, file, (unsigned)n) == (int)n && gzclose(f) == Z_OK);
    free(file);
    expect_none(nf_map_npy(path), NF_EUNSUPPORTED, "rows.npy is gzip data, which cannot be mapped");
    write_array("<c8", false, "(2,)", 16, "0123456789abcdef");
    expect_none(nf_map_npy(path), NF_EFORMAT, "elements of type '<c8'");
    remove(path);
    expect_none(nf_map_npy(path), NF_EIO, path);
    expect_none(nf_map_npy(NULL), NF_EARG, "path is NULL");
    nf_mapped_free(NULL);
    cr_assert(nf_mapped_rows(NULL) == 0 && nf_mapped_columns(NULL) == 0 && !nf_mapped_source(NULL));
    fill(x);
    write_table(x);
    nf_mapped *m = map();
    nf_real y[COLUMNS];
    expect(nf_mapped_read(m, 1, &(size_t){5}, y), NF_EARG, "row 5 of ");
    expect(nf_mapped_read(m, 1, &(size_t){SIZE_MAX}, y), NF_EARG, "which has 5 rows");
    expect(nf_mapped_read(NULL, 1, &(size_t){0}, y), NF_EARG, "m is NULL");
    expect(nf_mapped_read(m, 1, NULL, y), NF_EARG, "rows is NULL");
    expect(nf_mapped_read(m, 1, &(size_t){0}, NULL), NF_EARG, "x is NULL");
    cr_assert_eq(nf_mapped_read(m, 0, NULL, NULL), NF_OK);
    nf_mapped_free(m);
}

/* A file that is replaced by another one stays what it was. */
Test(mapped, a_file_that_is_replaced)
{
    double x[NUMBERS];
    nf_real row[COLUMNS];
    fill(x);
    write_table(x);
    nf_mapped *m = map();
    remove(path);
    file_write(path, "x", 1);
    cr_assert_eq(nf_mapped_read(m, 1, &(size_t){4}, row), NF_OK);
    for (size_t i = 0; i < COLUMNS; i++)
        cr_assert_eq(row[i], (nf_real)x[4 * COLUMNS + i]);
    nf_mapped_free(m);
}

Test(mapped, allocations)
{
    double x[NUMBERS];
    fill(x);
    write_table(x);
    for (size_t k = 0;; k++) {
        const size_t before = alloc_live();
        fail_alloc_once(k);
        nf_mapped *m = nf_map_npy(path);
        const bool failed = fail_alloc_off();
        cr_assert_eq(m == NULL, failed);
        cr_assert(!failed || nf_error_status() == NF_ENOMEM);
        if (m) {
            nf_real row[COLUMNS];
            const nf_source *s = nf_mapped_source(m);
            const size_t count = alloc_count();
            cr_assert_eq(s->read(s->user, 1, &(size_t){4}, row, NULL), 0);
            cr_assert_eq(alloc_count(), count);
        }
        nf_mapped_free(m);
        cr_assert_eq(alloc_live(), before);
        if (!failed)
            break;
    }
}

/* ---- larger than memory ---- */

enum { WIDE = 1 << 20 };
static const size_t tall = (size_t)1 << 15, marked[] = {0, 17, (1 << 13) + 3, (1 << 15) - 1};

/* In a child: rows of a file of 256 GiB, nearly all of it a hole, while the process may have 128 MiB of memory of its
   own. Returns 0 or where it failed. */
static int read_wide_rows(void)
{
    static nf_real x[2 * WIDE];
    const struct rlimit small = {.rlim_cur = 1 << 27, .rlim_max = 1 << 27};
    if (setrlimit(RLIMIT_DATA, &small) != 0)
        return 1;
    nf_mapped *m = nf_map_npy(path);
    if (!m || nf_mapped_rows(m) != tall || nf_mapped_columns(m) != WIDE)
        return 2;
    for (size_t k = 0; k < 4; k++) {
        const size_t rows[] = {marked[k], marked[k] ^ 1};
        if (nf_mapped_read(m, 2, rows, x) != NF_OK)
            return 3;
        for (size_t i = 0; i < 2 * WIDE; i++)
            if (x[i] != (i + 1 == WIDE ? (nf_real)(2.5 * (double)(k + 1)) : 0))
                return 4;
    }
    nf_mapped_free(m);
    return 0;
}

Test(mapped, larger_than_memory)
{
    if (NFLOW_THIN)
        cr_skip("memory cannot be limited under a sanitizer");
    unsigned char head[256];
    char header[128];
    snprintf(header, sizeof header, "{'descr': '<f8', 'fortran_order': False, 'shape': (%zu, %d), }", tall, WIDE);
    const size_t begin = npy_make(head, 1, header, 0, "");
    const int file = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    cr_assert(file >= 0 && write(file, head, begin) == (ssize_t)begin);
    if (ftruncate(file, (off_t)(begin + tall * WIDE * sizeof(double))) != 0)
        cr_skip("no files with holes here");
    for (size_t k = 0; k < 4; k++) {
        const double last = 2.5 * (double)(k + 1);
        const off_t at = (off_t)(begin + ((marked[k] + 1) * WIDE - 1) * sizeof last);
        cr_assert_eq(pwrite(file, &last, sizeof last, at), sizeof last);
    }
    close(file);
    fflush(NULL);
    const pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0)
        _exit(read_wide_rows());
    int status = -1;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%#x", (unsigned)status);
}
