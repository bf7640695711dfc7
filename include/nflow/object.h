/**
 * @file object.h
 * What nets, flows, distributions and VAEs have in common, and the contract between them and the tiles they work on.
 *
 * An object is an immutable, reference-counted structure. It holds no numbers: it declares how many it needs, and every
 * call hands them over in an nf_pass. Objects form trees; the library walks a tree to lay out parameters, to prepare,
 * initialise, save and destroy, so that a layer says only what is its own.
 *
 * Layout: the numbers of an object are its own, then its first child's, then the second's, and so on.
 */
#ifndef NFLOW_OBJECT_H
#define NFLOW_OBJECT_H
#include <nflow/noise.h>
NF_BEGIN_DECLS

typedef struct nf_object nf_object; /**< a net, flow, distribution or VAE seen as a node of a tree */
typedef struct nf_arena nf_arena;   /**< chunked bump allocator; pointers stay valid as it grows */
typedef struct nf_writer nf_writer; /**< collects an object's description for a model file */
typedef struct nf_reader nf_reader; /**< offers it when the file is read back */

/** Which way a bijection is taken. */
typedef enum nf_direction {
    NF_FORWARD, /**< base to target: sampling, posterior transforms */
    NF_INVERSE  /**< target to base: scoring */
} nf_direction;

/** Whether a step is part of training (state may advance, dropout is on) or not. */
typedef enum nf_mode {
    NF_EVAL, /**< use: state stays, no dropout */
    NF_TRAIN /**< a step of training */
} nf_mode;

/** Properties of an object, ORed into nf_shape.flags. */
enum {
    NF_PER_SAMPLE = 1u, /**< kernels accept theta_stride = 1, so it can be amortised; demands n_prep == 0 */
    /**
     * Draws noise whenever it is applied or scored, in evaluation too: a log-det that is estimated, a score that
     * integrates over draws. Calls of the whole model then need an nf_noise. A tree with such a node has it too.
     */
    NF_STOCHASTIC = 2u,
    NF_IMPLICIT_FORWARD = 4u, /**< the library derives the VJP of forward from vjp and solve_jt of inverse */
    NF_IMPLICIT_INVERSE = 8u  /**< the library derives the VJP of inverse from vjp and solve_jt of forward */
};

/** What one object asks of its surroundings. For nf_*_new: its own needs, children excluded. */
typedef struct nf_shape {
    size_t dim_in;    /**< rows of x: of a flow, the base side; of a distribution, unused */
    size_t dim_out;   /**< rows of y: of a flow, the target side; of a distribution, its dimension */
    size_t n_ctx;     /**< rows of context read, 0 none */
    size_t n_params;  /**< trainable numbers (theta) */
    size_t n_state;   /**< buffers that training moves and optimizers do not (running statistics) */
    size_t n_prep;    /**< numbers derived once a step from theta and state; 0: kernels read theta */
    size_t n_saved;   /**< about how many reals a sample costs on the tape; guides the tile's width, may be 0 */
    uint32_t n_sites; /**< noise sites; a node has one of its own, so a total counts the nodes of the tree */
    unsigned flags;   /**< NF_PER_SAMPLE ... */
} nf_shape;

/**
 * One pass over one tile of samples. Every array is feature-major, [rows x ld]: row r of sample s stands at
 * [r * ld + s]. ld is a multiple of 16. Columns n..ld-1 are padding: inputs there repeat column n-1, cotangents are 0.
 * A kernel may compute them like any other column, and must leave its outputs' padding finite where column n-1 is.
 */
typedef struct nf_pass {
    size_t n;              /**< samples in the tile, >= 1 */
    size_t ld;             /**< row stride, a multiple of 16, >= n */
    const nf_real *theta;  /**< this object's parameters */
    const nf_real *state;  /**< this object's buffers */
    const nf_real *prep;   /**< this object's prepared numbers */
    size_t theta_stride;   /**< 0: theta[p] serves all samples; 1: theta[p * ld + s], amortised */
    const nf_real *ctx;    /**< [n_ctx x ld], NULL if n_ctx is 0 */
    nf_noise noise;        /**< names this object's noise on this tile */
    nf_mode mode;          /**< training or evaluation */
    nf_arena *tape;        /**< where to save what a VJP needs; NULL: no gradient will be asked */
    nf_arena *scratch;     /**< for temporaries: take nf_arena_mark() first and nf_arena_rewind() before returning */
    double *log_det_total; /**< [ld] or NULL: pushforwards add their flows' forward log-det here, for diagnostics */
    /**
     * [ld] or NULL. Given while sampling: the caller takes weighted samples, whose weighted means over all samples of a
     * step are unbiased; a distribution that stratifies (nf_mixture) adds the logs of its samples' weights here. NULL:
     * samples are plain draws.
     */
    double *log_weight;
    const nf_real *g_log_weight; /**< [ld] or NULL (zeros): in nf_dist_type.sample_vjp, the cotangent of log_weight */
    /**
     * [n] or NULL. For objectives: failed[s] = 1 says that sample s has no result and is to be left out of the step;
     * see nf_leave_out(). Layers leave it alone: where one cannot compute a sample (an iteration that does not
     * converge, an integration out of steps), it writes NaN to that sample's rows of y and to its log-det, and goes on
     * with the others.
     */
    unsigned char *failed;
} nf_pass;

