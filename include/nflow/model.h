/**
 * @file model.h
 * Models: an object bound to its numbers; workspaces; and sampling, scoring, transforming, saving and loading whole
 * batches.
 *
 * Batches are row-major, [n x dim], as in GSL and numpy. Between calls of nf_model_update() a model is only read. Any
 * number of threads may therefore use it at once, each with a workspace of its own. A call that finds the model's
 * parameters changed since the last nf_model_update() returns NF_ESTALE.
 */
#ifndef NFLOW_MODEL_H
#define NFLOW_MODEL_H
#include <nflow/dist.h>
NF_BEGIN_DECLS

typedef struct nf_model nf_model;         /**< an object and its numbers */
typedef struct nf_workspace nf_workspace; /**< the memory of a team of threads: tapes, scratch, gradient shards */
typedef struct nf_vae nf_vae;             /**< see vae.h */

/** Options of nf_model_of_dist and of the other functions that bind; NULL or zeros mean the defaults. */
typedef struct nf_model_options {
    uint64_t seed;         /**< of the initial parameters */
    nf_real *theta;        /**< the caller's parameters [n_params], borrowed, not initialised; NULL: own, initialised */
    nf_real *state;        /**< the caller's buffers [n_state], likewise; give both, or theta alone if n_state is 0 */
    size_t n_init;         /**< rows of init_x, 0 for none; these three are arguments of nf_model_init() */
    const nf_real *init_x; /**< [n_init x dim], for data-dependent initialisation; NULL: the model's draws */
    const nf_real *init_ctx; /**< [n_init x n_ctx]; NULL if n_ctx is 0 */
} nf_model_options;

/**
 * Binds a distribution to numbers. Consumes the reference to the distribution, also on failure. If `options` gives no
 * theta, the numbers are the model's own and are initialised from the seed. Arrays of the caller are used with the
 * values that they have.
 * @return NULL on NF_EARG, NF_ENOMEM or the failure of an initialisation or preparation.
 */
NF_API nf_model *nf_model_of_dist(nf_dist *dist, const nf_model_options *options);
/** Binds a flow, likewise. */
NF_API nf_model *nf_model_of_flow(nf_flow *flow, const nf_model_options *options);
/** Binds a net, likewise. */
NF_API nf_model *nf_model_of_net(nf_net *net, const nf_model_options *options);
/** Binds a VAE, likewise. */
NF_API nf_model *nf_model_of_vae(nf_vae *vae, const nf_model_options *options);
/** Binds an object of any kind, likewise: the result of nf_rebuild(), say. */
NF_API nf_model *nf_model_of_object(nf_object *o, const nf_model_options *options);
/**
 * A second model with the same numbers. The object is shared, by one more reference: it is immutable. Theta, state,
 * what is prepared from them, and the notes are copied to memory of the copy's own, also where those of `m` are in
 * arrays of the caller. So the copy computes what `m` computes, bit for bit, and later changes of one do not change the
 * other. Where `m` waits for an nf_model_update(), the copy waits for one of its own. A callback of a fit may copy the
 * model that is trained, to keep what it is at that step.
 *
 * Not copied is what others have of `m`: objectives, fitters and tapes go on with `m`. `m` is only read, so other
 * threads may use it at the same time.
 * @return a model to be released by nf_model_free(). NULL on NF_ENOMEM, or if `m` is NULL: the message then says so,
 * and its status is that of the thread's last error, or NF_EARG.
 */
NF_API nf_model *nf_model_copy(const nf_model *m);
/** Releases the model, but not the caller's arrays. NULL is allowed. */
NF_API void nf_model_free(nf_model *m);

/**
 * Binds a model to parameters that are elsewhere now: a program that keeps all its weights in one array, and has moved
 * it by realloc(), calls this with the new address of the model's part. A model that was made with parameters of its
 * own, initialised, gets a place in such an array likewise: copy nf_model_theta() there first. From then on the array
 * is borrowed, as nf_model_options.theta is; parameters of the model's own are released, so pointers that
 * nf_model_theta() has returned are no longer valid.
 *
 * Nothing is prepared. If theta has the numbers that the model was prepared for, it remains prepared, and a tape
 * between nf_posterior_forward() and nf_posterior_backward() remains valid. If it has others, the next call returns
 * NF_ESTALE until nf_model_update(). The old array is not read and may already be released. No other thread may use the
 * model at the same time.
 * @param theta [n_params], borrowed; NULL is allowed only if n_params is 0
 * @param state [n_state], borrowed, likewise; NULL: the buffers stay where they are
 * @return NF_EARG (`m` or `theta` NULL; a callback of a fit that trains the model). The model is then as before.
 */
