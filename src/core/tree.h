/* Objects from the inside: the node that nets, flows, distributions and VAEs share, and the walks over their trees. */
#ifndef NFI_TREE_H
#define NFI_TREE_H
#include <nflow/vae.h>
#include <stdatomic.h>

typedef enum nfi_kind { NFI_NET, NFI_FLOW, NFI_DIST, NFI_VAE } nfi_kind;

/* Of nf_shape.flags: vector-Jacobian products heed nf_grad.fresh: with it they write each of theta's numbers, where
   else they add. Of an object with children: it has no parameters of its own, and each child's product is called
   exactly once with the child's nf_child_grad(). Nothing is lost without the flag: the library then clears the numbers
   first. */
#define NFI_WRITES_GRADIENT (1u << 31)
/* Of nf_objective_type.internal: `backward` hands g, or the nf_child_grad() of each of the model's children, to exactly
   one vector-Jacobian product. Then g->fresh may be set. */
#define NFI_HANDS_GRADIENT_ON 1u

typedef struct nfi_place {
    size_t theta, state, prep; /* first number of a child, counted from its parent's */
    uint32_t site;
    bool detached; /* its parameters come from elsewhere (amortised): not part of the parent's numbers */
} nfi_place;

struct nf_object {
    atomic_uint refs;
    nfi_kind kind;
    const nf_part *part; /* the type's hooks */
    const void *type;    /* nf_flow_type, nf_net_type ... in this library's size */
    void *completed;     /* the type's table if that is a copy of the object's own, else NULL */
    nf_shape own, total;
    void *self;
    size_t n_children;
    nf_object **children;
    nfi_place *place; /* [n_children] */
};
struct nf_net {
    nf_object o;
};
struct nf_flow {
    nf_object o;
};
struct nf_dist {
    nf_object o;
};
struct nf_vae {
    nf_object o;
};

/* A new node: consumes children and self whatever happens. n_detached: so many of the first children are detached.
   `who` names the constructor in messages. */
nf_object *nfi_object_new(nfi_kind kind, const nf_part *part, const void *type, const nf_shape *own, void *self,
                          nf_object *const *children, size_t n_children, size_t n_detached, const char *who);
/* A composite flow whose first n_detached children are detached. */
nf_flow *nfi_flow_new_detached(const nf_flow_type *type, const nf_shape *own, void *self, nf_object *const *children,
                               size_t n_children, size_t n_detached);

/* The node as what it is; NULL if it is NULL or of another kind (then it is NOT released). */
nf_net *nfi_as_net(nf_object *o);
nf_flow *nfi_as_flow(nf_object *o);
nf_dist *nfi_as_dist(nf_object *o);
nf_vae *nfi_as_vae(nf_object *o);

/* The gradients as o's type takes them: a fresh one is cleared here if the type only adds; NULL: none are wanted. */
nf_grad nfi_grad_of(const nf_object *o, const nf_grad *g);
/* Walks; numbers are those of the whole subtree. Models prepare by their list of nodes instead (core/prepare.h). */
nf_status nfi_tree_prepare(const nf_object *o, nf_mode mode, const nf_real *theta, nf_real *state, nf_real *prep);
nf_status nfi_tree_end_step(const nf_object *o, const double *stats, size_t n, nf_real *state);
nf_status nfi_tree_init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta,
                        nf_real *state);
/* A pass over the initial batch for child i, whose numbers have just been initialised: prepared, context the batch's,
   in evaluation mode, with noise of a step of its own. Scratch and prepared numbers are from `memory`. */
nf_status nfi_init_pass(const nf_object *o, size_t i, const nf_noise *noise, const nf_batch *batch, nf_real *theta,
                        nf_real *state, nf_arena *memory, nf_pass *p);
/* Moves a net child's initial output by shift [dim_out]; theta as in nf_init_child. */
nf_status nfi_shift_child(const nf_object *o, size_t i, const nf_real *shift, nf_real *theta);
/* Names every tensor of theta in layout order: "1.chain.0.planar.w". */
void nfi_tree_slices(const nf_object *o, nf_slice_fn *each, void *user);

#endif
