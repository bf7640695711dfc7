/* Data sets from files: IDX and packed bits, plain and gzip, sound and hostile. */
#include "fail_alloc.h"
#include "temp_files.h"
#include <nflow/data.h>
#include <criterion/criterion.h>
#include <math.h>
#include <zlib.h>

static char folder[64], path[128], gz_path[128];

static void setup(void)
{
    strcpy(folder, temp_folder());
    snprintf(path, sizeof path, "%s/data", folder);
    snprintf(gz_path, sizeof gz_path, "%s/data.gz", folder);
}

TestSuite(io, .init = setup, .fini = temp_teardown);

/* Bytes without pattern. */
static void fill(unsigned char *bytes, size_t n)
{
    uint32_t x = 0x9e3779b9u;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        bytes[i] = (unsigned char)(x >> 24);
    }
}

/* Appends one gzip member to gz_path. */
static void append_gz(const void *bytes, size_t n)
{
    gzFile f = gzopen(gz_path, "ab");
    cr_assert_not_null(f);
    cr_assert_eq(gzwrite(f, bytes, (unsigned)n), (int)n);
    cr_assert_eq(gzclose(f), Z_OK);
}

static void write_gz(const void *bytes, size_t n)
{
    remove(gz_path);
    append_gz(bytes, n);
}

/* An IDX file in memory: magic's type byte, extents, payload. Returns its length. */
static size_t make_idx(unsigned char *out, unsigned char type, size_t rank, const uint32_t *extent, size_t payload)
{
    out[0] = out[1] = 0;
    out[2] = type;
    out[3] = (unsigned char)rank;
    for (size_t i = 0; i < rank; i++)
        for (size_t b = 0; b < 4; b++)
            out[4 + 4 * i + b] = (unsigned char)(extent[i] >> (24 - 8 * b));
    fill(out + 4 + 4 * rank, payload);
    return 4 + 4 * rank + payload;
}

/* Whether the call failed as it should: status, and a message that names the file and the trouble. */
static void expect(nf_status status, nf_status wanted, const nf_bytes *b, const char *file, const char *trouble)
{
    cr_assert_eq(status, wanted, "status %d (%s)", (int)status, nf_error_message());
    cr_assert_eq(nf_error_status(), wanted);
    cr_assert(strstr(nf_error_message(), file) && strstr(nf_error_message(), trouble), "message: %s",
              nf_error_message());
    cr_assert(!b->data && !b->n && !b->dim && !b->height && !b->width);
}

Test(io, idx_of_every_rank)
{
    static const uint32_t extent[] = {3, 5, 7, 2};
    for (size_t rank = 1; rank <= 4; rank++) {
        unsigned char file[300];
        size_t total = 1;
        for (size_t i = 0; i < rank; i++)
            total *= extent[i];
        size_t length = make_idx(file, 8, rank, extent, total);
        file_write(path, file, length);
        write_gz(file, length);
        for (int gz = 0; gz < 2; gz++) {
            nf_bytes b;
            cr_assert_eq(nf_load_idx(gz ? gz_path : path, 0, &b), NF_OK, "%s", nf_error_message());
            cr_assert(b.n == 3 && b.dim == total / 3);
            cr_assert(b.height == (rank >= 3 ? 5 : 0) && b.width == (rank >= 3 ? 7 : 0));
            cr_assert_arr_eq(b.data, file + 4 + 4 * rank, total);
            nf_bytes_free(&b);
            cr_assert(!b.data && !b.n && !b.dim && !b.height && !b.width);
        }
    }
}

Test(io, idx_larger_than_every_buffer)
{
    static const uint32_t extent[] = {331, 29, 23};
    size_t total = 331 * 29 * 23, length;
    unsigned char *file = malloc(total + 16);
    length = make_idx(file, 8, 3, extent, total);
    file_write(path, file, length);
    write_gz(file, length / 3); /* members are joined */
    append_gz(file + length / 3, length - length / 3);
    for (int gz = 0; gz < 2; gz++) {
        nf_bytes b;
        cr_assert_eq(nf_load_idx(gz ? gz_path : path, 0, &b), NF_OK, "%s", nf_error_message());
        cr_assert(b.n == 331 && b.dim == 667 && memcmp(b.data, file + 16, total) == 0);
        nf_bytes_free(&b);
    }
    free(file);
}

