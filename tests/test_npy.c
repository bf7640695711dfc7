/* NumPy's files: every type of elements in both byte orders, both orders of indices, gzip, and hostile files. */
#include "fail_alloc.h"
#include "temp_files.h"
#include "support/expect.h"
#include "support/npy_file.h"
#include <math.h>
#include <nflow/data.h>
#include <zlib.h>

static char path[128];

static void setup(void)
{
    snprintf(path, sizeof path, "%s/data.npy", temp_folder());
}

TestSuite(npy, .init = setup, .fini = temp_teardown);

static void load(int version, const char *header, size_t n, const void *elements, nf_array *a)
{
    unsigned char file[1024];
    file_write(path, file, npy_make(file, version, header, n, elements));
    cr_assert_eq(nf_load_npy(path, 0, a), NF_OK, "%s: %s", header, nf_error_message());
}

/* The numbers 0, 1, -1 (unsigned: the largest one), 2.5 (integers: 2) of each type, little endian. */
static const struct {
    const char *type;
    size_t width;
    unsigned char bytes[3][8];
    double value[3];
} types[] = {
    {"b1", 1, {{0}, {1}, {1}}, {0, 1, 1}},
    {"u1", 1, {{0}, {1}, {255}}, {0, 1, 255}},
    {"i1", 1, {{0}, {1}, {255}}, {0, 1, -1}},
    {"u2", 2, {{0}, {1}, {255, 255}}, {0, 1, 65535}},
    {"i2", 2, {{0}, {1}, {254, 255}}, {0, 1, -2}},
    {"u4", 4, {{0}, {1}, {255, 255, 255, 255}}, {0, 1, 4294967295.}},
    {"i4", 4, {{0}, {1}, {255, 255, 255, 255}}, {0, 1, -1}},
    {"u8", 8, {{0}, {1}, {0, 0, 0, 0, 0, 0, 0, 128}}, {0, 1, 9223372036854775808.}},
    {"i8", 8, {{0}, {1}, {0, 0, 0, 0, 0, 0, 0, 128}}, {0, 1, -9223372036854775808.}},
    {"f2", 2, {{0, 0x41}, {1, 0}, {0, 0xfc}}, {2.5, 0x1p-24, -INFINITY}},
    {"f4", 4, {{0, 0, 32, 64}, {0, 0, 128, 191}, {0, 0, 128, 127}}, {2.5, -1, INFINITY}},
    {"f8", 8, {{0, 0, 0, 0, 0, 0, 4, 64}, {0, 0, 0, 0, 0, 0, 240, 191}, {0}}, {2.5, -1, 0}},
};

Test(npy, every_type_of_elements)
{
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (int big = 0; big < 2; big++)
            for (int version = 1; version <= 3; version++) {
                unsigned char elements[24];
                char header[128];
                const size_t width = types[t].width;
                for (size_t i = 0; i < 3 * width; i++)
                    elements[i] = types[t].bytes[i / width][big ? width - 1 - i % width : i % width];
                snprintf(header, sizeof header, "{'descr': '%c%s', 'fortran_order': False, 'shape': (3,), }",
                         width == 1 ? '|'
                         : big      ? '>'
                                    : '<',
                         types[t].type);
                nf_array a;
                load(version, header, 3 * width, elements, &a);
                cr_assert(a.rank == 1 && a.n == 3 && a.dim == 1 && a.extent[0] == 3);
                for (size_t i = 0; i < 3; i++)
                    cr_assert(a.data[i] == (nf_real)types[t].value[i], "%s, number %zu: %g", header, i,
                              (double)a.data[i]);
                nf_array_free(&a);
            }
}

/* A 2 x 3 x 2 array whose number [i][j][k] is 100 i + 10 j + k, in both orders; the header's keys in another order. */
Test(npy, both_orders_of_indices)
{
    for (int fortran = 0; fortran < 2; fortran++) {
        unsigned char elements[12];
        for (size_t i = 0; i < 2; i++)
            for (size_t j = 0; j < 3; j++)
                for (size_t k = 0; k < 2; k++)
                    elements[fortran ? i + 2 * (j + 3 * k) : 6 * i + 2 * j + k] = (unsigned char)(100 * i + 10 * j + k);
        char header[128];
        snprintf(header, sizeof header, "{\"shape\" :( 2,3 , 2),'fortran_order':%s , 'descr':'|u1'}",
                 fortran ? "True" : "False");
        nf_array a;
        load(1, header, sizeof elements, elements, &a);
        cr_assert(a.rank == 3 && a.n == 2 && a.dim == 6 && a.extent[1] == 3 && a.extent[2] == 2);
        for (size_t i = 0; i < 12; i++)
            cr_assert(a.data[i] == (nf_real)(100 * (i / 6) + 10 * (i / 2 % 3) + i % 2), "number %zu: %g", i,
                      (double)a.data[i]);
        nf_array_free(&a);
    }
}

