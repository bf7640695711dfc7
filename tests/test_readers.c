/* What holds for every function that reads data from a file: whatever the file is, an error or a result; memory follows
   what the file holds; pipes are read as files are. Model files and descriptions have tests of their own. */
#include "damage.h"
#include "support/npy_file.h"
#include <fcntl.h>
#include <nflow/data.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <zlib.h>

static char path[128];

static void setup(void)
{
    snprintf(path, sizeof path, "%s/data", temp_folder());
}

TestSuite(readers, .init = setup, .fini = temp_teardown);

/* ---- the readers ---- */

static size_t limit; /* max_bytes of the calls below; 0: their default */
static double total; /* the sum of what was read last */

static void add_up(size_t n, const nf_real *x)
{
    total = 0;
    for (size_t i = 0; i < n; i++)
        total += (double)x[i];
}

static nf_status read_csv(const char *file)
{
    nf_table t;
    const nf_status status = nf_load_csv(file, &(nf_csv_options){.max_bytes = limit}, &t);
    add_up(t.n * t.dim, t.data);
    nf_table_free(&t);
    return status;
}

static nf_status read_npy(const char *file)
{
    nf_array a;
    const nf_status status = nf_load_npy(file, limit, &a);
    add_up(a.n * a.dim, a.data);
    nf_array_free(&a);
    return status;
}

static nf_status read_idx_array(const char *file)
{
    nf_array a;
    const nf_status status = nf_load_idx_array(file, limit, &a);
    add_up(a.n * a.dim, a.data);
    nf_array_free(&a);
    return status;
}

static void add_up_bytes(const nf_bytes *b)
{
    total = 0;
    for (size_t i = 0; i < b->n * b->dim; i++)
        total += b->data[i];
}

static nf_status read_idx(const char *file)
{
    nf_bytes b;
    const nf_status status = nf_load_idx(file, limit, &b);
    add_up_bytes(&b);
    nf_bytes_free(&b);
    return status;
}

static nf_status read_bits(const char *file)
{
    nf_bytes b;
    const nf_status status = nf_load_packed_bits(file, 8, limit, &b);
    add_up_bytes(&b);
    nf_bytes_free(&b);
    return status;
}

/* All rows are read, too: those of a damaged file must be inside it. */
static nf_status read_mapped(const char *file)
{
    nf_real x[64];
    nf_mapped *m = nf_map_npy(file);
    nf_status status = m ? NF_OK : nf_error_status();
    total = 0;
    for (size_t i = 0; status == NF_OK && i < nf_mapped_rows(m) && nf_mapped_columns(m) <= 64; i++) {
        status = nf_mapped_read(m, 1, &i, x);
        for (size_t c = 0; c < nf_mapped_columns(m); c++)
            total += (double)x[c];
    }
    nf_mapped_free(m);
    if (status == NF_EUNSUPPORTED) /* damage has made it gzip data */
        return nf_error(NF_EFORMAT, "nf_map_npy: gzip");
    return status;
}

/* As nflow/data.h has it. */
enum {
    FACTOR = 16,
    REST = 1 << 19,
    REST_LARGE = 1 << 22 /* where blocks are rounded to large pages */,
    TIMES_LIMIT = 6
};
static const damage_reader readers[] = {{"nf_load_csv", read_csv, false, FACTOR, REST},
                                        {"nf_load_npy", read_npy, true, FACTOR, REST},
                                        {"nf_load_idx_array", read_idx_array, true, FACTOR, REST},
                                        {"nf_load_idx", read_idx, true, FACTOR, REST},
                                        {"nf_load_packed_bits", read_bits, false, FACTOR, REST},
                                        {"nf_map", read_mapped, true, 0, REST}};
enum { CSV, NPY, IDX_ARRAY, IDX, BITS, MAPPED, N_READERS = sizeof readers / sizeof *readers };

/* A file of `rows` rows for reader k, as full of numbers as its format can be; returns its length. `file` has room for
   8 bytes a row and 128 more. */
static size_t make(size_t k, size_t rows, unsigned char *file)
{
    char header[128];
    size_t n = 0;
    snprintf(header, sizeof header, "{'descr': '|u1', 'fortran_order': %s, 'shape': (%zu, %d), }",
             rows % 2 ? "False" : "True", rows, 1);
    if (k == NPY || k == MAPPED)
        n = npy_make(file, 1, header, 0, "");
    if (k == IDX || k == IDX_ARRAY) {
        const unsigned char begin[] = {0,
                                       0,
                                       8,
                                       2,
                                       (unsigned char)(rows >> 24),
                                       (unsigned char)(rows >> 16),
                                       (unsigned char)(rows >> 8),
                                       (unsigned char)rows,
                                       0,
                                       0,
                                       0,
                                       1};
        memcpy(file, begin, n = sizeof begin);
    }
    for (size_t i = 0; i < rows; i++) {
        file[n++] = (unsigned char)(k == CSV ? '1' + i % 9 : 3 * i % 251);
        if (k == CSV)
            file[n++] = '\n';
    }
    return n;
}

