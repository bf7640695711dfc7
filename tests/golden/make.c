/*
 * Makes the golden corpus: small model files of every type (models.h), and beside each the numbers that it gives
 * (numbers.h). Files of format version 1 load in every later version, so what was committed is never made anew:
 * tests/test_golden.c reads it.
 *
 *     usage: make_golden FOLDER [ROW...]      (the files in double precision, and the numbers of all files)
 *            make_golden_f32 FOLDER [ROW...]  (those in single precision; to be run first)
 *
 *     ninja -C build && build/tests/make_golden_f32 tests/golden && build/tests/make_golden tests/golden
 *
 * A new layer is given by a row of the conformance table, whose flow of 3 dimensions is then taken; it needs no line
 * here or in models.h:
 *
 *     build/tests/make_golden tests/golden "SOS polynomial"      (makes sos_polynomial.safetensors and .txt)
 *
 * What is there already is kept as it is.
 */
#include "../conformance/rows.h"
#include "models.h"
#include "numbers.h"
#include <ctype.h>
#include <dirent.h>
#include <unistd.h>

static const bool single = sizeof(nf_real) == sizeof(float);

static int complain(const char *path)
{
    fprintf(stderr, "%s: %s\n", path, nf_error_message());
    return 1;
}

/* Initial numbers, moved so that no two tensors look alike; state that is positive. */
static int make_model(nf_object *o, const char *path)
{
    nf_model *m = nf_model_of_object(o, &(nf_model_options){.seed = 2385});
    if (!m)
        return complain(path);
    const nf_shape *s = nf_model_shape(m);
    for (size_t i = 0; i < s->n_params; i++)
        nf_model_theta(m)[i] += (nf_real)(0.1 * ((double)((i * 71 + 13) % 89) / 44 - 1));
    for (size_t i = 0; i < s->n_state; i++)
        nf_model_state(m)[i] = (nf_real)(8 + 7 * i % 16) / 16;
    nf_status status = nf_model_update(m, NF_EVAL);
    if (status == NF_OK)
        status = nf_save(m, path);
    nf_model_free(m);
    return status == NF_OK ? 0 : complain(path);
}

static void print_row(void *file, size_t n, const double *row)
{
    for (size_t i = 0; i < n; i++)
        fprintf(file, "%s%.17g", i ? " " : "", row[i]);
    fputc('\n', file);
}

/* The numbers of a model file, beside it. */
static int make_numbers(const char *path, const char *text)
{
    FILE *file = fopen(text, "wx"); /* only if it is not there */
    nf_model *m = file ? nf_load(path, NULL) : NULL;
    int bad = !m;
    if (file && (bad || golden_numbers(m, golden_kind(nf_model_object(m)), print_row, file) != NF_OK))
        bad = complain(path);
    nf_model_free(m);
    if (file && fclose(file) != 0)
        bad = 1;
    if (bad)
        remove(text);
    return bad;
}

/* The flow of a row of the conformance table, and the name of its file: "SOS polynomial" gives "sos_polynomial". NULL
   if there is no such row. */
static nf_object *object_of_row(const char *row_name, char name[128])
{
    size_t k = 0, length = 0;
    while (k < N_ROWS && strcmp(rows[k].name, row_name) != 0)
        k++;
    if (k == N_ROWS) {
        fprintf(stderr, "the conformance table has no row \"%s\"\n", row_name);
        return NULL;
    }
    for (; row_name[length] && length < 127; length++)
        name[length] = isalnum((unsigned char)row_name[length]) ? (char)tolower((unsigned char)row_name[length]) : '_';
    name[length] = 0;
    return nf_flow_object(rows[k].build(3, rows[k].takes_context ? 2 : 0));
}

/* Makes a file from an object, unless there is one of this name. */
static int make_file(const char *folder, const char *name, nf_object *o)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s%s.safetensors", folder, name, single ? "_f32" : "");
    if (access(path, F_OK) != 0)
        return make_model(o, path);
    printf("%s is kept\n", path);
    nf_object_free(o);
    return 0;
}

int main(int n_arguments, char **arguments)
{
    int bad = 0;
    if (n_arguments < 2 || arguments[1][0] == '-') {
        fprintf(stderr, "usage: %s FOLDER [ROW...]\n", arguments[0]);
        return 2;
    }
    char path[512], text[512], name[128];
    for (size_t i = 0; i < sizeof corpus / sizeof *corpus; i++)
        if (!single || corpus[i].single)
            bad |= make_file(arguments[1], corpus[i].name, corpus[i].build());
    for (int k = 2; k < n_arguments; k++) {
        nf_object *o = object_of_row(arguments[k], name);
        bad |= o ? make_file(arguments[1], name, o) : 1;
    }
    DIR *folder = single ? NULL : opendir(arguments[1]);
    for (struct dirent *e; folder && (e = readdir(folder));) {
        const char *dot = strstr(e->d_name, ".safetensors");
        if (!dot || dot[strlen(".safetensors")])
            continue;
        snprintf(path, sizeof path, "%s/%s", arguments[1], e->d_name);
        snprintf(text, sizeof text, "%s/%.*s.txt", arguments[1], (int)(dot - e->d_name), e->d_name);
        if (access(text, F_OK) != 0)
            bad |= make_numbers(path, text);
    }
    if (folder)
        closedir(folder);
    return bad;
}
