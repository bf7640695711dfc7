/**
 * @file object.h
 * What nets, flows, distributions and VAEs have in common, and the contract between them and the tiles they work on.
 *
 * An object is an immutable, reference-counted structure. It holds no numbers. It declares how many numbers it needs,
 * and every call passes them in an nf_pass. Objects form trees. The library walks a tree to lay out parameters, to
 * prepare, initialise, save and destroy. A layer therefore has code only for its own mathematics.
 *
 * Layout: an array of numbers begins with the object's own, then come its first child's, then the second child's, and
 * so on.
 */
#ifndef NFLOW_OBJECT_H
#define NFLOW_OBJECT_H
#include <nflow/noise.h>
NF_BEGIN_DECLS

typedef struct nf_object nf_object; /**< a net, flow, distribution or VAE seen as a node of a tree */
typedef struct nf_arena nf_arena;   /**< chunked bump allocator; pointers stay valid as it grows */
typedef struct nf_writer nf_writer; /**< collects an object's description for a model file */
typedef struct nf_reader nf_reader; /**< gives the description back when the file is read */

/** Which way a bijection is taken. */
typedef enum nf_direction {
    NF_FORWARD, /**< base to target: sampling, posterior transforms */
    NF_INVERSE  /**< target to base: scoring */
} nf_direction;

/** Whether a pass belongs to training (state may advance, dropout is on) or not. */
typedef enum nf_mode {
    NF_EVAL, /**< outside training: state does not change, no dropout */
    NF_TRAIN /**< a step of training */
} nf_mode;

/** Properties of an object, ORed into nf_shape.flags. */
enum {
    NF_PER_SAMPLE = 1u, /**< kernels accept theta_stride = 1, so the object can be amortised; requires n_prep == 0 */
    /**
     * The object draws noise whenever it is applied or scored, also in evaluation: its log-det is an estimate, say, or
     * its score integrates over draws. Calls of the whole model then need an nf_noise. A tree that contains such a node
     * has this flag too.
     */
    NF_STOCHASTIC = 2u,
    NF_IMPLICIT_FORWARD = 4u, /**< the library computes the VJP of forward from `vjp` and `solve_jt` of inverse */
    NF_IMPLICIT_INVERSE = 8u  /**< the library computes the VJP of inverse from `vjp` and `solve_jt` of forward */
};

/**
 * The sizes that an object needs. The shape that is passed to nf_*_new has the object's own needs, without its
 * children.
 */
typedef struct nf_shape {
    size_t dim_in;    /**< features of x. Of a flow: its base side. A distribution does not use it */
    size_t dim_out;   /**< features of y. Of a flow: its target side. Of a distribution: its dimension */
    size_t n_ctx;     /**< features of context that are read; 0: none */
    size_t n_params;  /**< trainable numbers (theta) */
    size_t n_state;   /**< buffers that training changes and optimizers do not (running statistics) */
    size_t n_prep;    /**< numbers computed from theta and state once a step; 0: kernels read theta */
    size_t n_saved;   /**< about how many reals a sample takes on the tape, for choosing the tile's width; may be 0 */
    uint32_t n_sites; /**< noise sites of its own; 0 counts as 1, since each node has at least one */
    unsigned flags;   /**< NF_PER_SAMPLE ... */
} nf_shape;

/**
 * One pass over one tile of samples. Every array is feature-major, [features x ld]: feature r of sample s is at
 * [r * ld + s]. ld is a multiple of 16. Columns n..ld-1 are padding: inputs repeat column n-1 there, and cotangents are
 * 0 there. A kernel may compute the padding like any other column. Where column n-1 of an output is finite, the
 * output's padding must be finite too.
 */
