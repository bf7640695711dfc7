#include "vi_target.h"
#include "cli.h"
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

/* The function that "library.so:name" names. The library's path may have colons, the name has none. */
static void *find_function(const char *text)
{
    const char *colon = strrchr(text, ':');
    if (!colon || colon == text || !colon[1])
        cli_fail(2, "--target must be LIBRARY:FUNCTION, not '%s'", text);
    const int length = (int)(colon - text);
    char *path = cli_text("%s%.*s", memchr(text, '/', (size_t)length) ? "" : "./", length, text);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        cli_fail(1, "cannot open the target's library: %s", dlerror());
    void *f = dlsym(library, colon + 1);
    if (!f)
        cli_fail(1, "%s has no function %s", path, colon + 1);
    free(path);
    return f;
}

static nf_target *target_of_function(const vi_source *s)
{
    const nf_thread_rule rule = s->thread_safe ? NF_THREADSAFE : NF_SERIAL;
    void *address = find_function(s->function);
    nf_target_fn *batch;
    nf_nutpie_fn *point;
    if (s->batch) {
        memcpy(&batch, &address, sizeof batch);
        return nf_target_callback(s->dim, batch, NULL, rule);
    }
    memcpy(&point, &address, sizeof point);
    return nf_target_nutpie(s->dim, point, NULL, rule);
}

nf_target *vi_target(const vi_source *s)
{
    const nf_stan_options options = {
        .seed = (unsigned)s->seed, .transformed_parameters = s->transformed, .generated_quantities = s->generated};
    return cli_made(s->model ? nf_target_stan(s->model, s->data, &options) : target_of_function(s));
}