NF_API NF_CHECKED nf_status nf_model_rebind(nf_model *m, nf_real *theta, nf_real *state);
/** The object that is bound, borrowed. */
NF_API nf_object *nf_model_object(const nf_model *m);
/** The object's shape. */
NF_API const nf_shape *nf_model_shape(const nf_model *m);
/** The parameters [n_params]; after writing to them call nf_model_update(), without which calls return NF_ESTALE. */
NF_API nf_real *nf_model_theta(nf_model *m);
/** The buffers [n_state], likewise. */
NF_API nf_real *nf_model_state(nf_model *m);
/**
 * Initialises theta and state again. With n > 0, layers that begin from data (nf_actnorm, nf_batch_norm) get a batch.
 * Each layer sees what the layers before it make of the batch, in the direction in which the model is to be used:
 * - A model of a flow or distribution, x given: x is a batch of data [n x dim_out] on its way to the base, as in
 *   nf_log_prob.
 * - A model of a distribution, x NULL: the batch consists of n draws of the model, named by `seed`, on their way from
 *   the base. This is for a posterior.
 * - A VAE: x is a batch of data [n x dim_in], which enters the encoder. The posterior draws, given what the encoder
 *   makes of the data.
 * - A net: x is the net's input [n x dim_in].
 *
 * Some hundreds of rows are enough. With n = 0 such layers begin as the identity. nf_load() never initialises.
 * @param ctx [n x n_ctx]; NULL if n or n_ctx is 0
 * @return NF_EARG (n > 0 without x or ctx where it is needed), NF_ENOTFINITE (a batch that is not finite), NF_ENOMEM.
 */
NF_API NF_CHECKED nf_status nf_model_init(nf_model *m, uint64_t seed, size_t n, const nf_real *x, const nf_real *ctx);
/**
 * Prepares the numbers that are derived from theta and state: the inverse of a matrix, say. Call this whenever theta or
 * state has changed, be they the model's own arrays or the caller's.
 *
 * Every function that uses prepared numbers compares theta and state with what they were here, and returns NF_ESTALE if
 * they have changed, or if this function has failed. The message names that function. It does not prepare them itself,
 * since other threads may read the model at the same time. Compared are fingerprints of the bits, and only of those
 * numbers of which a layer has prepared others (nf_part.prepare): for an nf_lu_linear of 784 features it adds a quarter
 * to the time of scoring one row, whatever the number of rows in the call; for models that prepare nothing it takes no
 * time, and they need no nf_model_update(). While a fit runs, it prepares the model after each step, and nothing is
 * compared: its callback may use the model, but should not change it.
 * @param mode NF_TRAIN if a step of training will use them, NF_EVAL otherwise
 * @return NF_EARG, NF_ENOMEM; what users' own hooks return.
 */
NF_API NF_CHECKED nf_status nf_model_update(nf_model *m, nf_mode mode);
/** The length of a gradient that has not been pulled back through the preparation: n_params + n_prep. */
NF_API size_t nf_model_gradient_size(const nf_model *m);
/**
 * Pulls a gradient [n_params + n_prep] back to the parameters: g_theta[p] += g[p] + (d prep/d theta)^T g[n_params...].
 * The part of g for prep is overwritten. g_theta may be g itself: then only (d prep/d theta)^T g[n_params...] is added
 * to the first n_params numbers.
 * @return NF_EARG, NF_ESTALE, NF_ENOMEM; what users' own hooks return.
 */
NF_API NF_CHECKED nf_status nf_model_pull_gradient(const nf_model *m, nf_real *g, nf_real *g_theta);
/**
 * Ends a step of training that the caller makes without nf_fit(): the layers' moving statistics become new state, as at
 * the end of each step of a fit. Afterwards call nf_model_update(), since the state has changed. If n_state is 0, this
 * does nothing.
 * @param stats [n_state], what all nf_posterior_backward() calls of the step have added up, from zeros
 * @param n     samples of the step that had a result
 * @return NF_EARG (`m` or `stats` NULL, n 0); what users' own hooks return.
 */
