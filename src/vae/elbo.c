/* The objective of a VAE, with one draw z for each sample of data:
   loss = kl_t (log q(z|x) - beta_t log p(z)) - beta_t log p(x|z), which is -ELBO if both weights are 1. The weight
   beta_t of the joint is the annealing of Rezende & Mohamed 2015, eq. 20; kl_t is the warm-up of Sonderby et al. 2016.
   In training the posterior's penalty (nf_pass.penalty) is added to the loss, without a weight.
   A tile goes through encoder, draw, decoder and likelihood and back again while it is in the cache. */
#include "vae/vae.h"
#include "base/memory.h"
#include "math/rows.h"
#include "object/tiles.h"
#include "data/minibatch.h"
#include "fit/schedule.h"
#include <math.h>
#include <string.h>

typedef struct vae_elbo {
    const nf_object *vae;
    nf_minibatches *rows;
    nf_schedule joint, kl;
    double joint_weight, kl_weight; /* the values of the two schedules in this step */
} vae_elbo;

/* The arrays of a tile; all are in the scratch arena. */
typedef struct tile {
    nf_real *x, *ctx, *a; /* data, the posterior's context, the likelihood's parameters */
    nf_real *ga, *gz, *g_ctx, *g_log_q, *g_penalty;
    double *log_px, *log_pz, *log_det, *penalty, *loss;
    nf_pass encoder, posterior, decoder;
    void *encoder_saved, *decoder_saved;
    nfi_draw draw;
} tile;

static nf_status begin(void *self, const nf_step *step)
{
    vae_elbo *e = self;
    e->joint_weight = nf_schedule_value(&e->joint, step->step);
    e->kl_weight = nf_schedule_value(&e->kl, step->step);
    return nf_minibatches_begin(e->rows, step->seed, step->step);
}

static bool allocate(tile *t, const nf_object *vae, size_t ld, bool gradient, nf_arena *memory)
{
    size_t dim = vae->total.dim_in, dim_z = vae->total.dim_out;
    size_t n_ctx = nf_object_shape(nf_child(vae, NFI_POSTERIOR))->n_ctx;
    size_t n_a = nfi_likelihood_rows(nfi_vae_likelihood(vae), dim);
    t->x = nf_arena_reals(memory, dim, ld);
    t->ctx = nf_arena_reals(memory, n_ctx, ld);
    t->a = nf_arena_reals(memory, n_a, ld);
    t->log_px = nf_arena_alloc(memory, ld * sizeof(double));
    t->log_pz = nf_arena_alloc(memory, ld * sizeof(double));
    t->log_det = nf_arena_alloc(memory, ld * sizeof(double));
    t->penalty = nf_arena_alloc(memory, ld * sizeof(double));
    t->loss = nf_arena_alloc(memory, ld * sizeof(double));
    if (gradient) {
        t->ga = nf_arena_reals(memory, n_a, ld);
        t->gz = nf_arena_reals(memory, dim_z, ld);
        t->g_ctx = nf_arena_reals(memory, n_ctx, ld);
        t->g_log_q = nf_arena_reals(memory, 1, ld);
        t->g_penalty = nf_arena_reals(memory, 1, ld);
    }
    return t->x && t->ctx && t->a && t->log_px && t->log_pz && t->log_det && t->penalty && t->loss &&
           (!gradient || (t->ga && t->gz && t->g_ctx && t->g_log_q && t->g_penalty));
}

static nf_status forward(const vae_elbo *e, const nf_pass *p, size_t first, tile *t)
{
    const nf_object *vae = e->vae;
    t->encoder = nf_child_pass(vae, NFI_ENCODER, p);
    t->posterior = nf_child_pass(vae, NFI_POSTERIOR, p);
    t->decoder = nf_child_pass(vae, NFI_DECODER, p);
    t->posterior.log_det_total = memset(t->log_det, 0, p->ld * sizeof *t->log_det);
    memset(t->penalty, 0, p->ld * sizeof *t->penalty);
    t->posterior.penalty = p->mode == NF_TRAIN ? t->penalty : NULL;
    nf_status status = nf_minibatches_tile(e->rows, p, first, t->x, NULL);
    if (status == NF_OK)
        status = nf_net_apply(nf_child(vae, NFI_ENCODER), &t->encoder, t->x, t->ctx, &t->encoder_saved);
    if (status == NF_OK)
        status = nfi_draw_sample(&t->draw, nf_child(vae, NFI_POSTERIOR), &t->posterior, t->ctx, p->scratch);
    if (status == NF_OK)
        status = nf_net_apply(nf_child(vae, NFI_DECODER), &t->decoder, t->draw.z, t->a, &t->decoder_saved);
    if (status != NF_OK)
        return status;
    nfi_prior_log(vae->total.dim_out, p->ld, t->draw.z, t->log_pz);
    nfi_likelihood_log(nfi_vae_likelihood(vae), vae->total.dim_in, p->n, p->ld, t->x, t->a, (nf_real)-e->joint_weight,
                       t->log_px, t->ga);
    return NF_OK;
}

