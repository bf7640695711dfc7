/* Builds without Jansson: they read no safetensors files. */
#include <nflow/import.h>

nf_model *nf_import(const char *path, const nf_import_options *options)
{
    (void)path, (void)options;
    nf_error(NF_EUNSUPPORTED, "nf_import: this build has no Jansson, so it reads no safetensors files");
    return NULL;
}

const nf_option_table *nf_import_option_table(void)
{
    return NULL;
}
