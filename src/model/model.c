/* A model: an object bound to its numbers, theta, state and what is prepared from the two. Here the three are made,
   copied, kept in step, and released, and a gradient in the prepared numbers is pulled back to theta. */
#include "model/model.h"
#include "base/memory.h"
#include "base/status.h"
#include "object/parts.h"
#include <string.h>

nfi_preparing nfi_preparing_of(const nf_model *m, nf_mode mode)
{
    return (nfi_preparing){
        .list = &m->preparation, .mode = mode, .theta = m->theta, .state = m->state, .prep = m->prep};
}

nf_status nf_model_update(nf_model *m, nf_mode mode)
{
    if (!m)
        return nf_error(NF_EARG, "nf_model_update: `m` is NULL");
    if (mode != NF_EVAL && mode != NF_TRAIN)
        return nf_error(NF_EARG, "nf_model_update: `mode` is %d, neither NF_EVAL nor NF_TRAIN", (int)mode);
    const bool fitting = m->readiness == NFI_FITTING;
    nfi_preparing run = nfi_preparing_of(m, mode);
    m->readiness = NFI_STALE;
    const nf_status status = nfi_prepare_all(&run, NULL);
    if (status != NF_OK)
        return status;
    m->readiness = fitting ? NFI_FITTING : NFI_READY;
    if (!fitting) /* after the preparation, which may have moved the state */
        m->fingerprint = nfi_fingerprint_of(&m->preparation, m->theta, m->state);
    return NF_OK;
}

nf_status nfi_check_ready(const nf_model *m, const char *who)
{
    if (m->preparation.n == 0 || m->readiness == NFI_FITTING)
        return NF_OK;
    if (m->readiness == NFI_STALE)
        return nf_error(NF_ESTALE, "%s: the model's last nf_model_update() has failed", who);
    if (m->fingerprint == nfi_fingerprint_of(&m->preparation, m->theta, m->state))
        return NF_OK;
    return nf_error(NF_ESTALE, "%s: the model's theta or state has changed since the last nf_model_update()", who);
}

static nf_status check_options(const nf_object *o, const nf_model_options *options, const char *who)
{
    const nf_shape *s = &o->total;
    if (!options->theta && options->state)
        return nf_error(NF_EARG, "%s: `options->state` is given without `theta`", who);
    if (options->theta && s->n_state && !options->state)
        return nf_error(NF_EARG,
                        "%s: `options->theta` is given, but `state` is NULL and the object has %zu numbers of it", who,
                        s->n_state);
    if (options->n_init == 0 && (options->init_x || options->init_ctx))
        return nf_error(NF_EARG, "%s: `options->%s` is given, but `n_init`, the number of rows, is 0", who,
                        options->init_x ? "init_x" : "init_ctx");
    if (options->theta && options->n_init)
        return nf_error(NF_EARG, "%s: `options->n_init` is %zu, but the caller's `theta` is taken as it stands", who,
                        options->n_init);
    return NF_OK;
}

/* A model of an object whose reference is the model's from now on. It has the caller's arrays, and zeros where there
   are none; nothing is initialised or prepared. NULL on NF_ENOMEM. */
static nf_model *new_model(nf_object *o, nf_real *theta, nf_real *state)
{
    nf_model *m = nfi_calloc(1, sizeof *m);
    if (!m) {
        nfi_parts_drop(1, &o);
        return NULL;
    }
    m->o = o;
    m->own_theta = !theta;
    m->own_state = !state;
    m->theta = m->own_theta ? nfi_calloc(o->total.n_params, sizeof(nf_real)) : theta;
    m->state = m->own_state ? nfi_calloc(o->total.n_state, sizeof(nf_real)) : state;
    m->prep = nfi_calloc(o->total.n_prep, sizeof(nf_real));
    if (m->theta && m->state && m->prep && nfi_list_prepared(o, &m->preparation) == NF_OK)
        return m;
    nf_model_free(m);
    return NULL;
}

nf_model *nfi_model_bind(nf_object *o, const nf_model_options *options, const char *who, const char *noun)
{
    static const nf_model_options none;
    if (!nfi_parts_take(who, 1, &o, (const char *const[]){noun}))
        return NULL;
    options = options ? options : &none;
    if (check_options(o, options, who) != NF_OK) {
        nfi_parts_drop(1, &o);
        return NULL;
    }
    nf_model *m = new_model(o, options->theta, options->state);
    if (!m)
        return NULL;
    const nf_status status = m->own_theta
                                 ? nf_model_init(m, options->seed, options->n_init, options->init_x, options->init_ctx)
                                 : nf_model_update(m, NF_EVAL);
    if (status == NF_OK)
        return m;
    nf_model_free(m);
    return NULL;
}

nf_model *nf_model_of_dist(nf_dist *dist, const nf_model_options *options)
{
    return nfi_model_bind((nf_object *)dist, options, "nf_model_of_dist", "dist");
}

