/* Data sets from files: IDX and packed bits, plain and gzip, sound and hostile. */
#include "fail_alloc.h"
#include "temp_files.h"
#include <nflow/data.h>
#include <criterion/criterion.h>
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
            cr_assert_eq(nf_load_idx(gz ? gz_path : path, &b), NF_OK, "%s", nf_error_message());
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
        cr_assert_eq(nf_load_idx(gz ? gz_path : path, &b), NF_OK, "%s", nf_error_message());
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
        {13, 2, 15, {3, 5}, "magic number 00000d02"},
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
        expect(nf_load_idx(path, &b), NF_EFORMAT, &b, path, bad[i].trouble);
        expect(nf_load_idx(gz_path, &b), NF_EFORMAT, &b, gz_path, bad[i].trouble);
    }
    unsigned char cut[10] = {0, 0, 8, 3, 0, 0, 0, 7, 0, 0};
    nf_bytes b;
    file_write(path, cut, 10);
    expect(nf_load_idx(path, &b), NF_EFORMAT, &b, path, "the header is cut: rank 3, but 6 bytes");
    file_write(path, cut, 3);
    expect(nf_load_idx(path, &b), NF_EFORMAT, &b, path, "3 bytes are too few");
    file_write(path, cut, 0);
    expect(nf_load_idx(path, &b), NF_EFORMAT, &b, path, "0 bytes are too few");
}

Test(io, bad_calls)
{
    nf_bytes b;
    cr_assert_eq(nf_load_idx(NULL, &b), NF_EARG);
    cr_assert_eq(nf_load_idx(path, NULL), NF_EARG);
    cr_assert_eq(nf_load_packed_bits(NULL, 3, &b), NF_EARG);
    cr_assert_eq(nf_load_packed_bits(path, 3, NULL), NF_EARG);
    cr_assert_eq(nf_load_packed_bits(path, 0, &b), NF_EARG);
    nf_bytes_free(NULL);
    expect(nf_load_idx(path, &b), NF_EIO, &b, path, "No such file");
    expect(nf_load_packed_bits(path, 784, &b), NF_EIO, &b, path, "No such file");
    expect(nf_load_idx(folder, &b), NF_EIO, &b, folder, "directory");
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
        expect(nf_load_idx(path, &b), NF_EFORMAT, &b, path, "nf_load_idx");
    }
    write_gz(file, length);
    packed = file_read(gz_path, &n_packed);
    for (size_t n = 0; n < n_packed; n++) {
        file_write(path, packed, n);
        expect(nf_load_idx(path, &b), NF_EFORMAT, &b, path, n < 3 ? "too few" : "end early");
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
        nf_status status = nf_load_idx(path, &b);
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
    expect(nf_load_idx(path, &b), NF_EFORMAT, &b, path, "incorrect data check");
    packed[n_packed - 6] ^= 0x10;
    packed[n_packed] = 0x5b;
    file_write(path, packed, n_packed + 1);
    cr_assert_eq(nf_load_idx(path, &b), NF_EFORMAT); /* garbage behind the member */
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
    expect(nf_load_idx(gz_path, &b), NF_EFORMAT, &b, gz_path, "100 bytes of data");
    write_gz(file, make_idx(file, 8, 2, honest, 10));
    for (int i = 0; i < 200; i++)
        append_gz(zeros, sizeof zeros);
    expect(nf_load_idx(gz_path, &b), NF_EFORMAT, &b, gz_path, "left over");
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
            cr_assert_eq(nf_load_packed_bits(gz ? gz_path : path, dim, &b), NF_OK, "%s", nf_error_message());
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
    expect(nf_load_packed_bits(path, 784, &b), NF_EFORMAT, &b, path, "no rows");
    file_write(path, file, 197);
    expect(nf_load_packed_bits(path, 784, &b), NF_EFORMAT, &b, path, "197 bytes");
    expect(nf_load_packed_bits(path, SIZE_MAX, &b), NF_EFORMAT, &b, path, "197 bytes");
    write_gz(file, 97);
    expect(nf_load_packed_bits(gz_path, 784, &b), NF_EFORMAT, &b, gz_path, "97 bytes");
}

/* There is no header to bound a bomb, so gzip is bounded as such. */
Test(io, packed_bits_bomb)
{
    static unsigned char zeros[1 << 22];
    nf_bytes b;
    for (int i = 0; i < 65; i++)
        append_gz(zeros, sizeof zeros);
    expect(nf_load_packed_bits(gz_path, 784, &b), NF_EFORMAT, &b, gz_path, "unpacks to");
}

Test(io, allocation_failures)
{
    static const uint32_t extent[] = {1500, 11, 13}; /* more than one growth */
    size_t total = 1500 * 143;
    unsigned char *file = malloc(total + 16);
    write_gz(file, make_idx(file, 8, 3, extent, total));
    for (int bits = 0; bits < 2; bits++)
        for (size_t k = 0;; k++) {
            nf_bytes b;
            size_t live = alloc_live();
            fail_alloc_once(k);
            nf_status status = bits ? nf_load_packed_bits(gz_path, 8, &b) : nf_load_idx(gz_path, &b);
            bool failed = fail_alloc_off();
            cr_assert_eq(status, failed ? NF_ENOMEM : NF_OK, "allocation %zu: %s", k, nf_error_message());
            nf_bytes_free(&b);
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
        nf_status status = files[i].bits ? nf_load_packed_bits(name, 784, &b) : nf_load_idx(name, &b);
        cr_assert_eq(status, NF_OK, "%s", nf_error_message());
        cr_assert(b.n == files[i].n && b.height == files[i].height && b.width == files[i].width);
        cr_assert_eq(b.dim, files[i].bits || files[i].height ? 784 : 1);
        cr_assert_eq(sum(&b), files[i].sum, "%s: %llu", name, (unsigned long long)sum(&b));
        nf_bytes_free(&b);
    }
}
