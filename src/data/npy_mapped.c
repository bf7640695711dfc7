/* Rows of an npy file that stays on disk. The file is mapped into the address space: the system reads the pages that
   are touched, and gives their memory to others when it is short. A read decodes its rows from there and keeps nothing,
   so any number of threads may read at once. */
#include "base/memory.h"
#include "data/elements.h"
#include <math.h>
#include <string.h>

struct nf_mapped {
    nfi_raw_array array; /* its path is the copy behind the struct */
    nfi_mapping file;
    nf_source source;
};

/* For data of a fit: numbers must be finite. */
static nf_status read_data(const nf_mapped *m, size_t count, const size_t *rows, nf_real *x, const nf_real *ctx)
{
    const size_t dim = m->array.dim;
    if (ctx)
        return nf_error(NF_EARG, "nf_mapped_source: %s gives no context", m->array.path);
    const nf_status status = nf_mapped_read(m, count, rows, x);
    for (size_t i = 0; status == NF_OK && i < count * dim; i++)
        if (!isfinite(x[i]))
            return nf_error(NF_EFORMAT, "nf_mapped_source: %s: number %zu of row %zu is %g, which is not finite",
                            m->array.path, i % dim, rows[i / dim], (double)x[i]);
    return status;
}

static int read_source(void *user, size_t count, const size_t *rows, nf_real *x, nf_real *ctx)
{
    return (int)read_data(user, count, rows, x, ctx);
}

static nf_status map(nf_mapped *m, nfi_stream *s)
{
    nf_status status = nfi_read_npy_header(s, &m->array);
    if (status == NF_OK)
        status = nfi_stream_map(s, !m->array.fortran, &m->file);
    const nfi_raw_array *a = &m->array;
    const size_t bytes = a->all * a->element.width;
    if (status == NF_OK && m->file.left != bytes)
        status = nf_error(NF_EFORMAT, "%s: %s: %zu bytes of data, the header promises %zu x %zu elements of %zu",
                          a->who, a->path, m->file.left, a->n, a->dim, a->element.width);
    m->array.who = "nf_mapped_read"; /* in messages from now on */
    return status;
}

nf_mapped *nf_map_npy(const char *path)
{
    if (!path) {
        nf_error(NF_EARG, "nf_map_npy: path is NULL");
        return NULL;
    }
    const size_t length = strlen(path) + 1;
    nfi_stream *s = nfi_stream_open("nf_map_npy", path, true);
    nf_mapped *m = s ? nfi_calloc(sizeof *m + length, 1) : NULL;
    if (m) {
        m->array.who = "nf_map_npy";
        m->array.path = memcpy(m + 1, path, length);
        m->source = (nf_source){.read = read_source, .user = m, .thread_safe = true};
        if (map(m, s) != NF_OK) {
            nf_mapped_free(m);
            m = NULL;
        }
    }
    nfi_stream_close(s);
    return m;
}

size_t nf_mapped_rows(const nf_mapped *m)
{
    return m ? m->array.n : 0;
}

size_t nf_mapped_columns(const nf_mapped *m)
{
    return m ? m->array.dim : 0;
}

/* Has all rows of a call read from disk at once, where their pages are not in memory: one after the other, each would
   wait for the disk. Rows that follow each other are one piece. */
static void expect_rows(const nf_mapped *m, size_t count, const size_t *rows)
{
    const size_t row_bytes = m->array.dim * m->array.element.width;
    for (size_t i = 0, end; i < count; i = end) {
        for (end = i + 1; end < count && rows[end] == rows[end - 1] + 1;)
            end++;
        nfi_mapping_ahead(m->file.data + rows[i] * row_bytes, (end - i) * row_bytes);
    }
}

nf_status nf_mapped_read(const nf_mapped *m, size_t count, const size_t *rows, nf_real *x)
{
    if (!m || ((!rows || !x) && count > 0))
        return nf_error(NF_EARG, "nf_mapped_read: %s is NULL", !m ? "m" : !rows ? "rows" : "x");
    const nfi_raw_array *a = &m->array;
    for (size_t i = 0; i < count; i++)
        if (rows[i] >= a->n)
            return nf_error(NF_EARG, "nf_mapped_read: row %zu of %s, which has %zu rows", rows[i], a->path, a->n);
    if (!a->fortran)
        expect_rows(m, count, rows);
    return nfi_decode_rows(a, m->file.data, count, rows, x);
}

const nf_source *nf_mapped_source(const nf_mapped *m)
{
    return m ? &m->source : NULL;
}

void nf_mapped_free(nf_mapped *m)
{
    if (!m)
        return;
    nfi_stream_unmap(&m->file);
    nfi_free(m);
}
