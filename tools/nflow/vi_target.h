/* The target of nflow vi: a Stan model's library, or a function of a shared library. */
#ifndef NFLOW_TOOL_VI_TARGET_H
#define NFLOW_TOOL_VI_TARGET_H
#include <nflow/nflow.h>

typedef struct vi_source {
    const char *model, *data; /* a library that BridgeStan made, and its data or NULL; model NULL: `function` */
    bool transformed, generated;
    const char *function; /* "library.so:name" */
    size_t dim;
    bool batch;       /* the function is an nf_target_fn, otherwise an nf_nutpie_fn */
    bool thread_safe; /* several threads may call it at once */
    uint64_t seed;    /* of random numbers that a Stan model draws */
} vi_source;

/* Released by nf_target_free(). The library stays open until the program ends. Exits 1 with one line if there is no
   such target, 2 if `function` is not written like that. */
nf_target *vi_target(const vi_source *s);

#endif
