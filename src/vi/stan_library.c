/* See stan_library.h. */
#include "vi/stan_library.h"
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { MAJOR = 2 }; /* the version that we know; its later minor versions only add to it */

/* Where the address of each function goes. */
static const struct symbol {
    const char *name;
    size_t place;
    bool optional;
} symbols[] = {
#define SYMBOL(name) "bs_" #name, offsetof(nfi_stan_library, name)
    {SYMBOL(model_construct), false},      {SYMBOL(model_destruct), false},  {SYMBOL(free_error_msg), false},
    {SYMBOL(model_info), false},           {SYMBOL(param_names), false},     {SYMBOL(param_num), false},
    {SYMBOL(param_unc_num), false},        {SYMBOL(param_constrain), false}, {SYMBOL(log_density), false},
    {SYMBOL(log_density_gradient), false}, {SYMBOL(rng_construct), false},   {SYMBOL(rng_destruct), false},
    {SYMBOL(set_print_callback), true},
#undef SYMBOL
};
enum { N_SYMBOLS = sizeof symbols / sizeof symbols[0] };

/* The library's version. Libraries of the first versions do not say theirs, and have other functions. */
static nf_status find_version(const char *who, const char *path, void *handle, int *version)
{
    static const char *const names[] = {"bs_major_version", "bs_minor_version", "bs_patch_version"};
    for (size_t i = 0; i < 3; i++) {
        const int *number = dlsym(handle, names[i]);
        version[i] = number ? *number : 0;
    }
    const bool first = version[0] == 0 && dlsym(handle, "bs_construct");
    if (first || (version[0] != 0 && version[0] != MAJOR))
        return nf_error(NF_EUNSUPPORTED, "%s: `%s` is of BridgeStan %d.%d.%d, but must be of version %d", who, path,
                        first ? 1 : version[0], version[1], version[2], MAJOR);
    return NF_OK;
}

static nf_status find_functions(const char *who, const char *path, void *handle, nfi_stan_library *lib)
{
    for (size_t i = 0; i < N_SYMBOLS; i++) {
        void *address = dlsym(handle, symbols[i].name);
        if (!address && !symbols[i].optional)
            return nf_error(NF_EFORMAT, "%s: `%s` is not a library of BridgeStan: it has no %s()", who, path,
                            symbols[i].name);
        memcpy((char *)lib + symbols[i].place, &address, sizeof address);
    }
    if (lib->version[0] == 0)
        return nf_error(NF_EFORMAT, "%s: `%s` is not a library of BridgeStan: it has no bs_major_version", who, path);
    return NF_OK;
}

nf_status nfi_stan_open(const char *who, const char *path, nfi_stan_library *lib)
{
    char here[PATH_MAX];
    const int length = snprintf(here, sizeof here, "%s%s", strchr(path, '/') ? "" : "./", path);
    if (length < 0 || (size_t)length >= sizeof here)
        return nf_error(NF_EIO, "%s: the library's path has more than %d characters", who, PATH_MAX - 3);
    void *handle = dlopen(here, RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        return nf_error(NF_EIO, "%s: cannot open the model's library: %s", who, dlerror());
    memset(lib, 0, sizeof *lib);
    nf_status status = find_version(who, path, handle, lib->version);
    if (status == NF_OK)
        status = find_functions(who, path, handle, lib);
    return status;
}