typedef struct nf_pass {
    size_t n;              /**< samples in the tile, >= 1 */
    size_t ld;             /**< numbers from one feature to the next, a multiple of 16, >= n */
    const nf_real *theta;  /**< this object's parameters */
    const nf_real *state;  /**< this object's buffers */
    const nf_real *prep;   /**< this object's prepared numbers */
    size_t theta_stride;   /**< 0: theta[p] serves all samples; 1: theta[p * ld + s], amortised */
    const nf_real *ctx;    /**< [n_ctx x ld], NULL if n_ctx is 0 */
    nf_noise noise;        /**< the name of this object's noise on this tile */
    nf_mode mode;          /**< training or evaluation */
    nf_arena *tape;        /**< where to save what a VJP needs; NULL: no gradient will be computed */
    nf_arena *scratch;     /**< for temporaries: call nf_arena_mark() first and nf_arena_rewind() before returning */
    double *log_det_total; /**< [ld] or NULL: pushforwards add their flows' forward log-det here, for diagnostics */
    /**
     * [ld] or NULL; used while sampling. If it is given, the caller accepts weighted samples: their weighted means over
     * all samples of a step are unbiased. A distribution that stratifies (nf_mixture) then adds the logarithms of its
     * samples' weights here. NULL: samples are plain draws.
     */
    double *log_weight;
    const nf_real *g_log_weight; /**< [ld] or NULL (zeros): in nf_dist_type.sample_vjp, the cotangent of log_weight */
    /**
     * [n] or NULL. For objectives: failed[s] = 1 means that sample s has no result and is to be left out of the step;
     * see nf_leave_out(). Layers do not touch this array. A layer that cannot compute a sample (an iteration does not
     * converge, or an integration runs out of steps) writes NaN to that sample's features of y and to its log-det, and
     * continues with the other samples.
     */
    unsigned char *failed;
    /**
     * [ld] or NULL, if nobody wants it. A flow or a distribution that has a penalty, a number that training is to keep
     * small beside the loss (the work of a continuous flow, say), adds that of each sample here when it is applied,
     * sampled or scored. The number has the layer's own weight already. The library's objectives ask for penalties in
     * NF_TRAIN alone, and add them to the loss: what is computed outside training never has any. With
     * NF_IMPLICIT_INVERSE the penalty of the inverse is that of forward at the solution, and the library asks for it
     * there (NF_IMPLICIT_FORWARD likewise). Nets get NULL, since their tiles may be wider than ld. The hooks of an
     * nf_formula, which run many times, must leave the array alone.
     */
    double *penalty;
    /**
     * [ld] or NULL (zeros): in vector-Jacobian products, the cotangent of each sample's penalty. A layer with a penalty
     * then adds g_penalty d(penalty) to each gradient that it gives. What it reads for that is saved whether `penalty`
     * was given or not. NULL in nf_flow_type.solve_jt.
     */
    const nf_real *g_penalty;
} nf_pass;

/**
 * Where gradients go. Gradients are added (+=) to every field. A field that is NULL is not wanted. Inside
 * vector-Jacobian products `theta` has the stride of the pass: it is [n_params], summed over samples, or
 * [n_params x ld] when amortised.
 */
typedef struct nf_grad {
    nf_real *theta;    /**< as above */
    nf_real *prep;     /**< [n_prep], summed over samples */
    nf_real *ctx;      /**< [n_ctx x ld], per sample */
    double *stats;     /**< [n_state], sums that nf_part.end_step turns into new state */
    unsigned internal; /**< the library's own: 0 in a new struct, unchanged in a copy */
} nf_grad;

/** Data with which an object is initialised: one big tile, feature-major. */
typedef struct nf_batch {
    size_t n;               /**< samples */
    size_t ld;              /**< numbers from one feature to the next */
    nf_direction direction; /**< the direction in which x goes through, and in which the object will be used */
    const nf_real *x;       /**< [features where x enters x ld]; NULL: a distribution going forward, which draws */
    const nf_real *ctx;     /**< [n_ctx x ld] or NULL */
} nf_batch;

/**
 * Receives the name of one tensor of an object's parameters, the index of its first number, its rank (<= 4) and
 * extents.
 */
typedef void nf_slice_fn(void *user, const char *name, size_t offset, size_t rank, const size_t *extents);