/* Computes the loss of each sample into t->loss. Returns whether every sample has one. */
static bool evaluate(const vae_elbo *e, const nf_pass *p, tile *t)
{
    for (size_t s = 0; s < p->n; s++)
        t->loss[s] = e->kl_weight * (t->draw.log_q[s] - e->joint_weight * t->log_pz[s]) -
                     e->joint_weight * t->log_px[s] + t->penalty[s];
    return !nf_leave_out(p, t->loss);
}

static void add_terms(const nf_pass *p, size_t first, const tile *t, nf_sums *sums)
{
    for (size_t s = 0; s < p->n; s++) {
        double log_q = t->draw.log_q[s];
        nf_add_to_spread(&sums->spread, first + (p->noise.column ? p->noise.column[s] : s), t->loss[s]);
        sums->loss += t->loss[s];
        sums->term[0] += t->log_px[s];
        sums->term[1] += log_q - t->log_pz[s];
        sums->penalty += t->penalty[s];
        sums->worst_log_det = fmax(sums->worst_log_det, fabs(t->log_det[s]));
    }
}

static nf_status pull_back(const vae_elbo *e, const nf_pass *p, tile *t, const nf_grad *g)
{
    const nf_object *vae = e->vae;
    nf_grad encoder = nf_child_grad(vae, NFI_ENCODER, p, g);
    nf_grad posterior = nf_child_grad(vae, NFI_POSTERIOR, p, g);
    nf_grad decoder = nf_child_grad(vae, NFI_DECODER, p, g);
    nf_status status =
        nf_net_vjp(nf_child(vae, NFI_DECODER), &t->decoder, t->draw.z, t->a, t->decoder_saved, t->ga, t->gz, &decoder);
    if (status != NF_OK)
        return status;
    nf_real prior = (nf_real)(e->kl_weight * e->joint_weight); /* -d log p(z) / dz = z */
    nfi_add_scaled(vae->total.dim_out * p->ld, prior, t->draw.z, t->gz);
    nfi_pad_zero(vae->total.dim_out, p->n, p->ld, t->gz);
    for (size_t s = 0; s < p->ld; s++) {
        t->g_log_q[s] = s < p->n ? (nf_real)e->kl_weight : 0;
        t->g_penalty[s] = s < p->n ? 1 : 0;
    }
    t->draw.pass.g_penalty = t->g_penalty;
    status = nfi_draw_vjp(&t->draw, nf_child(vae, NFI_POSTERIOR), t->gz, t->g_log_q, t->g_ctx, &posterior);
    if (status == NF_OK)
        status = nf_net_vjp(nf_child(vae, NFI_ENCODER), &t->encoder, t->x, t->ctx, t->encoder_saved, t->g_ctx, NULL,
                            &encoder);
    return status;
}

static nf_status backward(void *self, const nf_pass *p, size_t first, void *saved, nf_sums *sums, const nf_grad *g)
{
    (void)saved;
    const vae_elbo *e = self;
    nf_mark mark = nf_arena_mark(p->scratch);
    tile t = {0};
    nf_status status = allocate(&t, e->vae, p->ld, g, p->scratch) ? forward(e, p, first, &t) : NF_ENOMEM;
    if (status == NF_OK && evaluate(e, p, &t)) {
        add_terms(p, first, &t, sums);
        if (g)
            status = pull_back(e, p, &t, g);
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static double means(void *self, const nf_step *step, const nf_sums *sums, nf_step_report *report)
{
    const vae_elbo *e = self;
    report->worst_row = nf_minibatches_row(e->rows, report->worst_row);
    return (double)step->total - sums->failed;
}

static void destroy(void *self)
{
    vae_elbo *e = self;
    nf_minibatches_free(e->rows);
    nfi_free(e);
}

static const nf_objective_type vae_elbo_type = {
    .name = "vae_elbo",
    .abi = sizeof(nf_objective_type),
    .terms = {"log_px", "kl"},
    .begin = begin,
    .backward = backward,
    .destroy = destroy,
    .means = means,
    .internal = NFI_HANDS_GRADIENT_ON,
};

nf_objective *nf_vae_elbo(nf_model *m, const nf_data *data, const nf_vae_options *options)
{
    static const nf_vae_options none;
    options = options ? options : &none;
    const nf_object *vae = nfi_model_vae(m, "nf_vae_elbo");
    if (!vae || nfi_check_schedule("nf_vae_elbo", "joint", &options->joint) != NF_OK ||
        nfi_check_schedule("nf_vae_elbo", "kl", &options->kl) != NF_OK)
        return NULL;
    nf_minibatches *rows = nfi_vae_rows(vae, data, options->batch ? options->batch : 100, "nf_vae_elbo");
    if (!rows)
        return NULL;
    vae_elbo *e = nfi_calloc(1, sizeof *e);
    if (!e) {
        nf_minibatches_free(rows);
        return NULL;
    }
    *e = (vae_elbo){.vae = vae, .rows = rows, .joint = options->joint, .kl = options->kl};
    return nf_objective_new(&vae_elbo_type, m, nf_minibatches_batch(rows), e);
}