/**
 * Where gradients go. Every field is accumulated into (+=); NULL: not wanted. Inside vector-Jacobian products `theta`
 * follows the pass's stride: [n_params], summed over samples, or [n_params x ld] when amortised.
 */
typedef struct nf_grad {
    nf_real *theta; /**< as above */
    nf_real *prep;  /**< [n_prep], summed over samples */
    nf_real *ctx;   /**< [n_ctx x ld], per sample */
    double *stats;  /**< [n_state], sums that nf_part.end_step turns into new state */
    bool fresh;     /**< the library's own: false in a new struct, and as it was in a copy */
} nf_grad;

/** Data that enters an object while it is initialised: one big tile, feature-major. */
typedef struct nf_batch {
    size_t n;               /**< samples */
    size_t ld;              /**< row stride */
    nf_direction direction; /**< the direction in which x enters, and in which the object is to be used */
    const nf_real *x;       /**< [rows of that side x ld]; NULL for a distribution that goes forward: it draws */
    const nf_real *ctx;     /**< [n_ctx x ld] or NULL */
} nf_batch;

/** Names one tensor of an object's parameters: first number, rank (<= 4) and extents. */
typedef void nf_slice_fn(void *user, const char *name, size_t offset, size_t rank, const size_t *extents);

/** Places that nf_part keeps free for later hooks. */
enum { NF_RESERVED_HOOKS = 8 };

/**
 * The hooks that every kind of object has. All but `name` may be NULL: nothing to do. `theta`, `state`, `prep` point to
 * the object's own numbers (children are walked by the library), save in `init`.
 *
 * How tables grow. Tables of types (nf_net_type, nf_flow_type, nf_dist_type, nf_objective_type, nf_optimizer_type)
 * begin with their own size, `abi`, and later versions append hooks to them. A table that is smaller than the
 * library's, since it was compiled for an earlier version, is accepted: the library works with a copy of it in which
 * the hooks that it lacks are NULL. A table that is larger than the library's, or too small for the hooks that the
 * first version required, is refused with NF_EARG (then `self` is released only if the table says how). An nf_part
 * stands inside a table and cannot grow: new hooks will take places of `reserved`.
 */
typedef struct nf_part {
    const char *name; /**< key in model files: short, lower case, unique among the types in use */
    /**
     * Once a step, outside tiles: prep from theta and state. In NF_TRAIN it may advance state. These two hooks read and
     * write the object's own numbers only: those of different objects run at the same time in different threads.
     */
    nf_status (*prepare)(const nf_object *o, nf_mode mode, const nf_real *theta, nf_real *state, nf_real *prep);
    /** Once a step: g_theta += (d prep / d theta)^T g_prep. g_prep may be overwritten: nothing reads it afterwards. */
    nf_status (*prepare_vjp)(const nf_object *o, const nf_real *theta, const nf_real *state, const nf_real *prep,
                             nf_real *g_prep, nf_real *g_theta);
    /** Once a step: new state from sums over the batch of n samples. */
    nf_status (*end_step)(const nf_object *o, const double *stats, size_t n, nf_real *state);
    /**
     * Initial theta and state. NULL: zeros for the object's own, then its children in turn. If given, it initialises
     * the whole subtree (`theta`, `state` begin with the object's own numbers): call nf_init_child() for each child.
     * `batch` may be NULL. theta and state arrive as zeros.
     */
    nf_status (*init)(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state);
    /**
     * The context at which the object starts well (see nf_start_context). ctx [n_ctx] arrives as zeros. NULL: each
     * child that reads as many rows of context as the object writes its own.
     */
    nf_status (*start_context)(const nf_object *o, const nf_noise *noise, nf_real *ctx);
    /** Writes what the constructor needs beyond children and shape, by nf_write_*: all that `rebuild` reads. */
    nf_status (*describe)(const nf_object *o, nf_writer *w);
    /** Names the tensors among the object's own parameters. NULL: one vector "theta". */
    void (*slices)(const nf_object *o, nf_slice_fn *each, void *user);
    /** Releases `self`, handed to nf_*_new. NULL: nothing to release. */
    void (*destroy)(void *self);
    /** Places for hooks of later versions; must be NULL, as zero-initialisation leaves them. */
    void (*reserved[NF_RESERVED_HOOKS])(void);
} nf_part;

