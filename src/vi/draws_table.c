/* Tables of draws in files: CSV in the layout of Stan's Pathfinder, and npy (NumPy's format, version 1.0). */
#include "base/memory.h"
#include "io/text.h"
#include "vi/draws_file.h"
#include "vi/target.h"
#include <stdio.h>
#include <string.h>

nf_status nfi_check_draws(const char *who, const char *path, const nf_draws *draws, bool names)
{
    if (!path || !draws)
        return nf_error(NF_EARG, "%s: `%s` is NULL", who, path ? "draws" : "path");
    if (draws->n == 0 || draws->n_outputs == 0)
        return nf_error(NF_EARG, "%s: %zu draws of %zu outputs", who, draws->n, draws->n_outputs);
    if (!draws->values || (names && !draws->names))
        return nf_error(NF_EARG, "%s: `%s` is NULL", who, draws->values ? "names" : "values");
    return names ? nfi_check_names(who, draws->n_outputs, draws->names) : NF_OK;
}

/* ---- columns ---- */

enum { MOST_EXTRA = 3 };

/* The columns before the values. */
typedef struct extra {
    size_t n;
    const char *name[MOST_EXTRA];
    const double *value[MOST_EXTRA];
} extra;

static extra extra_columns(const nf_draws *d)
{
    const extra all = {MOST_EXTRA, {"lp_approx__", "lp__", "log_weight__"}, {d->log_q, d->log_p, d->log_weight}};
    extra there = {0};
    for (size_t k = 0; k < all.n; k++)
        if (all.value[k]) {
            there.name[there.n] = all.name[k];
            there.value[there.n++] = all.value[k];
        }
    return there;
}

/* ---- CSV ---- */

static nf_status check_comments(const char *comments)
{
    for (const char *c = comments; *c; c++)
        if ((unsigned char)*c < 0x20 && *c != '\n' && *c != '\t')
            return nf_error(NF_EARG, "nf_save_draws_csv: `comments` has a control character (code %d)", *c);
    return NF_OK;
}

static void put_comments(nfi_text *t, const nf_draws *d, const char *comments)
{
    char text[128];
    snprintf(text, sizeof text, "# method = pathfinder\n# num_draws = %zu\n# num_paths = 1\n# nflow_version = %s\n",
             d->n, nf_version());
    nfi_text_put(t, text);
    while (*comments) {
        const size_t length = strcspn(comments, "\n");
        nfi_text_put(t, "# ");
        nfi_text_put_part(t, comments, length);
        nfi_text_put(t, "\n");
        comments += length + (comments[length] == '\n');
    }
}

static void put_table(nfi_text *t, const nf_draws *d)
{
    const extra e = extra_columns(d);
    for (size_t k = 0; k < e.n + d->n_outputs; k++) {
        nfi_text_put(t, k ? "," : "");
        nfi_text_put(t, k < e.n ? e.name[k] : d->names[k - e.n]);
    }
    nfi_text_put(t, "\n");
    for (size_t i = 0; i < d->n; i++) {
        for (size_t k = 0; k < e.n + d->n_outputs; k++) {
            nfi_text_put(t, k ? "," : "");
            nfi_text_put_number(t, k < e.n ? e.value[k][i] : d->values[i * d->n_outputs + k - e.n], "");
        }
        nfi_text_put(t, "\n");
    }
}

nf_status nf_save_draws_csv(const char *path, const nf_draws *draws, const char *comments)
{
    static const char who[] = "nf_save_draws_csv";
    nf_status status = nfi_check_draws(who, path, draws, true);
    if (!status && comments)
        status = check_comments(comments);
    if (status)
        return status;
    nfi_text *t = nfi_text_open(who, path);
    if (!t)
        return nf_error_status();
    put_comments(t, draws, comments ? comments : "");
    put_table(t, draws);
    return nfi_text_close(t, NF_OK);
}

/* ---- npy ---- */

void nf_npy_header(size_t n, size_t columns, char *header)
{
    static const unsigned char begin[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, NF_NPY_HEADER - sizeof begin, 0};
    const char order = *(const unsigned char *)&(const uint16_t){1} ? '<' : '>';
    char text[NF_NPY_HEADER];
    const int length = snprintf(text, sizeof text, "{'descr': '%cf8', 'fortran_order': False, 'shape': (%zu, %zu), }",
                                order, n, columns);
    memset(header, ' ', NF_NPY_HEADER);
    memcpy(header, begin, sizeof begin);
    memcpy(header + sizeof begin, text, (size_t)length);
    header[NF_NPY_HEADER - 1] = '\n';
}

static nf_status write_rows(nfi_atomic *file, const nf_draws *d, const extra *e, double *row)
{
    nf_status status = NF_OK;
    for (size_t i = 0; i < d->n && !status; i++) {
        for (size_t k = 0; k < e->n; k++)
            row[k] = e->value[k][i];
        memcpy(row + e->n, d->values + i * d->n_outputs, d->n_outputs * sizeof *row);
        status = nfi_atomic_write(file, row, (e->n + d->n_outputs) * sizeof *row);
    }
    return status;
}

nf_status nf_save_draws_npy(const char *path, const nf_draws *draws)
{
    static const char who[] = "nf_save_draws_npy";
    nf_status status = nfi_check_draws(who, path, draws, false);
    if (status)
        return status;
    const extra e = extra_columns(draws);
    char header[NF_NPY_HEADER];
    nfi_atomic file;
    double *row = nfi_calloc(e.n + draws->n_outputs, sizeof *row);
    if (!row)
        return NF_ENOMEM;
    status = nfi_atomic_open(&file, who, path);
    if (!status) {
        nf_npy_header(draws->n, e.n + draws->n_outputs, header);
        status = nfi_atomic_write(&file, header, sizeof header);
        if (!status)
            status = write_rows(&file, draws, &e, row);
        status = nfi_atomic_finish(&file, status);
    }
    nfi_free(row);
    return status;
}