/* The file packed; *n is its length, and becomes that of what is returned. */
static unsigned char *pack(const unsigned char *file, size_t *n)
{
    z_stream z = {.next_in = (unsigned char *)file, .avail_in = (uInt)*n};
    cr_assert_eq(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    const size_t room = deflateBound(&z, *n);
    unsigned char *packed = malloc(room);
    z.next_out = packed;
    z.avail_out = (uInt)room;
    cr_assert_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    *n = room - z.avail_out;
    deflateEnd(&z);
    return packed;
}

/* ---- damage ---- */

Test(readers, damaged_files)
{
    static const char table[] = "a,\"b \"\"c\"\n1,2.5\n\n\"3\" ,-4e1\r\n5,6";
    for (size_t k = 0; k < N_READERS; k++) {
        unsigned char file[512];
        size_t n = make(k, 5, file);
        if (k == CSV)
            memcpy(file, table, n = sizeof table - 1);
        for (int gzip = 0; gzip < (k == MAPPED ? 1 : 2); gzip++) {
            unsigned char *packed = gzip ? pack(file, &n) : NULL;
            damage_everywhere(&readers[k], path, gzip ? packed : file, n, NFLOW_THIN ? 43 : 1);
            free(packed);
        }
    }
}

/* ---- memory ---- */

/* Of files that are all numbers, and at sizes just beyond those at which arrays grow. */
Test(readers, memory_follows_the_file)
{
    static const size_t sizes[] = {(1 << 16) + 1, 100003, (1 << 18) + 1, (1 << 19) + 100};
    unsigned char *file = malloc(((1 << 19) + 300) * 2);
    for (size_t k = 0; k < N_READERS; k++)
        for (size_t i = 0; i < 4; i++) {
            damage_reader r = readers[k];
            r.rest = REST_LARGE;
            const size_t n = make(k, sizes[i], file);
            file_write(path, file, n);
            cr_assert(damage_read(&r, path, n, "rows", sizes[i]), "%s", nf_error_message());
            if (k != CSV)
                continue;
            for (size_t at = 1; at + 1 < n; at += 2) /* one line */
                file[at] = ',';
            file_write(path, file, n);
            cr_assert(damage_read(&r, path, n, "columns", sizes[i]), "%s", nf_error_message());
        }
    free(file);
}

/* Gzip data that unpack to much more than max_bytes: refused, and the memory is that of max_bytes. */
Test(readers, max_bytes_bounds_memory)
{
    enum { LONG = 1 << 24, LIMIT = 10007 };
    unsigned char *file = malloc(LONG + 300);
    limit = LIMIT;
    for (size_t k = 0; k < MAPPED; k++)
        for (int names = 0; names < (k == CSV ? 2 : 1); names++) {
            size_t n = make(k, LONG / 2, file);
            if (k == CSV) /* numbers without an end, or a name of each column, on a line without an end */
                for (size_t i = 0; i < n; i++)
                    file[i] = (unsigned char)(names ? (i % 4000 ? 'a' : ',') : i % 2 ? '\n' : '7');
            unsigned char *packed = pack(file, &n);
            file_write(path, packed, n);
            const damage_reader r = {readers[k].who, readers[k].read, false, 0, TIMES_LIMIT * LIMIT + REST};
            cr_assert_not(damage_read(&r, path, n, "a bomb of bytes", n));
            cr_assert(strstr(nf_error_message(), "max_bytes"), "%s", nf_error_message());
            free(packed);
        }
    free(file);
}

/* ---- pipes ---- */

/* What goes through a pipe: the first bytes one by one, the rest in pieces. */
typedef struct piped {
    const unsigned char *bytes;
    size_t n;
} piped;

static void *write_pipe(void *user)
{
    const piped *p = user;
    const int fd = open(path, O_WRONLY);
    ssize_t got = fd < 0 ? -1 : 1;
    for (size_t at = 0; at < p->n && got > 0; at += (size_t)got) {
        got = write(fd, p->bytes + at, at < 8 ? 1 : p->n - at < 1000 ? p->n - at : 1000);
        if (at < 8) /* so that it is read by itself */
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    close(fd);
    return NULL;
}

Test(readers, pipes_are_read_as_files_are)
{
    unsigned char file[16384];
    signal(SIGPIPE, SIG_IGN);
    for (size_t k = 0; k < MAPPED; k++)
        for (int gzip = 0; gzip < 2; gzip++) {
            size_t n = make(k, 5003, file);
            unsigned char *packed = gzip ? pack(file, &n) : NULL;
            const piped p = {gzip ? packed : file, n};
            file_write(path, p.bytes, p.n);
            cr_assert_eq(readers[k].read(path), NF_OK, "%s", nf_error_message());
            const double wanted = total;
            cr_assert(wanted > 0 && remove(path) == 0 && mkfifo(path, 0600) == 0);
            pthread_t writer;
            cr_assert_eq(pthread_create(&writer, NULL, write_pipe, (void *)&p), 0);
            const nf_status status = readers[k].read(path);
            pthread_join(writer, NULL);
            cr_assert(status == NF_OK && total == wanted, "%s, gzip %d: %s", readers[k].who, gzip, nf_error_message());
            remove(path);
            free(packed);
        }
    cr_assert_eq(mkfifo(path, 0600), 0);
    const piped p = {file, make(NPY, 5003, file)};
    pthread_t writer;
    cr_assert_eq(pthread_create(&writer, NULL, write_pipe, (void *)&p), 0);
    cr_assert_null(nf_map_npy(path));
    pthread_join(writer, NULL);
    cr_assert_eq(nf_error_status(), NF_EUNSUPPORTED);
    cr_assert(strstr(nf_error_message(), "is no regular file, which cannot be mapped"), "%s", nf_error_message());
}
