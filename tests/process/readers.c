/* Files that promise or hold very much take little memory to refuse: a gzip of 250 kB with 2 GB of packed bits, IDX
   headers that promise 4 GB, a model file of 1.5 GB with the header {}. The process may take 200 MB. */
#include "process.h"
#include <fcntl.h>
#include <zlib.h>

enum { ROOM = 200 << 20, ZEROS = 1 << 20, MANY = 250 };
static char path[64] = "/tmp/nflow-process-XXXXXX";

/* MANY MB of zeros behind `n` bytes, as gzip. */
static void write_bomb(const unsigned char *first, unsigned n)
{
    static unsigned char zeros[ZEROS];
    gzFile f = gzopen(path, "wb9");
    MUST(f && (n == 0 || gzwrite(f, first, n) == (int)n), "gzopen");
    for (int i = 0; i < MANY; i++)
        MUST(gzwrite(f, zeros, ZEROS) == ZEROS, "gzwrite");
    MUST(gzclose(f) == Z_OK, "gzclose");
}

static void write_plain(const void *bytes, size_t n, off_t size)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    MUST(fd >= 0 && write(fd, bytes, n) == (ssize_t)n && ftruncate(fd, size) == 0, "%s: %s", path, strerror(errno));
    close(fd);
}

static void limit(void)
{
    size_t pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    MUST(f && fscanf(f, "%zu", &pages) == 1, "statm");
    fclose(f);
    const rlim_t most = pages * (size_t)sysconf(_SC_PAGESIZE) + ROOM;
    MUST(setrlimit(RLIMIT_AS, &(struct rlimit){.rlim_cur = most, .rlim_max = most}) == 0, "setrlimit");
}

static void refused(nf_status status, const nf_bytes *b, const char *why)
{
    MUST(status == NF_EFORMAT && !b->data && strstr(nf_error_message(), why), "status %d, expected '%s'", status, why);
}

static void idx(void *user)
{
    (void)user;
    const unsigned char header[16] = {0, 0, 8, 3, 0, 0, 0, MANY, 0, 0, 4, 0, 0, 0, 4, 0}; /* MANY x 1024 x 1024 */
    const unsigned char more[16] = {0, 0, 8, 3, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0, 1, 0};
    nf_bytes b;
    write_bomb(header, sizeof header);
    limit();
    refused(nf_load_idx(path, (size_t)100 << 20, &b), &b, "max_bytes");
    write_plain(more, sizeof more, sizeof more);
    refused(nf_load_idx(path, 0, &b), &b, "0 bytes of data"); /* within the limit, and yet no memory is taken for it */
    const unsigned char huge[12] = {0, 0, 8, 2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 9};
    write_plain(huge, sizeof huge, sizeof huge);
    refused(nf_load_idx(path, 0, &b), &b, "max_bytes");
    write_plain((const unsigned char[]){0, 0, 8, 1, 0, 0, 0, 3, 5, 6, 7}, 11, 11);
    refused(nf_load_idx(path, 2, &b), &b, "max_bytes");
    MUST(nf_load_idx(path, 3, &b) == NF_OK && b.n == 3 && b.data[2] == 7, "three bytes");
    nf_bytes_free(&b);
}

static void bits(void *user)
{
    (void)user;
    nf_bytes b;
    write_bomb(NULL, 0);
    limit();
    refused(nf_load_packed_bits(path, 784, 50 << 20, &b), &b, "max_bytes");
    write_plain("\xf0\x81", 2, 2);
    refused(nf_load_packed_bits(path, 8, 15, &b), &b, "max_bytes");
    MUST(nf_load_packed_bits(path, 8, 16, &b) == NF_OK && b.n == 2 && b.data[15] == 255, "two rows");
    nf_bytes_free(&b);
}

static void model_refused(const char *header, uint64_t length, off_t data, const char *why)
{
    unsigned char file[512] = {0};
    for (int i = 0; i < 8; i++)
        file[i] = (unsigned char)(length >> 8 * i);
    strcpy((char *)file + 8, header);
    write_plain(file, 8 + strlen(header), (off_t)(8 + strlen(header)) + data);
    MUST(!nf_load(path, NULL) && nf_error_status() == NF_EFORMAT && strstr(nf_error_message(), why), "expected '%s'",
         why);
}

static void models(void *user)
{
    (void)user;
    const off_t size = 1572864000;
    limit();
    model_refused("{}", 2, size, "bytes of data, but the tensors have 0");
    model_refused("{}", 90000000, 0, "truncated");
    const char *w = "\"w\":{\"dtype\":\"F32\",\"shape\":[393216000],\"data_offsets\":[0,1572864000]}}";
    char header[400];
    snprintf(header, sizeof header, "{%s", w);
    model_refused(header, strlen(header), size, "not a model of this library");
    snprintf(header, sizeof header,
             "{\"__metadata__\":{\"format\":\"nflow\",\"format_version\":\"1\",\"architecture\":\"{}\"},%s", w);
    model_refused(header, strlen(header), size, "");
}

int main(void)
{
    const int fd = mkstemp(path);
    MUST(fd >= 0, "mkstemp");
    close(fd);
    in_child("IDX", idx, NULL);
    in_child("packed bits", bits, NULL);
    in_child("model files", models, NULL);
    unlink(path);
    return 0;
}