NF_API NF_CHECKED nf_status nf_model_end_step(nf_model *m, const double *stats, size_t n);

/**
 * Memory for `threads` threads, and these threads; 0: as many as OpenMP would use.
 *
 * The threads are started when a call first has work for them, sleep between calls, and end with the workspace. Where
 * the system refuses to start them (a limit on processes, too little memory), fewer do the work, if need be the calling
 * thread alone; the results are the same, and no error is reported. A child of fork() may use a workspace that was not
 * in use at the time of the fork: its first call starts threads of its own. Inside a callback of the library, and in a
 * parallel region of OpenMP that allows no nested ones, a call has the calling thread alone.
 * @return NULL on NF_ENOMEM.
 */
NF_API nf_workspace *nf_workspace_new(size_t threads);
/** Releases it. NULL is allowed. */
NF_API void nf_workspace_free(nf_workspace *ws);
/** The number of threads that it has, with the calling one; before the first call that needs them, how many it will ask
 * for. */
NF_API size_t nf_workspace_threads(const nf_workspace *ws);
/** Bytes that it holds now. It keeps its memory, so this is also the most that it has held. */
NF_API size_t nf_workspace_bytes(const nf_workspace *ws);
/**
 * How many rows of the last batch call with this workspace have no result: a layer could not compute them (an
 * iteration did not converge, say), or a NaN came in. Such a row is NaN in all its numbers, also in its log-density or
 * log-det. The call returns NF_OK nevertheless, and the other rows are what they would be without the failed one. Batch
 * calls are those below, nf_vae_encode(), nf_vae_decode() and nf_posterior_forward().
 */
NF_API size_t nf_workspace_failed(const nf_workspace *ws);

/**
 * Draws from a model of a distribution. `ws` NULL: a temporary workspace, whose threads start and end with the call. A
 * workspace serves one call at a time.
 * @param noise names the draws; row i is sample noise->first_sample + i, whatever n and the number of threads
 * @param ctx   [n x n_ctx], NULL if n_ctx is 0
 * @param x     [n x dim], written
 * @param log_q [n], log q(x), written; NULL: not wanted
 * @return NF_EARG (a model of no distribution, n 0, `ctx` NULL where it is needed), NF_ESTALE (see nf_model_update()),
 * NF_EUNSUPPORTED (the distribution cannot be sampled), NF_ENOMEM; what users' own hooks return.
 */
NF_API NF_CHECKED nf_status nf_sample(const nf_model *m, nf_workspace *ws, const nf_noise *noise, size_t n,
                                      const nf_real *ctx, nf_real *x, double *log_q);
/**
 * Scores a batch: log_p[i] = log q(x_i), [n]; x [n x dim]; ctx [n x n_ctx] or NULL.
 * @param noise for models that draw when they score (NF_STOCHASTIC among the flags of nf_model_shape()); may be NULL
 * for all others. Row i is sample noise->first_sample + i, whatever n and the number of threads.
 * @return as nf_sample(); also NF_EARG if noise is needed and NULL; NF_EUNSUPPORTED if the distribution cannot be
 * scored.
 */
NF_API NF_CHECKED nf_status nf_log_prob(const nf_model *m, nf_workspace *ws, const nf_noise *noise, size_t n,
                                        const nf_real *x, const nf_real *ctx, double *log_p);
/**
 * Scores a batch as nf_log_prob() does, and gives the gradients of each row's log-density: gx[i] = d log q(x_i) / dx_i
 * and g_ctx[i] = d log q(x_i) / d ctx_i. With it a fitted density can be a prior, or can be sampled by Hamiltonian
 * Monte Carlo; nf_target_of_model() makes an nf_target of it. A row without a result is NaN in all three arrays and is
 * counted (nf_workspace_failed()). Where the density is 0, log_p is -infinity and the gradients are zeros.
 * @param noise as in nf_log_prob(); if the score is drawn, the gradient is that of the score with this noise
 * @param x     [n x dim].  @param ctx [n x n_ctx], NULL if n_ctx is 0
 * @param log_p [n], written; NULL: not wanted
 * @param gx    [n x dim], written; NULL: not wanted
 * @param g_ctx [n x n_ctx], written; NULL: not wanted. Not touched if n_ctx is 0
 * @return as nf_log_prob(); NF_EARG also if `gx` and `g_ctx` are both NULL; NF_EUNSUPPORTED also if the distribution
 * gives no gradients of scores, or a type in it leaves this direction's gradient to the library but has no solve_jt.
 */