Test(npy, a_single_number)
{
    nf_array a;
    load(1, "{'descr': '<i2', 'fortran_order': False, 'shape': ()}", 2, "\x07\x01", &a);
    cr_assert(a.rank == 0 && a.n == 1 && a.dim == 1 && a.data[0] == 263);
    nf_array_free(&a);
}

Test(npy, gzip)
{
    unsigned char file[256];
    const size_t n = npy_make(file, 1, "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2)}", 4, "\1\2\3\4");
    gzFile f = gzopen(path, "wb");
    cr_assert_eq(gzwrite(f, file, (unsigned)n), (int)n);
    gzclose(f);
    nf_array a;
    cr_assert_eq(nf_load_npy(path, 0, &a), NF_OK, "%s", nf_error_message());
    cr_assert(a.n == 2 && a.dim == 2 && a.data[3] == 4);
    nf_array_free(&a);
}

static void refused(const char *header, size_t n, const char *words)
{
    unsigned char file[1024];
    nf_array a;
    file_write(path, file, npy_make(file, 1, header, n, "0123456789abcdef"));
    expect(nf_load_npy(path, 0, &a), NF_EFORMAT, words);
    cr_assert(strstr(nf_error_message(), path), "%s", nf_error_message());
    cr_assert(!a.data && !a.extent && a.n == 0);
}

Test(npy, bad_files_are_refused)
{
    nf_array a;
    refused("{'descr': '<c8', 'fortran_order': False, 'shape': (2,)}", 16, "elements of type '<c8'");
    refused("{'descr': '|O', 'fortran_order': False, 'shape': (2,)}", 16, "elements of type '|O'");
    refused("{'descr': '<f16', 'fortran_order': False, 'shape': (1,)}", 16, "elements of type '<f16'");
    refused("{'descr': '<f1', 'fortran_order': False, 'shape': (1,)}", 1, "elements of type '<f1'");
    refused("{'descr': '<b2', 'fortran_order': False, 'shape': (1,)}", 2, "elements of type '<b2'");
    refused("{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (1,)}", 4, "structures");
    refused("{'descr': '<f4', 'fortran_order': 1, 'shape': (1,)}", 4, "neither True nor False");
    refused("{'descr': '<f4', 'fortran_order': False, 'shape': 1}", 4, "no tuple");
    refused("{'descr': '<f4', 'fortran_order': False, 'shape': (1 2)}", 8, "no tuple of numbers");
    refused("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", 8, "no tuple of numbers");
    refused("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", 8, "no tuple of numbers");
    refused("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2)", 8, "is cut");
    refused("{'descr': '<f4', 'fortran_order': False}", 4, "lacks");
    refused("{'descr': '<f4', 'shape': (1,), 'x': 2}", 4, "unknown key");
    refused("['descr']", 4, "no dictionary");
    refused("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} {", 4, "text behind");
    refused("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 2)}", 4, "there are no rows");
    refused("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 0)}", 4, "rows are empty");
    refused("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2)}", 15,
            "15 bytes of data, the header promises 2 x 2");
    refused("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 9, "data.npy: ");
    refused("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", 8, "impossible product");
    refused("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 2147483648)}", 8, "impossible product");
    refused("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296,)}", 8, "more than max_bytes");
    if (sizeof(nf_real) == sizeof(float)) {
        unsigned char file[256];
        const double huge = 1e300;
        file_write(path, file, npy_make(file, 1, "{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}", 8, &huge));
        expect(nf_load_npy(path, 0, &a), NF_EFORMAT, "number 0 of row 0 is too large");
    }
    file_write(path, "\x93NUMPX\1\0", 8);
    expect(nf_load_npy(path, 0, &a), NF_EFORMAT, "not an npy file");
    file_write(path, "\x93NUMPY\4\0", 8);
    expect(nf_load_npy(path, 0, &a), NF_EFORMAT, "npy version 4.0");
    file_write(path, "\x93NUMPY\2\0\0\0\2\0", 12);
    expect(nf_load_npy(path, 0, &a), NF_EFORMAT, "longer than 65536");
    remove(path);
    expect(nf_load_npy(path, 0, &a), NF_EIO, path);
    expect(nf_load_npy(NULL, 0, &a), NF_EARG, "path is NULL");
    expect(nf_load_npy(path, 0, NULL), NF_EARG, "out is NULL");
}

Test(npy, failing_allocations)
{
    unsigned char file[256];
    file_write(path, file,
               npy_make(file, 1, "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }", 16, "0123456789abcdef"));
    for (size_t k = 0;; k++) {
        nf_array a;
        const size_t before = alloc_live();
        fail_alloc_after(k);
        const nf_status status = nf_load_npy(path, 0, &a);
        const bool failed = fail_alloc_off();
        cr_assert_eq(status, failed ? NF_ENOMEM : NF_OK);
        nf_array_free(&a);
        cr_assert_eq(alloc_live(), before);
        if (!failed)
            break;
    }
}
