#include "reference.h"
#include "data.h"
#include <nflow/data.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* theta[1,2] -> theta.1.2 */
static void rename_entry(char *name)
{
    char *to = name;
    for (const char *from = name; *from && *from != '\n' && *from != '\r'; from++)
        if (*from != ']')
            *to++ = (char)(*from == '[' || *from == ',' ? '.' : *from);
    *to = 0;
}

static nf_status read_names(reference_draws *r, const char *path)
{
    FILE *in = fopen(path, "r");
    if (!in)
        return nf_error(NF_EIO, "%s: there are no names of reference draws", path);
    char line[REFERENCE_NAME];
    size_t n = 0;
    for (; n < r->k && fgets(line, sizeof line, in); n++) {
        rename_entry(line);
        memcpy(r->name[n], line, sizeof line);
    }
    const bool more = n == r->k && fgets(line, sizeof line, in) && line[0] != '\n';
    fclose(in);
    return n == r->k && !more ? NF_OK : nf_error(NF_EDIM, "%s: names are not as many as the %zu columns", path, r->k);
}

nf_status reference_read(reference_draws *r, const char *folder, const char *posterior)
{
    char name[256], path[512];
    nf_array a;
    *r = (reference_draws){.n = 0};
    if (!posterior)
        return nf_error(NF_EARG, "reference_read: there are no reference draws of this model");
    snprintf(name, sizeof name, "posteriordb/draws/%s.npy", posterior);
    if (!data_path(sizeof path, path, folder, name))
        return nf_error_status();
    nf_status s = nf_load_npy(path, 0, &a);
    if (s)
        return s;
    r->n = a.n;
    r->k = a.dim;
    r->name = calloc(r->k, sizeof *r->name);
    r->x = calloc(r->n * r->k, sizeof *r->x);
    if (r->name && r->x) {
        for (size_t i = 0; i < r->n * r->k; i++)
            r->x[i] = (double)a.data[i];
        snprintf(name, sizeof name, "posteriordb/draws/%s.names.txt", posterior);
        s = data_path(sizeof path, path, folder, name) ? read_names(r, path) : nf_error_status();
    } else
        s = nf_error(NF_ENOMEM, "reference_read: no memory for [%zu x %zu] numbers", r->n, r->k);
    nf_array_free(&a);
    if (s)
        reference_free(r);
    return s;
}

void reference_free(reference_draws *r)
{
    free(r->name);
    free(r->x);
    *r = (reference_draws){.n = 0};
}

size_t reference_column(const reference_draws *r, const char *name)
{
    size_t i = 0;
    while (i < r->k && strcmp(r->name[i], name) != 0)
        i++;
    return i;
}
