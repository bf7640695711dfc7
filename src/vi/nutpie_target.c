/* Targets from a function of the signature that nutpie compiles PyMC models to, and Julia's cfunction macro can make:
   one point, always with its gradient. */
#include "vi/spares.h"
#include "vi/target.h"
#include <stdio.h>

typedef struct adapter {
    nf_nutpie_fn *f;
    void *user;
    nfi_spares spares; /* for gradients that nobody wants */
} adapter;

/* What the function's code means, with a text if the function itself has left none. */
static int answer(int64_t code, size_t d, const double *x)
{
    char what[64], text[NFI_MESSAGE_SIZE];
    if (code == 0)
        return 0;
    if (nf_error_status() != NF_ETARGET) {
        snprintf(what, sizeof what, "the function returned %lld", (long long)code);
        nfi_point_text(d, x, what, text);
        nf_error(NF_ETARGET, "%s", text);
    }
    return code > 0 ? 1 : NF_ETARGET;
}

/* An nf_target_point_fn. */
static int call(void *user, size_t d, const double *x, double *log_p, double *grad)
{
    adapter *a = user;
    if (grad)
        return answer(a->f(d, x, grad, log_p, a->user), d, x);
    nfi_spare *spare = nfi_spares_take(&a->spares);
    double *unwanted = spare ? nf_arena_alloc(&spare->ws->shared, d * sizeof *unwanted) : NULL;
    const int code = unwanted ? answer(a->f(d, x, unwanted, log_p, a->user), d, x)
                              : (int)nf_error(NF_ETARGET, "nf_target_nutpie: %s", nf_error_message());
    if (spare)
        nfi_spares_give_back(&a->spares, spare);
    return code;
}

static void destroy(void *user)
{
    adapter *a = user;
    nfi_spares_end(&a->spares);
    nfi_free(a);
}

nf_target *nf_target_nutpie(size_t dim, nf_nutpie_fn *f, void *user, nf_thread_rule rule)
{
    static const char who[] = "nf_target_nutpie";
    adapter *a = nfi_calloc(1, sizeof *a);
    if (!a || nfi_spares_begin(&a->spares) != NF_OK) {
        nfi_free(a);
        return NULL;
    }
    a->f = f;
    a->user = user;
    return nf_target_own(nfi_target_of_point(dim, f ? call : NULL, a, rule, who), a, destroy);
}
