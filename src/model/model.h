/* Models from the inside: an object and its numbers. */
#ifndef NFI_MODEL_H
#define NFI_MODEL_H
#include "model/notes.h"
#include "object/prepare.h"
#include "object/pack.h"
#include "object/tiles.h"
#include "object/tree.h"

/* Whether `prep` belongs to the model's present theta and state. */
typedef enum nfi_readiness {
    NFI_STALE,  /* no: the last preparation has failed */
    NFI_READY,  /* yes, if they still have the fingerprint that they had when `prep` was made */
    NFI_FITTING /* yes: a fit is running, which prepares the model after each step and takes no fingerprints */
} nfi_readiness;

struct nf_model {
    nf_object *o;
    nf_real *theta, *state, *prep;
    bool own_theta, own_state;
    nfi_preparation preparation; /* the nodes of o that are to be prepared */
    nfi_readiness readiness;
    nfi_notes notes;
    uint64_t fingerprint; /* nfi_fingerprint_of() the numbers, taken when the model was last prepared outside a fit */
};

/* NF_ESTALE, with a message that begins with `who`, if theta or state have changed since the model was prepared. Only
   the numbers are looked at of which a `prepare` hook has made others. */
nf_status nfi_check_ready(const nf_model *m, const char *who);

/* A round of preparation over the model's numbers. To pull gradients back, set g_prep and g_theta in the result. */
nfi_preparing nfi_preparing_of(const nf_model *m, nf_mode mode);
/* As nf_model_pull_gradient, without its checks, on the pool's threads (NULL: as many as OpenMP would use). */
nf_status nfi_pull_gradient(const nf_model *m, nfi_pool *pool, nf_real *g, nf_real *g_theta);
/* Binds an object of any kind; consumes it. `noun` is the name of the argument that it is. */
nf_model *nfi_model_bind(nf_object *o, const nf_model_options *options, const char *who, const char *noun);

#endif