NF_API NF_CHECKED nf_status nf_log_prob_gradient(const nf_model *m, nf_workspace *ws, const nf_noise *noise, size_t n,
                                                 const nf_real *x, const nf_real *ctx, double *log_p, nf_real *gx,
                                                 nf_real *g_ctx);
/**
 * Pushes a batch through a model of a flow (or through the flow of a model of a pushforward).
 * @param noise as in nf_log_prob(); with the same noise both directions are each other's inverse
 * @param x [n x dim_in] for NF_FORWARD, [n x dim_out] for NF_INVERSE
 * @param y written: [n x dim_out] for NF_FORWARD, [n x dim_in] for NF_INVERSE
 * @param log_det [n], of the direction taken, written; NULL: not wanted
 * @return NF_EARG (a model without a flow, no such direction, n 0, `ctx` NULL where it is needed), NF_ESTALE (see
 * nf_model_update()), NF_ENOMEM; what users' own hooks return.
 */
NF_API NF_CHECKED nf_status nf_transform(const nf_model *m, nf_workspace *ws, const nf_noise *noise, nf_direction d,
                                         size_t n, const nf_real *x, const nf_real *ctx, nf_real *y, double *log_det);
/**
 * Gradients of <gy, y> + <g_log_det, log_det> of nf_transform() at x. The function runs the transform again, with the
 * same noise. A row that has no result adds nothing to g_theta; its gx and g_ctx are NaN.
 * @param gy  like y; NULL: zeros.  @param g_log_det [n]; NULL: zeros
 * @param gx  like x, written; NULL: not wanted.  @param g_ctx [n x n_ctx], written; NULL: not wanted
 * @param g_theta [n_params], +=; NULL: not wanted
 * @return as nf_transform(); NF_EUNSUPPORTED if a type leaves this direction's gradient to the library but has no
 * solve_jt.
 */
NF_API NF_CHECKED nf_status nf_transform_vjp(const nf_model *m, nf_workspace *ws, const nf_noise *noise, nf_direction d,
                                             size_t n, const nf_real *x, const nf_real *ctx, const nf_real *gy,
                                             const nf_real *g_log_det, nf_real *gx, nf_real *g_ctx, nf_real *g_theta);
/**
 * Runs a model of a net on a batch: x [n x dim_in], ctx [n x n_ctx] or NULL, y [n x dim_out], noise as in
 * nf_log_prob().
 * @return NF_EARG (a model of no net, n 0, `ctx` NULL where it is needed), NF_ESTALE (see nf_model_update()),
 * NF_ENOMEM; what users' own hooks return.
 */
NF_API NF_CHECKED nf_status nf_evaluate(const nf_model *m, nf_workspace *ws, const nf_noise *noise, size_t n,
                                        const nf_real *x, const nf_real *ctx, nf_real *y);

/** Users' own types that a model file may name. An array may be NULL if its length is 0. */
typedef struct nf_types {
    const nf_flow_type *const *flows; /**< [n_flows] */
    size_t n_flows;                   /**< length */
    const nf_net_type *const *nets;   /**< [n_nets] */
    size_t n_nets;                    /**< length */
    const nf_dist_type *const *dists; /**< [n_dists] */
    size_t n_dists;                   /**< length */
} nf_types;

/**
 * The structure of an object, without its numbers, as indented JSON text. nflow/description.h says what the text
 * contains. nf_save() writes the same architecture.
 * @return the text, to be released by nf_text_free(). NULL on NF_EARG (`o` NULL), NF_ENOMEM, NF_EUNSUPPORTED (more
 * nested objects or more features than a description can hold; a build without Jansson), or the error that a `describe`
 * hook returned.
 */
NF_API char *nf_describe(const nf_object *o);
/**
 * A new object from such a text, whether nf_describe() or a person wrote it. nflow/description.h says what may be left
 * out. The object is of the kind that the description says, so nf_model_of_object() binds it. Two objects of equal
 * descriptions have equal initial parameters for equal seeds.
 *
 * Only the structure is built. While the text is read, at most 100 bytes are in use for each of its characters. The
 * structure's memory grows with the text and with the numbers of features and of units of masked
 * nets, both of which are bounded. No file confirms how many parameters a text asks for. More than 2^36 are refused.
 * For fewer, nf_object_shape() tells how many there are before a model, and memory for them, is made.
 * @param types users' own types, or NULL
 * @return a new reference. NULL on NF_EARG (`json` NULL), NF_EFORMAT (the message has line and column, or the place in
 * the tree: "child 1.0" is the first child of the root's second child), NF_ENOMEM, NF_EUNSUPPORTED (no Jansson).
 */
