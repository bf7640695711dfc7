/* Models of zuko, nflows and normflows, from their state dicts in tests/peers/import: log-densities and samples are
   those of the packages. tests/peers/export_state.py wrote the files. And what is refused. */
#include "peer_file.h"
#include "expect.h"
#include "fail_alloc.h"
#include "temp_files.h"
#include <stdio.h>

static const struct file {
    const char *name;
    double slack; /* of the tolerance, see peer_file.h */
    nf_import_options options;
} files[] = {
    {"zuko-maf", 1, {0}},
    {"zuko-maf_context", 1, {.family = NF_IMPORT_MAF}},
    {"zuko-iaf", 1, {.family = NF_IMPORT_IAF, .activation = NF_SWISH}},
    {"zuko-nsf", 4, {.family = NF_IMPORT_NSF}},
    {"zuko-nsf_context", 4, {.family = NF_IMPORT_NSF}},
    {"zuko-nsf_coupling", 4, {.family = NF_IMPORT_NSF, .min_slope = 0.01}},
    {"zuko-nsf_coupling_context", 4, {.family = NF_IMPORT_NSF, .min_slope = 0.01}},
    {"zuko-realnvp", 1, {.activation = NF_TANH}},
    {"zuko-single", 4, {.family = NF_IMPORT_NSF}},
    {"zuko-single_context", 4, {.family = NF_IMPORT_NSF}},
    {"nflows-realnvp", 1, {.family = NF_IMPORT_REALNVP}},
    {"nflows-nice", 1, {0}},
    {"nflows-maf", 1, {0}},
    {"nflows-maf_context", 1, {.activation = NF_TANH}},
    {"nflows-maf_residual", 1, {.family = NF_IMPORT_MAF}},
    {"nflows-iaf", 1, {0}},
    {"nflows-nsf_coupling", 10, {.family = NF_IMPORT_NSF, .tail_bound = 3}},
    {"nflows-nsf", 10, {.family = NF_IMPORT_NSF, .tail_bound = 2.5}},
    {"nflows-diagonal", 1, {0}},
    {"nflows-unit", 10, {.family = NF_IMPORT_NSF}},
    {"normflows-realnvp", 1, {.n_flows = 4}},
    {"normflows-sigmoid", 10, {.scale = NF_IMPORT_SCALE_SIGMOID, .split = NF_IMPORT_SPLIT_CHANNEL_INV}},
    {"normflows-sigmoid_inv", 1, {.scale = NF_IMPORT_SCALE_SIGMOID_INV, .split = NF_IMPORT_SPLIT_CHANNEL_INV}},
    {"normflows-nice", 1, {0}},
    {"normflows-masked", 1, {.activation = NF_LEAKY_RELU}},
    {"normflows-maf", 1, {.family = NF_IMPORT_MAF}},
    {"normflows-maf_context", 1, {0}},
    {"normflows-nsf_coupling", 10, {0}},
    {"normflows-nsf", 10, {0}},
    {"normflows-residual", 10, {.family = NF_IMPORT_RESIDUAL, .lipschitz = 0.9}},
    {"normflows-glow", 10, {.height = 8, .width = 4}},
    {"normflows-glow_classes", 10, {.family = NF_IMPORT_GLOW}},
};
enum { N_FILES = sizeof files / sizeof *files, PATH = 160 };

static const char *path_of(char *path, const struct file *f, const char *ending)
{
    snprintf(path, PATH, "tests/peers/import/%s.%s", f->name, ending);
    return path;
}

Test(import, agrees_with_python)
{
    char path[PATH];
    for (size_t k = 0; k < N_FILES; k++) {
        nf_model *m = nf_import(path_of(path, &files[k], "safetensors"), &files[k].options);
        cr_expect_not_null(m, "%s", nf_error_message());
        if (!m)
            continue;
        json_t *file = peer_file(path_of(path, &files[k], "json"));
        compare_with_peer(files[k].name, files[k].slack, file, m);
        json_decref(file);
        nf_model_free(m);
    }
}