/* ---- what kernels ask of the object they are called for ---- */

/** The pointer handed to nf_*_new, NULL if none. */
NF_API const void *nf_self(const nf_object *o);
/** The whole subtree's shape. Zeros if `o` is NULL. Valid as long as the object. */
NF_API const nf_shape *nf_object_shape(const nf_object *o);
/** The type's name; "" if `o` is NULL. */
NF_API const char *nf_object_name(const nf_object *o);
/** The number of children. */
NF_API size_t nf_n_children(const nf_object *o);
/** Child i, borrowed; NULL if there is none. */
NF_API const nf_object *nf_child(const nf_object *o, size_t i);
/** Child i's pass: the parent's with theta, state, prep and site moved to the child's. Context is the parent's. */
NF_API nf_pass nf_child_pass(const nf_object *o, size_t i, const nf_pass *p);
/** Child i's gradients: the parent's, moved likewise. `p` is the parent's pass. */
NF_API nf_grad nf_child_grad(const nf_object *o, size_t i, const nf_pass *p, const nf_grad *g);
/**
 * Marks samples of a tile as failed: p->failed[s] = 1 for every s < p->n with a value[s] that is not finite.
 * @return whether there is one. Then an objective's hook returns NF_OK before it adds anything to sums or gradients;
 * the library counts those samples, and calls the hook again without them: p->n is smaller, and p->noise.column says
 * which samples the columns are. Always false where the caller offers no p->failed.
 */
NF_API bool nf_leave_out(const nf_pass *p, const double *value);
/** Initialises child i inside an nf_part.init; theta and state are those handed to the parent's init. */
NF_API NF_CHECKED nf_status nf_init_child(const nf_object *o, size_t i, const nf_noise *noise, const nf_batch *batch,
                                          nf_real *theta, nf_real *state);
/**
 * The context at which an untrained object starts well: for a flow whose parameters are the context, that flow's own
 * initial parameters; zeros elsewhere. An encoder whose output biases start there, and whose last weights start small,
 * starts with a posterior that is nearly without a flow; planar layers, whose constraint divides by |w|^2, need it.
 * nf_vae_new's models do this by themselves. `noise` names the random part. ctx [n_ctx], written.
 */
NF_API NF_CHECKED nf_status nf_start_context(const nf_object *o, const nf_noise *noise, nf_real *ctx);
/** One more reference to the object; returns it. NULL stays NULL. */
NF_API nf_object *nf_object_ref(nf_object *o);
/** Gives back one reference; the last one destroys the object and gives back its children. NULL is allowed. */
NF_API void nf_object_free(nf_object *o);

/* ---- arenas ---- */

/** A place in an arena, to rewind to. */
typedef struct nf_mark {
    size_t chunk; /**< which chunk */
    size_t used;  /**< bytes taken in it */
} nf_mark;

/** `bytes` aligned to 64; NULL (with a message) when out of memory. Never freed singly. */
NF_API void *nf_arena_alloc(nf_arena *a, size_t bytes);
/** An array [rows x ld] of reals, not initialised; NULL when out of memory. */
static inline nf_real *nf_arena_reals(nf_arena *a, size_t rows, size_t ld)
{
    return (nf_real *)nf_arena_alloc(a, rows * ld * sizeof(nf_real));
}
/** The present end of the arena. */
NF_API nf_mark nf_arena_mark(const nf_arena *a);
/** Gives back everything taken since `m`; the memory is kept for later use. */
NF_API void nf_arena_rewind(nf_arena *a, nf_mark m);

/* ---- descriptions: the JSON text that model files hold and nf_describe() gives ----

   The description of an object is a JSON object with these members:

       kind       "net", "flow", "dist" or "vae"
       type       the type's name
       dim_in     rows of x, as in nf_shape
       dim_out    rows of y
       n_ctx      rows of context
       fields     an object: what the type's `describe` hook has written
       children   an array of descriptions

   The library always writes all of them. In a description that is written by hand `kind` and `type` are needed, and a
   net's two dimensions; the rest may be left out: no fields, no children, no context, and dimensions that follow from
   the children or the fields. Where a flow's or a distribution's type needs one of dim_in and dim_out and it is left
   out, it is taken to be the other. A field that stands for an option with a default (a member of an options struct,
   "box" of a spline say) may be left out and means its default. Members and fields that nobody asks for are refused, so
   that a misspelt one is found. */