NF_API nf_object *nf_rebuild(const char *json, const nf_types *types);
/** Releases a text that nf_describe() returned. NULL is allowed. */
NF_API void nf_text_free(char *text);

/** The limits of a model's notes. */
enum {
    NF_NOTE_KEY = 128,       /**< bytes of a key, without the final 0 */
    NF_NOTE_TEXT = 1 << 20,  /**< bytes of a text, likewise */
    NF_NOTES = 1000,         /**< notes of one model */
    NF_NOTES_BYTES = 4 << 20 /**< bytes of all keys and texts together, with their final 0s */
};

/** Something that is to be kept with a model: where its data are from, their scale, names of columns. UTF-8. */
typedef struct nf_note {
    const char *key;  /**< of 1 to NF_NOTE_KEY bytes; any text, also a word that the file format uses itself */
    const char *text; /**< of at most NF_NOTE_TEXT bytes, may be "" */
} nf_note;

/**
 * Adds notes to a model: `nf_model_set_notes(m, 2, (nf_note[]){{"columns", "AT V AP"}, {"scale", "7.45 12.7 5.9"}})`. A
 * note replaces an earlier one of the same key; text NULL removes it. nf_save() writes a model's notes to its file, and
 * nf_load() gives them back, so that they stay when the model is saved again. The library does not read them, and
 * checkpoints do not have them. Do not call this while other threads read the model's notes or save it.
 * @param n     number of notes
 * @param notes [n], copied
 * @return NF_EARG (NULL, an empty key, text that is not UTF-8, or one of the limits above: the message says which),
 * NF_ENOMEM. After an error the model has the notes that it had.
 */
NF_API NF_CHECKED nf_status nf_model_set_notes(nf_model *m, size_t n, const nf_note *notes);
/** The text of the note of that key, or NULL if there is none. Owned by the model, and valid until its notes change. */
NF_API const char *nf_model_note(const nf_model *m, const char *key);
/**
 * All notes of a model [*n], in the order of their keys' bytes. Owned by the model, and valid until its notes change.
 * @param n their number, written; NULL: not wanted
 */
NF_API const nf_note *nf_model_notes(const nf_model *m, size_t *n);

/**
 * Writes structure, numbers and notes to one `.safetensors` file (named tensors; the architecture as JSON and the notes
 * in the metadata). docs/format.md describes the format.
 * The function writes a temporary file beside `path`, flushes it and renames it, so `path` is never half written, also
 * if the process is killed. A file that is replaced keeps its mode and, where the system allows it, its owner and
 * group; a new file has the mode that the umask leaves. If `path` is a symbolic link, the file that it leads to is
 * replaced. The temporary file of NAME is .NAME.nflow-K.tmp; one that a killed process has left is removed by the next
 * save to NAME. The format is version 1, which every later version of the library reads. What is written are theta and
 * state as they are now, also if nf_model_update() has not been called since they changed; nf_load() prepares the model
 * from them.
 * @return NF_EIO, NF_ENOMEM; NF_EUNSUPPORTED in a build without Jansson.
 */
NF_API NF_CHECKED nf_status nf_save(const nf_model *m, const char *path);
/**
 * Rebuilds a model of any kind from a file. A file of the other precision is converted, and so are tensors of F16 and
 * BF16 (exactly), into which other programs may have changed those that nf_save() wrote. Every size is checked, and the
 * header and the architecture before the numbers are read. While it is read, at most 100 bytes are in use for each byte
 * of the file, and 1 MiB and the structure's memory (see nf_rebuild()) more. Of a safetensors file that another program
 * has written, the message says what it is. Files from before format version 1 have numbers where choices now have
 * names, and are refused.
 * @param types users' own types, or NULL
 * @return NULL on NF_EIO, NF_EFORMAT, NF_ENOMEM, NF_EUNSUPPORTED.
 */
NF_API nf_model *nf_load(const char *path, const nf_types *types);

NF_END_DECLS
#endif