/** The number of places that nf_part keeps free for hooks of later versions. */
enum { NF_RESERVED_HOOKS = 8 };

/**
 * The hooks that every kind of object has. All but `name` may be NULL, which means that there is nothing to do.
 * `theta`, `state` and `prep` point to the object's own numbers, since the library walks over the children. Only in
 * `init` they point to the numbers of the whole subtree.
 *
 * How tables grow. Tables of types (nf_net_type, nf_flow_type, nf_dist_type, nf_objective_type, nf_optimizer_type)
 * begin with their own size, `abi`. Later versions of the library append hooks to them. A table that is smaller than
 * the library's was compiled for an earlier version and is accepted: the library works with a copy of it in which the
 * missing hooks are NULL. A table that is larger than the library's, or too small for the hooks that the first version
 * required, is refused with NF_EARG. (`self` is then released only if the table says how.) An nf_part is embedded in a
 * table and cannot grow: new hooks will take places of `reserved`.
 */
typedef struct nf_part {
    const char *name; /**< key in model files: short, in lower case, unique among the types in use */
    /**
     * Called once a step, outside tiles: computes prep from theta and state. In NF_TRAIN it may advance state.
     * `prepare` and `prepare_vjp` read and write the object's own numbers only, because these hooks of different
     * objects run at the same time in different threads.
     */
    nf_status (*prepare)(const nf_object *o, nf_mode mode, const nf_real *theta, nf_real *state, nf_real *prep);
    /**
     * Called once a step: g_theta += (d prep / d theta)^T g_prep. It may overwrite g_prep, which nothing reads
     * afterwards.
     */
    nf_status (*prepare_vjp)(const nf_object *o, const nf_real *theta, const nf_real *state, const nf_real *prep,
                             nf_real *g_prep, nf_real *g_theta);
    /** Called once a step: computes the new state from sums over the batch of n samples. */
    nf_status (*end_step)(const nf_object *o, const double *stats, size_t n, nf_real *state);
    /**
     * Writes initial theta and state. NULL: the object's own numbers become 0, then its children are initialised in
     * turn. If the hook is given, it initialises the whole subtree, and must call nf_init_child() for each child;
     * `theta` and `state` begin with the object's own numbers. `batch` may be NULL. theta and state are zeros when the
     * hook is called.
     */
    nf_status (*init)(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state);
    /**
     * Writes the context at which the object starts well (see nf_start_context). ctx [n_ctx] is all zeros when the hook
     * is called. NULL: each child that reads as many features of context as the object writes its own.
     */
    nf_status (*start_context)(const nf_object *o, const nf_noise *noise, nf_real *ctx);
    /**
     * Writes, by nf_write_*, what the constructor needs beside children and shape. `rebuild` reads exactly this. NULL:
     * the library writes the type's options (nf_flow_type.options), if there are any.
     */
    nf_status (*describe)(const nf_object *o, nf_writer *w);
    /** Names the tensors among the object's own parameters. NULL: one vector "theta". */
    void (*slices)(const nf_object *o, nf_slice_fn *each, void *user);
    /** Releases the `self` that was passed to nf_*_new. NULL: there is nothing to release. */
    void (*destroy)(void *self);
    /** Places for hooks of later versions. They must be NULL, as zero-initialisation makes them. */
    void (*reserved[NF_RESERVED_HOOKS])(void);
} nf_part;

/* ---- for hooks: what an object is made of ---- */

/** The pointer `self` that was passed to nf_*_new; NULL if there is none. */
NF_API const void *nf_self(const nf_object *o);
/** The shape of the whole subtree. All zeros if `o` is NULL. Valid as long as the object lives. */
NF_API const nf_shape *nf_object_shape(const nf_object *o);
/** "net", "flow", "dist" or "vae"; "" if `o` is NULL. */
NF_API const char *nf_object_kind(const nf_object *o);
/** The type's name; "" if `o` is NULL. */
NF_API const char *nf_object_name(const nf_object *o);
/** The number of children. */
NF_API size_t nf_n_children(const nf_object *o);
/** Child i, borrowed; NULL if there is none. */
NF_API const nf_object *nf_child(const nf_object *o, size_t i);
/**
 * The pass of child i: the parent's, in which theta, state, prep and the noise's site are replaced by the child's. The
 * context is the parent's.
 */