nf_model *nf_model_of_flow(nf_flow *flow, const nf_model_options *options)
{
    return nfi_model_bind((nf_object *)flow, options, "nf_model_of_flow", "flow");
}

nf_model *nf_model_of_net(nf_net *net, const nf_model_options *options)
{
    return nfi_model_bind((nf_object *)net, options, "nf_model_of_net", "net");
}

nf_model *nf_model_of_vae(nf_vae *vae, const nf_model_options *options)
{
    return nfi_model_bind((nf_object *)vae, options, "nf_model_of_vae", "vae");
}

nf_model *nf_model_of_object(nf_object *o, const nf_model_options *options)
{
    return nfi_model_bind(o, options, "nf_model_of_object", "o");
}

void nf_model_free(nf_model *m)
{
    if (!m)
        return;
    if (m->own_theta)
        nfi_free(m->theta);
    if (m->own_state)
        nfi_free(m->state);
    nfi_free(m->prep);
    nfi_preparation_clear(&m->preparation);
    nfi_notes_free(&m->notes);
    nfi_parts_drop(1, &m->o);
    nfi_free(m);
}

nf_model *nf_model_copy(const nf_model *m)
{
    static const char who[] = "nf_model_copy";
    if (!m) {
        nfi_missing(who, "`m`");
        return NULL;
    }
    const nf_shape *s = &m->o->total;
    nfi_part_hold(m->o);
    nf_model *copy = new_model(m->o, NULL, NULL);
    if (!copy)
        return NULL;
    if (nfi_notes_set(&copy->notes, m->notes.n, m->notes.list, who, NF_EARG) != NF_OK) {
        nf_model_free(copy);
        return NULL;
    }
    memcpy(copy->theta, m->theta, s->n_params * sizeof(nf_real));
    memcpy(copy->state, m->state, s->n_state * sizeof(nf_real));
    memcpy(copy->prep, m->prep, s->n_prep * sizeof(nf_real));
    copy->readiness = m->readiness;
    copy->fingerprint = m->fingerprint;
    if (copy->readiness == NFI_FITTING) { /* the fit takes no fingerprints, and does not train the copy */
        copy->readiness = NFI_READY;
        copy->fingerprint = nfi_fingerprint_of(&copy->preparation, copy->theta, copy->state);
    }
    return copy;
}

/* Lets *at be the caller's array, if there is one. */
static void rebind(nf_real **at, bool *own, nf_real *array)
{
    if (!array || array == *at)
        return;
    if (*own)
        nfi_free(*at);
    *at = array;
    *own = false;
}

nf_status nf_model_rebind(nf_model *m, nf_real *theta, nf_real *state)
{
    if (!m || (!theta && m->o->total.n_params))
        return nf_error(NF_EARG, "nf_model_rebind: `%s` is NULL", m ? "theta" : "m");
    if (m->readiness == NFI_FITTING)
        return nf_error(NF_EARG, "nf_model_rebind: a fit of the model is running");
    rebind(&m->theta, &m->own_theta, theta);
    rebind(&m->state, &m->own_state, state);
    return NF_OK;
}

nf_object *nf_model_object(const nf_model *m)
{
    return m ? m->o : NULL;
}

const nf_shape *nf_model_shape(const nf_model *m)
{
    return nf_object_shape(m ? m->o : NULL);
}

nf_real *nf_model_theta(nf_model *m)
{
    return m ? m->theta : NULL;
}

nf_real *nf_model_state(nf_model *m)
{
    return m ? m->state : NULL;
}

size_t nf_model_gradient_size(const nf_model *m)
{
    return m ? m->o->total.n_params + m->o->total.n_prep : 0;
}

nf_status nf_model_pull_gradient(const nf_model *m, nf_real *g, nf_real *g_theta)
{
    if (!m || !g || !g_theta)
        return nf_error(NF_EARG, "nf_model_pull_gradient: `%s` is NULL", !m ? "m" : !g ? "g" : "g_theta");
    const nf_status status = nfi_check_ready(m, "nf_model_pull_gradient");
    return status == NF_OK ? nfi_pull_gradient(m, NULL, g, g_theta) : status;
}

nf_status nfi_pull_gradient(const nf_model *m, nfi_pool *pool, nf_real *g, nf_real *g_theta)
{
    const size_t n_params = m->o->total.n_params;
    nfi_preparing run = nfi_preparing_of(m, NF_TRAIN);
    if (g != g_theta)
        for (size_t i = 0; i < n_params; i++)
            g_theta[i] += g[i];
    run.g_prep = g + n_params;
    run.g_theta = g_theta;
    return nfi_prepare_all(&run, pool);
}

nf_status nf_model_end_step(nf_model *m, const double *stats, size_t n)
{
    if (!m || !stats)
        return nf_error(NF_EARG, "nf_model_end_step: `%s` is NULL", m ? "stats" : "m");
    if (n == 0)
        return nf_error(NF_EARG, "nf_model_end_step: `n` is 0");
    return nfi_tree_end_step(m->o, stats, n, m->state);
}
