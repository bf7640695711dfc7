/* A distribution around one continuous flow, taken apart: a base, and stages in the order from the base to the data, of
   which one is the continuous flow,

       draw of the base -> stage[0] -> ... -> stage[field] -> ... -> stage[n - 1] -> row of the data. */
#ifndef NFI_STAGES_H
#define NFI_STAGES_H
#include <nflow/dist.h>

/* A node of the model's tree, and where its numbers, its noise and its context begin, counted from the root's. */
typedef struct nfi_stage {
    const nf_object *o;
    nf_direction d; /* the direction from the base to the data */
    size_t theta, state, prep, ctx;
    uint32_t site;
} nfi_stage;

typedef struct nfi_stages {
    nfi_stage base;
    nfi_stage *stage; /* [n] */
    size_t n, field;
} nfi_stages;

/* Takes a distribution apart, whose objects are borrowed. NF_EUNSUPPORTED, with a message that begins with `who`, if it
   has no continuous flow, or more than one, or one inside a layer that is not opened here, or if the base cannot
   sample; NF_ENOMEM. After an error there is nothing to release. */
nf_status nfi_stages_of(const nf_object *dist, const char *who, nfi_stages *s);
void nfi_stages_free(nfi_stages *s);

/* The pass of a stage, from that of the whole model; and the gradients of the stage's numbers. */
nf_pass nfi_stage_pass(const nfi_stage *stage, const nf_pass *root);
nf_grad nfi_stage_grad(const nfi_stage *stage, const nf_grad *root);

/* x0 [dim x ld] = a draw of the base, taken through the stages before the field; x1 [dim x ld] = the rows x of data,
   taken back through the stages after it. In evaluation and without a tape. Both use scratch, and rewind it. */
nf_status nfi_stages_draw(const nfi_stages *s, const nf_pass *root, nf_real *x0);
nf_status nfi_stages_take_back(const nfi_stages *s, const nf_pass *root, const nf_real *x, nf_real *x1);

#endif
