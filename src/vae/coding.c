/* Runs the parts of a VAE on batches: latent variables for data, and means of data for latent variables. */
#include "model/batch.h"
#include "object/live.h"
#include "vae/vae.h"

typedef struct run_job {
    const nf_model *m;
    const nf_noise *noise;
    const nf_real *in;
    nf_real *out;
    double *log_q;
} run_job;

static nf_status run(const nf_model *m, const char *who, nf_workspace *ws, const nf_noise *noise, size_t n,
                     const nf_real *in, nf_real *out, double *log_q, nfi_tile_fn *f)
{
    run_job job = {.m = m, .noise = noise, .in = in, .out = out, .log_q = log_q};
    return nfi_for_batch(m, who, ws, n, f, &job);
}

static nf_status decode_tile(void *user, size_t first, size_t n, size_t ld, nfi_thread *memory)
{
    const run_job *job = user;
    const nf_object *vae = job->m->o;
    size_t dim = vae->total.dim_in, dim_z = vae->total.dim_out;
    nf_pass p = nfi_model_pass(job->m, memory, job->noise, first, n, ld, NF_EVAL, false);
    nf_real *z = nf_arena_reals(p.scratch, dim_z, ld);
    nf_real *a = nf_arena_reals(p.scratch, nf_object_shape(nf_child(vae, NFI_DECODER))->dim_out, ld);
    nf_real *mean = nf_arena_reals(p.scratch, dim, ld);
    if (!z || !a || !mean)
        return NF_ENOMEM;
    if (job->in)
        nfi_pack(n, dim_z, job->in + first * dim_z, dim_z, ld, z);
    else
        nf_noise_normal(&p.noise, dim_z, n, ld, z); /* the prior's noise has the VAE's own site */
    nf_pass decoder = nf_child_pass(vae, NFI_DECODER, &p);
    nf_status status = nf_net_apply(nf_child(vae, NFI_DECODER), &decoder, z, a, NULL);
    if (status == NF_OK) {
        nfi_likelihood_mean(nfi_vae_likelihood(vae), dim, ld, a, mean);
        nfi_spoil_counted(&p, memory, &(nfi_flow_of_tile){.n_x = dim_z, .x = z, .n_y = dim, .y = mean});
        nfi_unpack(n, dim, mean, ld, job->out + first * dim, dim);
    }
    return status;
}

nf_status nf_vae_decode(const nf_model *m, nf_workspace *ws, const nf_noise *noise, size_t n, const nf_real *z,
                        nf_real *x)
{
    if (!nfi_model_vae(m, "nf_vae_decode"))
        return NF_EARG;
    if (!x || (!z && !noise))
        return nf_error(NF_EARG, "nf_vae_decode: `%s` is NULL", x ? "noise` and `z" : "x");
    if (n == 0)
        return nf_error(NF_EARG, "nf_vae_decode: `n` is 0");
    return run(m, "nf_vae_decode", ws, noise, n, z, x, NULL, decode_tile);
}

static nf_status encode_tile(void *user, size_t first, size_t n, size_t ld, nfi_thread *memory)
{
    const run_job *job = user;
    const nf_object *vae = job->m->o;
    size_t dim = vae->total.dim_in, dim_z = vae->total.dim_out;
    nf_pass p = nfi_model_pass(job->m, memory, job->noise, first, n, ld, NF_EVAL, false);
    nf_real *x = nf_arena_reals(p.scratch, dim, ld);
    nf_real *ctx = nf_arena_reals(p.scratch, nf_object_shape(nf_child(vae, NFI_POSTERIOR))->n_ctx, ld);
    if (!x || !ctx)
        return NF_ENOMEM;
    nfi_pack(n, dim, job->in + first * dim, dim, ld, x);
    nf_pass encoder = nf_child_pass(vae, NFI_ENCODER, &p), posterior = nf_child_pass(vae, NFI_POSTERIOR, &p);
    nfi_draw draw;
    nf_status status = nf_net_apply(nf_child(vae, NFI_ENCODER), &encoder, x, ctx, NULL);
    if (status == NF_OK)
        status = nfi_draw_sample(&draw, nf_child(vae, NFI_POSTERIOR), &posterior, ctx, p.scratch);
    if (status != NF_OK)
        return status;
    const nfi_flow_of_tile io = {.n_x = dim, .x = x, .n_y = dim_z, .y = draw.z, .log = draw.log_q};
    nfi_spoil_counted(&p, memory, &io);
    nfi_unpack(n, dim_z, draw.z, ld, job->out + first * dim_z, dim_z);
    for (size_t s = 0; s < n && job->log_q; s++)
        job->log_q[first + s] = draw.log_q[s];
    return NF_OK;
}

nf_status nf_vae_encode(const nf_model *m, nf_workspace *ws, const nf_noise *noise, size_t n, const nf_real *x,
                        nf_real *z, double *log_q)
{
    if (!nfi_model_vae(m, "nf_vae_encode"))
        return NF_EARG;
    if (!noise || !x || !z)
        return nf_error(NF_EARG, "nf_vae_encode: `%s` is NULL", !noise ? "noise" : !x ? "x" : "z");
    if (n == 0)
        return nf_error(NF_EARG, "nf_vae_encode: `n` is 0");
    return run(m, "nf_vae_encode", ws, noise, n, x, z, log_q, encode_tile);
}