NF_API nf_pass nf_child_pass(const nf_object *o, size_t i, const nf_pass *p);
/** The gradients of child i: the parent's, with pointers moved in the same way. `p` is the parent's pass. */
NF_API nf_grad nf_child_grad(const nf_object *o, size_t i, const nf_pass *p, const nf_grad *g);
/**
 * Marks samples of a tile as failed: p->failed[s] = 1 for every s < p->n whose value[s] is not finite.
 * @return true if at least one sample was marked. The hook of the objective must then return NF_OK before it adds
 * anything to sums or gradients. The library counts the marked samples and calls the hook again without them: p->n is
 * then smaller, and p->noise.column says which samples the columns are. If the caller provides no p->failed, nothing is
 * marked and the result is false.
 */
NF_API bool nf_leave_out(const nf_pass *p, const double *value);
/**
 * Initialises child i inside an nf_part.init. `theta` and `state` are the pointers that the parent's init was called
 * with.
 */
NF_API NF_CHECKED nf_status nf_init_child(const nf_object *o, size_t i, const nf_noise *noise, const nf_batch *batch,
                                          nf_real *theta, nf_real *state);
/**
 * The context at which an untrained object starts well. For a flow whose parameters are the context, these are the
 * flow's own initial parameters; elsewhere zeros. If an encoder's output biases start at this context, and its last
 * weights start small, the posterior starts nearly without a flow. Planar layers, whose constraint divides by |w|^2,
 * need this. Models of nf_vae_new do this by themselves. `noise` names the random part. ctx [n_ctx] is written.
 */
NF_API NF_CHECKED nf_status nf_start_context(const nf_object *o, const nf_noise *noise, nf_real *ctx);
/**
 * One more reference to the object; returns it. NULL stays NULL.
 *
 * A constructor consumes one reference for each part that it is given, also if it fails: the reference is then no
 * longer the caller's. Who wants to use an object twice, in one constructor or in two, takes a reference for each
 * further use: nf_chain((nf_flow *[]){f, nf_flow_ref(f)}, 2). (Objects hold no numbers: both uses have parameters of
 * their own.) The library counts references of callers apart from those that have been consumed, and a constructor that
 * is given a part without a reference returns NULL with NF_EARG. It cannot notice an object that does not exist any
 * more.
 */
NF_API nf_object *nf_object_ref(nf_object *o);
/**
 * Gives back one reference. The last one destroys the object and gives back the references to its children. NULL is
 * allowed. If no caller has a reference, because the only one was consumed, nothing happens but a message
 * (nf_error_message(), NF_EARG).
 */
NF_API void nf_object_free(nf_object *o);

/* ---- arenas ---- */

/** A position in an arena, to which nf_arena_rewind() returns. */
typedef struct nf_mark {
    size_t chunk; /**< which chunk */
    size_t used;  /**< bytes taken in it */
} nf_mark;

/** Takes `bytes` bytes, aligned to 64. NULL (with a message) when out of memory. They cannot be freed one by one. */
NF_API void *nf_arena_alloc(nf_arena *a, size_t bytes);
/** An array [features x ld] of reals, not initialised; NULL when out of memory. */
static inline nf_real *nf_arena_reals(nf_arena *a, size_t features, size_t ld)
{
    return (nf_real *)nf_arena_alloc(a, features * ld * sizeof(nf_real));
}
/** The present end of the arena. */
NF_API nf_mark nf_arena_mark(const nf_arena *a);
/** Gives back everything that was taken since `m`. The arena keeps the memory for later use. */
NF_API void nf_arena_rewind(nf_arena *a, nf_mark m);

NF_END_DECLS
#endif