/** Writes fields of the object being described. A name may be used once an object. */
NF_API NF_CHECKED nf_status nf_write_integer(nf_writer *w, const char *name, uint64_t value);
/** Writes true or false. */
NF_API NF_CHECKED nf_status nf_write_bool(nf_writer *w, const char *name, bool value);
/**
 * Writes one of several choices, an enumeration's value, by its name.
 * @param n, names [n] the names, names[k] that of value k
 * @return NF_EARG also if value is n or more.
 */
NF_API NF_CHECKED nf_status nf_write_choice(nf_writer *w, const char *name, size_t n, const char *const *names,
                                            size_t value);
/** Writes an array of n_values choices, each of the n names. */
NF_API NF_CHECKED nf_status nf_write_choices(nf_writer *w, const char *name, size_t n, const char *const *names,
                                             size_t n_values, const size_t *values);
/** Writes a real number (17 digits). */
NF_API NF_CHECKED nf_status nf_write_number(nf_writer *w, const char *name, double value);
/** Writes an array of n non-negative integers. */
NF_API NF_CHECKED nf_status nf_write_integers(nf_writer *w, const char *name, size_t n, const size_t *values);
/** Writes an array of n real numbers (17 digits). */
NF_API NF_CHECKED nf_status nf_write_numbers(nf_writer *w, const char *name, size_t n, const double *values);

/**
 * Whether there is such a field. A `rebuild` hook asks this of a field that may be left out; it must ask for, or read,
 * every field there is, since fields left over are refused.
 */
NF_API bool nf_read_has(nf_reader *r, const char *name);
/** Reads a field back; NF_EFORMAT if it is missing or of another kind. */
NF_API NF_CHECKED nf_status nf_read_integer(nf_reader *r, const char *name, uint64_t *value);
/** Reads true or false back. */
NF_API NF_CHECKED nf_status nf_read_bool(nf_reader *r, const char *name, bool *value);
/**
 * Reads a choice back: *value is the number of its name among names [n].
 * @return NF_EFORMAT if it is missing or none of the names; the message says what was found and what is known. A number
 * in place of the name is of a version before names, and the message says so.
 */
NF_API NF_CHECKED nf_status nf_read_choice(nf_reader *r, const char *name, size_t n, const char *const *names,
                                           size_t *value);
/** Reads exactly n_values choices back, each of the n names; NF_EFORMAT likewise. */
NF_API NF_CHECKED nf_status nf_read_choices(nf_reader *r, const char *name, size_t n, const char *const *names,
                                            size_t n_values, size_t *values);
/** Reads a real number back. */
NF_API NF_CHECKED nf_status nf_read_number(nf_reader *r, const char *name, double *value);
/** The length of an array, 0 if it is missing. */
NF_API size_t nf_read_length(nf_reader *r, const char *name);
/** Reads exactly n integers back; NF_EFORMAT if there are not n. */
NF_API NF_CHECKED nf_status nf_read_integers(nf_reader *r, const char *name, size_t n, size_t *values);
/** Reads exactly n real numbers back; NF_EFORMAT if there are not n. */
NF_API NF_CHECKED nf_status nf_read_numbers(nf_reader *r, const char *name, size_t n, double *values);
/**
 * The base-side (dim_in) and target-side (dim_out) dimensions and context rows that were saved; the file's word. 0 if
 * they are left out; of a flow or a distribution, dim_in and dim_out then stand for each other.
 */
NF_API size_t nf_read_dim_in(nf_reader *r);
/** See nf_read_dim_in(). */
NF_API size_t nf_read_dim_out(nf_reader *r);
/** See nf_read_dim_in(). */
NF_API size_t nf_read_n_ctx(nf_reader *r);
/**
 * How many parameters the file holds: what an object cannot exceed, before memory is taken for its structure. In
 * nf_rebuild(), where there is no file, it is 2^22, for structures that grow with something other than the description.
 */
NF_API size_t nf_read_n_numbers(nf_reader *r);
/** The number of children in the file. */
NF_API size_t nf_read_n_children(nf_reader *r);
/** Child i, already rebuilt; a new reference, NULL if there is none. */
NF_API nf_object *nf_read_child(nf_reader *r, size_t i);

NF_END_DECLS
#endif
