/* The VAE as an object: encoder x -> context, posterior q(z | context), decoder z -> parameters of p(x | z), prior
   N(0, I) (Kingma & Welling 2014; the flow: Rezende & Mohamed 2015, section 4.2). This file only checks that the
   parts fit together and initialises them; elbo.c and score.c compute with them. */
#include "vae/vae.h"
#include "data/minibatch.h"
#include "object/options.h"
#include "object/parts.h"
#include "base/memory.h"
#include "base/status.h"

/* Initialises the posterior. If there is a batch, the posterior gets its own draws, given the context that the
   encoder computes from the data. */
static nf_status init_posterior(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta,
                                nf_real *state)
{
    if (!batch)
        return nf_init_child(o, NFI_POSTERIOR, noise, NULL, theta, state);
    nf_arena memory = {.n_chunks = 0};
    nf_batch draws = {.n = batch->n, .ld = batch->ld, .direction = NF_FORWARD};
    nf_real *ctx = nf_arena_reals(&memory, nf_child(o, NFI_POSTERIOR)->total.n_ctx, batch->ld);
    nf_pass p;
    void *none = NULL;
    nf_status status = ctx ? nfi_init_pass(o, NFI_ENCODER, noise, batch, theta, state, &memory, &p) : NF_ENOMEM;
    if (status == NF_OK)
        status = nf_net_apply(nf_child(o, NFI_ENCODER), &p, batch->x, ctx, &none);
    draws.ctx = ctx;
    if (status == NF_OK)
        status = nf_init_child(o, NFI_POSTERIOR, noise, &draws, theta, state);
    nfi_arena_clear(&memory);
    return status;
}

static nf_status vae_init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta,
                          nf_real *state)
{
    nf_status status = nf_init_child(o, NFI_ENCODER, noise, batch, theta, state);
    if (status == NF_OK)
        status = nf_init_child(o, NFI_DECODER, noise, NULL, theta, state);
    /* The encoder's output starts at the values at which the posterior wants its context to start. */
    nf_real *ctx = nfi_calloc(nf_child(o, NFI_POSTERIOR)->total.n_ctx, sizeof *ctx);
    if (!ctx)
        return NF_ENOMEM;
    if (status == NF_OK)
        status = nf_start_context(nf_child(o, NFI_POSTERIOR), noise, ctx);
    if (status == NF_OK)
        status = nfi_shift_child(o, NFI_ENCODER, ctx, theta);
    nfi_free(ctx);
    return status == NF_OK ? init_posterior(o, noise, batch, theta, state) : status;
}

static const char *const likelihoods[] = {[NF_BERNOULLI] = "bernoulli", [NF_GAUSSIAN] = "gaussian"};

static nf_status vae_describe(const nf_object *o, nf_writer *w)
{
    return nf_write_choice(w, "likelihood", NFI_N_NAMES(likelihoods), likelihoods, nfi_vae_likelihood(o));
}

static const nf_part vae_part = {
    .name = "vae",
    .init = vae_init,
    .describe = vae_describe,
    .destroy = nfi_free,
};

static nf_status check_parts(nf_net *encoder, nf_dist *posterior, nf_net *decoder, nf_likelihood likelihood)
{
    const nf_shape *e = nf_object_shape(nf_net_object(encoder));
    const nf_shape *q = nf_object_shape(nf_dist_object(posterior));
    const nf_shape *d = nf_object_shape(nf_net_object(decoder));
    if (likelihood != NF_BERNOULLI && likelihood != NF_GAUSSIAN)
        return nf_error(NF_EARG, "nf_vae_new: %d is not a likelihood", (int)likelihood);
    if (e->n_ctx || d->n_ctx)
        return nf_error(NF_EDIM, "nf_vae_new: the %s reads %zu features of context, but there is none",
                        e->n_ctx ? "encoder" : "decoder", e->n_ctx ? e->n_ctx : d->n_ctx);
    if (e->dim_out != q->n_ctx)
        return nf_error(NF_EDIM,
                        "nf_vae_new: the encoder gives %zu features, but the posterior takes %zu features of context",
                        e->dim_out, q->n_ctx);
    if (d->dim_in != q->dim_out)
        return nf_error(NF_EDIM, "nf_vae_new: the posterior gives %zu features, but the decoder takes %zu", q->dim_out,
                        d->dim_in);
    if (d->dim_out != nfi_likelihood_rows(likelihood, e->dim_in))
        return nf_error(NF_EDIM,
                        "nf_vae_new: the encoder takes %zu features, whose %s likelihood has %zu parameters, but "
                        "the decoder gives %zu features",
                        e->dim_in, likelihood == NF_BERNOULLI ? "Bernoulli" : "Gaussian",
                        nfi_likelihood_rows(likelihood, e->dim_in), d->dim_out);
    return NF_OK;
}

