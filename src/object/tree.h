/* Objects from the inside: the node that nets, flows, distributions and VAEs have in common, and the walks over trees
   of such nodes. */
#ifndef NFI_TREE_H
#define NFI_TREE_H
#include <nflow/vae.h>
#include <stdatomic.h>

typedef enum nfi_kind { NFI_NET, NFI_FLOW, NFI_DIST, NFI_VAE } nfi_kind;
/* "net", "flow", "dist" or "vae", as in model files. */
const char *nfi_kind_name(nfi_kind kind);

/* A bit of nf_grad.internal. The numbers of g->theta are fresh: nothing has been written to them yet, and they may have
   any values. */
#define NFI_FRESH 1u
/* A flag in nf_shape.flags. The vector-Jacobian products of an object with this flag know NFI_FRESH: if that bit is
   set, they overwrite each number of g->theta; otherwise they add to it. An object with children may have this flag if
   it has no parameters of its own, and if its product calls each child's product exactly once, with the child's
   nf_child_grad(). An object without the flag works, too: the library then clears g->theta first. */
#define NFI_WRITES_GRADIENT (1u << 31)
/* A flag in nf_shape.flags, beside NF_IMPLICIT_FORWARD or NF_IMPLICIT_INVERSE, for types without a penalty. With a tape
   that direction saves what the other one would at its solution. Otherwise the library runs the other one there. */
#define NFI_SAVES_EXPLICIT (1u << 30)
/* A flag in nf_shape.flags. The object's children use the tape one after the other, on the way back: of what they save,
   the most counts and not the sum. */
#define NFI_RECOMPUTES (1u << 29)
/* A flag in nf_shape.flags of a flow. For x and y = f(x), both directions save the same, and each direction's
   vector-Jacobian product works on what the other one saved. So the way back can recover x from y and what the flow
   saves by a single pass of the opposite direction, and the inverse's gradient at a draw needs no inverse. */
#define NFI_SAVES_ALIKE (1u << 28)
/* A flag in nf_objective_type.internal. The objective's `backward` gives g to exactly one vector-Jacobian product, or
   it gives the nf_child_grad() of each of the model's children to exactly one. Only then may g be fresh. */
#define NFI_HANDS_GRADIENT_ON 1u

typedef struct nfi_place {
    size_t theta, state, prep; /* a child's first numbers, counted from its parent's first */
    uint32_t site;
    bool detached; /* its parameters come from elsewhere (amortised): they are not among the parent's numbers */
} nfi_place;

struct nf_object {
    atomic_uint_least64_t refs; /* see parts.h */
    nfi_kind kind;
    const nf_part *part; /* the type's hooks */
    const void *type;    /* nf_flow_type, nf_net_type ..., in this library's size */
    void *completed;     /* the same table if it is a copy that the object owns, else NULL */
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

/* Makes a node. It consumes the children and self, also on failure. The first n_detached children are detached. `who`
   names the constructor in messages; constructors whose children have names call nfi_parts_given before. */
nf_object *nfi_object_new(nfi_kind kind, const nf_part *part, const void *type, const nf_shape *own, void *self,
                          nf_object *const *children, size_t n_children, size_t n_detached, const char *who);
/* A net, a composite flow and a distribution whose first n_detached children are detached. */
nf_net *nfi_net_new_detached(const nf_net_type *type, const nf_shape *own, void *self, nf_object *const *children,
                             size_t n_children, size_t n_detached);
nf_flow *nfi_flow_new_detached(const nf_flow_type *type, const nf_shape *own, void *self, nf_object *const *children,
                               size_t n_children, size_t n_detached);
nf_dist *nfi_dist_new_detached(const nf_dist_type *type, const nf_shape *own, void *self, nf_object *const *children,
                               size_t n_children, size_t n_detached);

/* The same node as the kind that it is. NULL if o is NULL or of another kind; then o is NOT released. */
nf_net *nfi_as_net(nf_object *o);
nf_flow *nfi_as_flow(nf_object *o);
nf_dist *nfi_as_dist(nf_object *o);
/* Child i of a description, as a new reference to a net, flow or distribution. NULL with NF_EFORMAT if it is none, or
   is missing. Messages say whose part it is; NULL: they do not. */
nf_net *nfi_read_net(nf_reader *r, size_t i, const char *whose);
nf_flow *nfi_read_flow(nf_reader *r, size_t i, const char *whose);
nf_dist *nfi_read_dist(nf_reader *r, size_t i, const char *whose);

static inline bool nfi_is_fresh(const nf_grad *g)
{
    return g->internal & NFI_FRESH;
}
/* The gradients in the form that o's type takes. If g is fresh but the type only adds, the numbers of g->theta are
   cleared here. If g is NULL, no gradients are wanted. */
nf_grad nfi_grad_of(const nf_object *o, const nf_grad *g);
/* Walks over a subtree; the arrays are those of the whole subtree. Models do not use nfi_tree_prepare: they prepare by
   their list of nodes (object/prepare.h). */
nf_status nfi_tree_prepare(const nf_object *o, nf_mode mode, const nf_real *theta, nf_real *state, nf_real *prep);
nf_status nfi_tree_end_step(const nf_object *o, const double *stats, size_t n, nf_real *state);
nf_status nfi_tree_init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta,
                        nf_real *state);
/* Makes *p, a pass over the initial batch for child i, whose numbers have just been initialised. The child is prepared
   here; prepared numbers and scratch are from `memory`. The context is the batch's, the mode is evaluation, and the
   noise has a step of its own. */
nf_status nfi_init_pass(const nf_object *o, size_t i, const nf_noise *noise, const nf_batch *batch, nf_real *theta,
                        nf_real *state, nf_arena *memory, nf_pass *p);
/* Moves the initial output of child i, a net, by shift [dim_out]; theta as in nf_init_child. */
nf_status nfi_shift_child(const nf_object *o, size_t i, const nf_real *shift, nf_real *theta);
/* Gives each tensor of theta its name, in the order of theta: "1.chain.0.planar.w". */
void nfi_tree_slices(const nf_object *o, nf_slice_fn *each, void *user);

#endif
