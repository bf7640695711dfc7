/* A program may open the library, use threads, and close it again, 100 times over. The library is the first argument.
   Half of the times a workspace is left, whose threads then wait in code that must not go away. */
#include <dlfcn.h>
#include <nflow/nflow.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#ifdef NF_SINGLE
#define PREFIX "nf_f32_"
#else
#define PREFIX "nf_"
#endif
enum { TIMES = 100, ROWS = 700 };

/* Gets one function: its address goes into a pointer of the right type. */
static int get(void *library, const char *name, void *pointer)
{
    void *address = dlsym(library, name);
    memcpy(pointer, &address, sizeof address);
    return address != NULL;
}

static int once(const char *path, int time)
{
    nf_dist *(*normal)(size_t);
    nf_model *(*model_new)(nf_dist *, const nf_model_options *);
    void (*model_free)(nf_model *);
    nf_workspace *(*workspace_new)(size_t);
    void (*workspace_free)(nf_workspace *);
    nf_status (*sample)(const nf_model *, nf_workspace *, const nf_noise *, size_t, const nf_real *, nf_real *,
                        double *);
    static nf_real x[ROWS * 2];
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library || !get(library, PREFIX "normal", &normal) || !get(library, PREFIX "model_of_dist", &model_new) ||
        !get(library, PREFIX "model_free", &model_free) || !get(library, PREFIX "workspace_new", &workspace_new) ||
        !get(library, PREFIX "workspace_free", &workspace_free) || !get(library, PREFIX "sample", &sample)) {
        fprintf(stderr, "dlclose: %s\n", dlerror());
        return 1;
    }
    nf_model *m = model_new(normal(2), NULL);
    nf_workspace *ws = workspace_new(2);
    const int status = !m || !ws || sample(m, ws, &(nf_noise){.seed = 5}, ROWS, NULL, x, NULL) != NF_OK;
    model_free(m);
    if (time % 2)
        workspace_free(ws);
    dlclose(library);
    return status;
}

int main(int n, char **argument)
{
    for (int i = 0; i < TIMES; i++)
        if (n != 2 || once(argument[1], i) != 0) {
            fprintf(stderr, "dlclose: time %d failed\n", i);
            return 1;
        }
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL); /* threads that wait would wake up meanwhile */
    return 0;
}