nf_vae *nf_vae_new(nf_net *encoder, nf_dist *posterior, nf_net *decoder, nf_likelihood likelihood)
{
    nf_object *parts[] = {nf_net_object(encoder), nf_dist_object(posterior), nf_net_object(decoder)};
    nf_likelihood *self = NULL;
    if (!nfi_parts_given("nf_vae_new", 3, parts, (const char *const[]){"encoder", "posterior", "decoder"}))
        return NULL;
    if (check_parts(encoder, posterior, decoder, likelihood) == NF_OK)
        self = nfi_calloc(1, sizeof *self);
    if (!self) {
        nfi_parts_release(3, parts);
        return NULL;
    }
    *self = likelihood;
    nf_shape own = {.dim_in = parts[NFI_ENCODER]->total.dim_in, .dim_out = parts[NFI_POSTERIOR]->total.dim_out};
    return (nf_vae *)nfi_object_new(NFI_VAE, &vae_part, NULL, &own, self, parts, 3, 0, "nf_vae_new");
}

/* What can be said of the data without looking at their numbers. */
static nf_status check_data(const nf_object *vae, const nf_data *data, const char *who)
{
    if (data->dim != vae->total.dim_in)
        return nf_error(NF_EDIM, "%s: the data have %zu columns, but the encoder takes %zu features", who, data->dim,
                        vae->total.dim_in);
    if (data->weight)
        return nf_error(NF_EARG, "%s: the data have weights, which a VAE does not read", who);
    if (data->n_ctx)
        return nf_error(NF_EDIM, "%s: the data have %zu columns of context, but a VAE reads none", who, data->n_ctx);
    return NF_OK;
}

nf_minibatches *nfi_vae_rows(const nf_object *vae, const nf_data *data, size_t batch, const char *who)
{
    if (data && check_data(vae, data, who) != NF_OK)
        return NULL;
    return nfi_vae_likelihood(vae) == NF_BERNOULLI ? nfi_minibatches_of_probabilities(data, batch, who)
                                                   : nfi_minibatches_new(data, batch, who);
}

nf_vae *nfi_vae_rebuild(nf_reader *r)
{
    size_t likelihood;
    if (nf_read_choice(r, "likelihood", NFI_N_NAMES(likelihoods), likelihoods, &likelihood) != NF_OK)
        return NULL;
    nf_object *part[3];
    for (size_t i = 0; i < 3; i++)
        part[i] = nf_read_child(r, i);
    nf_net *encoder = nfi_as_net(part[NFI_ENCODER]), *decoder = nfi_as_net(part[NFI_DECODER]);
    nf_dist *posterior = nfi_as_dist(part[NFI_POSTERIOR]);
    if (!encoder || !posterior || !decoder) {
        nf_error(NF_EFORMAT, "a VAE must have an encoder, a posterior and a decoder");
        for (size_t i = 0; i < 3; i++)
            nf_object_free(part[i]);
        return NULL;
    }
    return nf_vae_new(encoder, posterior, decoder, (nf_likelihood)likelihood);
}

const nf_object *nfi_model_vae(const nf_model *m, const char *who)
{
    if (!m) {
        nfi_missing(who, "`m`");
        return NULL;
    }
    if (m->o->kind != NFI_VAE) {
        nf_error(NF_EARG, "%s: the model is of `%s`, not of a VAE", who, nf_object_name(m->o));
        return NULL;
    }
    return m->o;
}