Test(io, idx_refuses)
{
    static const struct {
        unsigned char type;
        size_t rank, payload;
        uint32_t extent[4];
        const char *trouble;
    } bad[] = {
        {8, 3, 100, {60000, 28, 28}, "100 bytes of data, the header promises 60000 x 784"},
        {8, 2, 14, {3, 5}, "14 bytes of data, the header promises 3 x 5"},
        {8, 2, 16, {3, 5}, "left over"},
        {8, 3, 0, {0, 28, 28}, "no rows"},
        {8, 3, 0, {10, 28, 0}, "empty"},
        {13, 2, 60, {3, 5}, "the elements are floats, not unsigned bytes; nf_load_idx_array()"},
        {10, 2, 15, {3, 5}, "magic number 00000a02"},
        {15, 2, 15, {3, 5}, "magic number 00000f02"},
        {8, 0, 15, {0}, "magic number 00000800"},
        {8, 4, 100, {0xffffffff, 0xffffffff, 0xffffffff, 0xfffffffb}, "impossible"},
        {8, 3, 100, {0xfffffff1, 0xffffffff, 3}, "impossible"},
        {8, 2, 100, {0xfffffff1, 1}, "100 bytes of data"},
        {8, 2, 100, {0x01020304, 0x05060708}, "promises 16909060 x 84281096"},
        {8, 2, 100, {0xfffffff1, 0xfffffff3}, "100 bytes of data"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        unsigned char file[200];
        size_t length = make_idx(file, bad[i].type, bad[i].rank, bad[i].extent, bad[i].payload);
        file_write(path, file, length);
        write_gz(file, length);
        nf_bytes b = {.n = 17};
        expect(nf_load_idx(path, SIZE_MAX, &b), NF_EFORMAT, &b, path, bad[i].trouble);
        expect(nf_load_idx(gz_path, SIZE_MAX, &b), NF_EFORMAT, &b, gz_path, bad[i].trouble);
    }
    unsigned char cut[10] = {0, 0, 8, 3, 0, 0, 0, 7, 0, 0};
    nf_bytes b;
    file_write(path, cut, 10);
    expect(nf_load_idx(path, 0, &b), NF_EFORMAT, &b, path, "the header is cut: rank 3, but 6 bytes");
    file_write(path, cut, 3);
    expect(nf_load_idx(path, 0, &b), NF_EFORMAT, &b, path, "3 bytes are too few");
    file_write(path, cut, 0);
    expect(nf_load_idx(path, 0, &b), NF_EFORMAT, &b, path, "0 bytes are too few");
}

/* ---- numbers of every type ---- */

/* Appends n big-endian bytes of `bits`. */
static size_t append(unsigned char *file, size_t at, size_t n, uint64_t bits)
{
    for (size_t i = 0; i < n; i++)
        file[at + i] = (unsigned char)(bits >> 8 * (n - 1 - i));
    return at + n;
}

static uint64_t bits_of_float(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static uint64_t bits_of_double(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Whether the call failed as it should, and left nothing. */
static void expect_no_array(nf_status status, nf_status wanted, const nf_array *a, const char *trouble)
{
    cr_assert_eq(status, wanted, "status %d (%s)", (int)status, nf_error_message());
    cr_assert(strstr(nf_error_message(), "nf_load_idx_array") && strstr(nf_error_message(), trouble), "message: %s",
              nf_error_message());
    cr_assert(!a->data && !a->extent && !a->n && !a->dim && !a->rank);
}

Test(io, idx_of_every_type)
{
    static const double number[5][6] = {{0, 1, 127, 128, 200, 255},
                                        {0, -1, 127, -128, 77, -56},
                                        {0, -1, 32767, -32768, 258, -2385},
                                        {0, -1, 2147483647, -2147483648.0, 16909060, -238500},
                                        {0.5, -1.25, 3.4028234663852886e38, 1.401298464324817e-45, -INFINITY, 2.385f}};
    static const unsigned char type[] = {8, 9, 11, 12, 13}, width[] = {1, 1, 2, 4, 4};
    for (size_t k = 0; k < 5; k++) {
        static const uint32_t extent[] = {3, 2, 1};
        unsigned char file[80];
        size_t length = make_idx(file, type[k], 3, extent, 0);
        for (size_t i = 0; i < 6; i++)
            length = append(file, length, width[k],
                            type[k] == 13 ? bits_of_float((float)number[k][i]) : (uint64_t)(int64_t)number[k][i]);
        file_write(path, file, length);
        write_gz(file, length);
        for (int gz = 0; gz < 2; gz++) {
            nf_array a;
            cr_assert_eq(nf_load_idx_array(gz ? gz_path : path, 0, &a), NF_OK, "%s", nf_error_message());
            cr_assert(a.n == 3 && a.dim == 2 && a.rank == 3 && a.extent[0] == 3 && a.extent[1] == 2 &&
                      a.extent[2] == 1);
            for (size_t i = 0; i < 6; i++)
                cr_assert_eq(a.data[i], (nf_real)number[k][i], "type %d, number %zu: %.17g", type[k], i,
                             (double)a.data[i]);
            nf_array_free(&a);
            cr_assert(!a.data && !a.extent && !a.n && !a.rank);
        }
    }
}

Test(io, idx_of_doubles)
{
    const double number[] = {2.385, -0.0, NAN, INFINITY, 1.0 / 3, -7.3e30};
    const bool single = sizeof(nf_real) == sizeof(float);
    static const uint32_t extent[] = {2, 3};
    unsigned char file[80];
    size_t length = make_idx(file, 14, 2, extent, 0);
    for (size_t i = 0; i < 6; i++)
        length = append(file, length, 8, bits_of_double(number[i]));
    file_write(path, file, length);
    nf_array a;
    cr_assert_eq(nf_load_idx_array(path, 0, &a), NF_OK, "%s", nf_error_message());
    for (size_t i = 0; i < 6; i++) {
        const nf_real wanted = (nf_real)number[i];
        cr_assert(isnan(number[i]) ? isnan(a.data[i]) : memcmp(&a.data[i], &wanted, sizeof wanted) == 0, "number %zu",
                  i);
    }
    nf_array_free(&a);
    append(file, length - 8, 8, bits_of_double(-7.3e180));
    file_write(path, file, length);
    if (single)
        expect_no_array(nf_load_idx_array(path, 0, &a), NF_EFORMAT, &a, "number 2 of row 1 is too large");
    else {
        cr_assert_eq(nf_load_idx_array(path, 0, &a), NF_OK);
        cr_assert_eq((double)a.data[5], -7.3e180);
        nf_array_free(&a);
    }
}

Test(io, idx_array_refuses)
{
    static const uint32_t extent[] = {3, 5}, huge[] = {0xfffffff1, 0xffffffff, 3};
    unsigned char file[300];
    nf_array a;
    const size_t length = make_idx(file, 12, 2, extent, 60);
    for (size_t n = 0; n < length; n++) {
        file_write(path, file, n);
        expect_no_array(nf_load_idx_array(path, 0, &a), NF_EFORMAT, &a, path);
    }
    file_write(path, file, length + 1);
    expect_no_array(nf_load_idx_array(path, 0, &a), NF_EFORMAT, &a, "left over");
    file_write(path, file, length);
    expect_no_array(nf_load_idx_array(path, 15 * sizeof(nf_real) - 1, &a), NF_EFORMAT, &a, "more than max_bytes");
    cr_assert_eq(nf_load_idx_array(path, 15 * sizeof(nf_real), &a), NF_OK);
    nf_array_free(&a);
    file_write(path, file, make_idx(file, 14, 3, huge, 100));
    expect_no_array(nf_load_idx_array(path, SIZE_MAX, &a), NF_EFORMAT, &a, "impossible");
    expect_no_array(nf_load_idx_array(folder, 0, &a), NF_EIO, &a, "directory");
    cr_assert_eq(nf_load_idx_array(NULL, 0, &a), NF_EARG);
    cr_assert_eq(nf_load_idx_array(path, 0, NULL), NF_EARG);
    nf_array_free(NULL);
}

/* ---- gzip that others have written ---- */

/* Zeros behind any member are no data, as gzip itself has it; anything else is refused. */
Test(io, gzip_padded_with_zeros)
{
    static const uint32_t extent[] = {7, 11};
    static unsigned char zeros[100000];
    unsigned char file[100];
    const size_t length = make_idx(file, 8, 2, extent, 77), part[] = {0, 5, 40, length};
    remove(gz_path);
    for (size_t i = 0; i < 3; i++) {
        append_gz(file + part[i], part[i + 1] - part[i]);
        FILE *f = fopen(gz_path, "ab");
        cr_assert_eq(fwrite(zeros, 1, i == 1 ? 1 : sizeof zeros, f), i == 1 ? 1 : sizeof zeros);
        cr_assert_eq(fclose(f), 0);
    }
    nf_bytes b;
    cr_assert_eq(nf_load_idx(gz_path, 0, &b), NF_OK, "%s", nf_error_message());
    cr_assert(b.n == 7 && b.dim == 11);
    cr_assert_arr_eq(b.data, file + 12, 77);
    nf_bytes_free(&b);
    FILE *f = fopen(gz_path, "ab");
    cr_assert(fputc('x', f) == 'x' && fclose(f) == 0);
    cr_assert_eq(nf_load_idx(gz_path, 0, &b), NF_EFORMAT); /* a byte behind the zeros */
    write_gz(file, 40);
    f = fopen(gz_path, "ab");
    cr_assert_eq(fwrite(zeros, 1, 512, f), 512);
    cr_assert_eq(fclose(f), 0);
    expect(nf_load_idx(gz_path, 0, &b), NF_EFORMAT, &b, gz_path, "28 bytes of data"); /* they are no data */
}

Test(io, bad_calls)
{
    nf_bytes b;
    cr_assert_eq(nf_load_idx(NULL, 0, &b), NF_EARG);
    cr_assert_eq(nf_load_idx(path, 0, NULL), NF_EARG);
    cr_assert_eq(nf_load_packed_bits(NULL, 3, 0, &b), NF_EARG);
    cr_assert_eq(nf_load_packed_bits(path, 3, 0, NULL), NF_EARG);
    cr_assert_eq(nf_load_packed_bits(path, 0, 0, &b), NF_EARG);
    nf_bytes_free(NULL);
    expect(nf_load_idx(path, 0, &b), NF_EIO, &b, path, "No such file");
    expect(nf_load_packed_bits(path, 784, 0, &b), NF_EIO, &b, path, "No such file");
    expect(nf_load_idx(folder, 0, &b), NF_EIO, &b, folder, "directory");
}

/* Every prefix of a sound file is refused, plain or gzip. */
Test(io, idx_truncated_anywhere)
{
    static const uint32_t extent[] = {4, 3, 5};
    unsigned char file[76], *packed;
    size_t length = make_idx(file, 8, 3, extent, 60), n_packed;
    nf_bytes b;
    for (size_t n = 0; n < length; n++) {
        file_write(path, file, n);
        expect(nf_load_idx(path, 0, &b), NF_EFORMAT, &b, path, "nf_load_idx");
    }
    write_gz(file, length);
    packed = file_read(gz_path, &n_packed);
    for (size_t n = 0; n < n_packed; n++) {
        file_write(path, packed, n);
        expect(nf_load_idx(path, 0, &b), NF_EFORMAT, &b, path, n < 3 ? "too few" : "end early");
    }
    free(packed);
}

/* A flipped bit of a gzip file is noticed, or is in a field that says nothing about the data. */
Test(io, gzip_damaged_anywhere)
{
    static const uint32_t extent[] = {4, 3, 5};
    unsigned char file[76], *packed;
    size_t length = make_idx(file, 8, 3, extent, 60), n_packed, refused = 0;
    write_gz(file, length);
    packed = file_read(gz_path, &n_packed);
    for (size_t bit = 0; bit < 8 * n_packed; bit++) {
        packed[bit / 8] ^= (unsigned char)(1u << bit % 8);
        file_write(path, packed, n_packed);
        packed[bit / 8] ^= (unsigned char)(1u << bit % 8);
        nf_bytes b;
        nf_status status = nf_load_idx(path, 0, &b);
        if (status == NF_OK)
            cr_assert_arr_eq(b.data, file + 16, 60);
        else
            expect(status, NF_EFORMAT, &b, path, "nf_load_idx");
        refused += status != NF_OK;
        nf_bytes_free(&b);
    }
    cr_assert_geq(refused, 8 * (n_packed - 10)); /* all but the header's flags, time and system */
    packed[n_packed - 6] ^= 0x10;
    file_write(path, packed, n_packed);
    nf_bytes b;
    expect(nf_load_idx(path, 0, &b), NF_EFORMAT, &b, path, "incorrect data check");
    packed[n_packed - 6] ^= 0x10;
    packed[n_packed] = 0x5b;
    file_write(path, packed, n_packed + 1);
    cr_assert_eq(nf_load_idx(path, 0, &b), NF_EFORMAT); /* garbage behind the member */
    free(packed);
}

/* Claims cost nothing: 4 GB promised by 100 bytes, and gzip that unpacks to far more than the header says. */
Test(io, memory_follows_contents)
{
    static const uint32_t liar[] = {0x7ffffff1, 2}, honest[] = {5, 2};
    unsigned char file[120];
    static unsigned char zeros[1 << 20];
    nf_bytes b;
    size_t before = peak_megabytes();
    write_gz(file, make_idx(file, 8, 2, liar, 100));
    expect(nf_load_idx(gz_path, 0, &b), NF_EFORMAT, &b, gz_path, "100 bytes of data");
    write_gz(file, make_idx(file, 8, 2, honest, 10));
    for (int i = 0; i < 200; i++)
        append_gz(zeros, sizeof zeros);
    expect(nf_load_idx(gz_path, 0, &b), NF_EFORMAT, &b, gz_path, "left over");
    cr_assert_leq(peak_megabytes() - before, 64);
}

Test(io, packed_bits)
{
    static const size_t dims[] = {1, 7, 8, 9, 784, 1003};
    for (size_t k = 0; k < sizeof dims / sizeof *dims; k++) {
        size_t dim = dims[k], row = (dim + 7) / 8, n = 13;
        unsigned char file[13 * 126];
        fill(file, n * row);
        file_write(path, file, n * row);
        write_gz(file, n * row);
        for (int gz = 0; gz < 2; gz++) {
            nf_bytes b;
            cr_assert_eq(nf_load_packed_bits(gz ? gz_path : path, dim, 0, &b), NF_OK, "%s", nf_error_message());
            cr_assert(b.n == n && b.dim == dim && b.height == 0 && b.width == 0);
            for (size_t i = 0; i < n; i++)
                for (size_t j = 0; j < dim; j++) {
                    bool bit = (file[i * row + j / 8] & (0x80u >> j % 8)) != 0;
                    cr_assert_eq(b.data[i * dim + j], bit ? 255 : 0, "dim %zu, row %zu, bit %zu", dim, i, j);
                }
            nf_bytes_free(&b);
        }
    }
}

Test(io, packed_bits_refuses)
{
    unsigned char file[200] = {0x5a, 0x31};
    nf_bytes b;
    file_write(path, file, 0);
    expect(nf_load_packed_bits(path, 784, 0, &b), NF_EFORMAT, &b, path, "no rows");
    file_write(path, file, 197);
    expect(nf_load_packed_bits(path, 784, 0, &b), NF_EFORMAT, &b, path, "197 bytes");
    expect(nf_load_packed_bits(path, SIZE_MAX, 0, &b), NF_EFORMAT, &b, path, "max_bytes");
    write_gz(file, 97);
    expect(nf_load_packed_bits(gz_path, 784, 0, &b), NF_EFORMAT, &b, gz_path, "97 bytes");
}

/* There is no header to bound a bomb, so the caller's limit does. */
Test(io, packed_bits_bomb)
{
    static unsigned char zeros[1 << 22];
    nf_bytes b;
    for (int i = 0; i < 65; i++)
        append_gz(zeros, sizeof zeros);
    const size_t rows = 65 * sizeof zeros / 98;
    expect(nf_load_packed_bits(gz_path, 784, 784 * rows / 7, &b), NF_EFORMAT, &b, gz_path, "max_bytes");
}

Test(io, allocation_failures)
{
    static const uint32_t extent[] = {1500, 11, 13}; /* more than one growth */
    size_t total = 1500 * 143;
    unsigned char *file = malloc(total + 16);
    write_gz(file, make_idx(file, 8, 3, extent, total));
    for (int how = 0; how < 3; how++)
        for (size_t k = 0;; k++) {
            nf_bytes b = {0};
            nf_array a = {0};
            size_t live = alloc_live();
            fail_alloc_once(k);
            nf_status status = how == 0   ? nf_load_packed_bits(gz_path, 8, 0, &b)
                               : how == 1 ? nf_load_idx(gz_path, 0, &b)
                                          : nf_load_idx_array(gz_path, 0, &a);
            bool failed = fail_alloc_off();
            cr_assert_eq(status, failed ? NF_ENOMEM : NF_OK, "allocation %zu: %s", k, nf_error_message());
            nf_bytes_free(&b);
            nf_array_free(&a);
            cr_assert_eq(alloc_live(), live, "allocation %zu", k);
            if (!failed) {
                cr_assert_geq(k, 5);
                break;
            }
        }
    free(file);
}

/* ---- the real files, where they are ---- */

static uint64_t sum(const nf_bytes *b)
{
    uint64_t total = 0;
    for (size_t i = 0; i < b->n * b->dim; i++)
        total += b->data[i];
    return total;
}

Test(io, mnist)
{
    static const struct {
        const char *name;
        size_t n, height, width;
        uint64_t sum;
        bool bits;
    } files[] = {
        {"mnist/train-images-idx3-ubyte.gz", 60000, 28, 28, 1567298545, false},
        {"mnist/t10k-images-idx3-ubyte.gz", 10000, 28, 28, 264923200, false},
        {"mnist/t10k-labels-idx1-ubyte.gz", 10000, 0, 0, 44434, false},
        {"binarized_mnist/binarized_mnist_train.bits.gz", 50000, 0, 0, UINT64_C(255) * 5118041, true},
        {"binarized_mnist/binarized_mnist_valid.bits.gz", 10000, 0, 0, UINT64_C(255) * 1028036, true},
        {"binarized_mnist/binarized_mnist_test.bits.gz", 10000, 0, 0, UINT64_C(255) * 1038896, true},
    };
    const char *data = getenv("NFLOW_DATA");
    if (!data)
        cr_skip("NFLOW_DATA is not set: MNIST is not read");
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char name[512];
        nf_bytes b;
        snprintf(name, sizeof name, "%s/%s", data, files[i].name);
        nf_status status = files[i].bits ? nf_load_packed_bits(name, 784, 0, &b) : nf_load_idx(name, 0, &b);
        cr_assert_eq(status, NF_OK, "%s", nf_error_message());
        cr_assert(b.n == files[i].n && b.height == files[i].height && b.width == files[i].width);
        cr_assert_eq(b.dim, files[i].bits || files[i].height ? 784 : 1);
        cr_assert_eq(sum(&b), files[i].sum, "%s: %llu", name, (unsigned long long)sum(&b));
        nf_bytes_free(&b);
    }
}
