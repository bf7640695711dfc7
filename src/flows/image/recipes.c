/* The flows of papers on images: Glow (Kingma & Dhariwal 2018, figure 2) and Real NVP (Dinh, Sohl-Dickstein & Bengio
   2017, section 3.6). Both have several scales. From the base on, scale l of an image [C][H][W] is, with c = 4 C
   channels at half the height and width and its upper half z of them split off,

       [scale l+1 on h | z as it is],   z = mean(h) + deviation(h) z   (if priors are learnt),   layers, unsqueeze

   and for Real NVP couplings over checkerboards, which see the unsqueezed image. The last scale of Glow has all of its
   channels in the layers. That of Real NVP has checkerboards only. A scale is a flow, so that an image has one latent
   vector, and (h, z) is a tile's features in order, without a copy.

   Glow's layers are K times (coupling, mixing, actnorm), Real NVP's K times (coupling, actnorm). */
#include "base/memory.h"
#include "flows/image/image.h"
#include "flows/types.h"
#include "nn/options.h"
#include <nflow/constraints.h>
#include <nflow/linear.h>
#include <nflow/recipes.h>
#include <stdio.h>
#include <string.h>

typedef nf_image_recipe_options options;

static const char *const mixings[] = {
    [NF_MIX_NONE] = "none", [NF_MIX_REVERSE] = "reverse", [NF_MIX_PERMUTE] = "permute", [NF_MIX_LU] = "lu"};
static const char *const priors[] = {[NF_PRIOR_STANDARD] = "standard", [NF_PRIOR_LEARNT] = "learnt"};
static const char *const recomputes[] = {[NF_RECOMPUTE_NEVER] = "never", [NF_RECOMPUTE_ALWAYS] = "always"};
static const nf_choices mixing_choices = NFI_CHOICES("mixing", mixings);
static const nf_choices prior_choices = NFI_CHOICES("prior", priors);
static const nf_choices recompute_choices = NFI_CHOICES("recomputation", recomputes);
static const nf_option options_of_all[] = {
    {NF_OPTION(NF_OPTION_SIZE, options, n_ctx), .help = "features of context"},
    {NF_OPTION(NF_OPTION_SIZE, options, n_levels), .least = 1, .most = 20, .flags = NF_OPTION_DEPENDS,
     .help = "how often height and width are halved"},
    {NF_OPTION(NF_OPTION_SIZE, options, n_steps), .least = 1, .help = "steps of flow of each level"},
    {NF_OPTION(NF_OPTION_SIZE, options, hidden), .least = 1, .help = "channels of hidden layers"},
    {NF_OPTION(NF_OPTION_SIZE, options, n_blocks), .help = "residual blocks of the nets"},
    {NF_OPTION(NF_OPTION_BOOL, options, additive), .help = "couplings shift and do not scale"},
    {NF_OPTION(NF_OPTION_CHOICE, options, mixing), .choices = &mixing_choices, .help = "of channels, before couplings"},
    {NF_OPTION(NF_OPTION_CHOICE, options, prior), .choices = &prior_choices, .help = "of what is split off"},
    {NF_OPTION(NF_OPTION_CHOICE, options, recompute), .choices = &recompute_choices,
     .help = "what gradients need is computed again"},
    {NF_OPTION(NF_OPTION_INTEGER, options, seed), .help = "of permutations"},
};

typedef struct recipe {
    nf_option_table options; /* its defaults are `paper` */
    size_t most_levels;      /* without a number of levels */
    bool checkerboards;
    nf_conv_options net; /* without the widths of its hidden layers */
    options paper;
} recipe;

static const nf_scaled_affine_options sigmoid = {.scale = NF_SCALE_SIGMOID, .bias = 2},
                                      bounded = {.scale = NF_SCALE_TANH};
/* Of priors: between 1/1000 and 1000. */
static const nf_scaled_affine_options wide = {.scale = NF_SCALE_TANH, .limit = 6.907755278982137};

static const recipe glow = {
    .options = NF_OPTION_TABLE("nf_glow", options, options_of_all, &glow.paper),
    .most_levels = 3,
    .net = {.n_hidden = 2, .norm = NF_CONV_ACTNORM, .last_scale = NF_ZERO, .learnt_scale = true},
    .paper = {.n_steps = 32, .hidden = 512, .scale = &sigmoid, .mixing = NF_MIX_LU, .prior = NF_PRIOR_LEARNT}};
static const recipe real_nvp = {.options =
                                    NF_OPTION_TABLE("nf_realnvp_image", options, options_of_all, &real_nvp.paper),
                                .most_levels = 2,
                                .checkerboards = true,
                                .net = {.n_hidden = 1, .norm = NF_CONV_WEIGHT_NORM, .last_scale = 0.01},
                                .paper = {.n_steps = 3,
                                          .hidden = 32,
                                          .n_blocks = 4,
                                          .scale = &bounded,
                                          .mixing = NF_MIX_NONE,
                                          .prior = NF_PRIOR_STANDARD}};

/* ---- lists of flows ---- */

/* Flows from the base on. After a failure, the list is not whole: nothing more is made, and nf_chain frees the flows
   that exist. */
typedef struct list {
    nf_flow **f;
    size_t n;
    bool whole;
} list;

static list new_list(size_t room)
{
    nf_flow **f = nfi_calloc(room, sizeof(nf_flow *));
    return (list){.f = f, .whole = f != NULL};
}

static void add(list *l, nf_flow *f)
{
    l->f[l->n++] = f;
    l->whole = f != NULL;
}

typedef nf_flow *chain_fn(nf_flow *const *f, size_t n);

static nf_flow *finish(list *l, chain_fn *make)
{
    nf_flow *chain = l->f ? make(l->f, l->n) : NULL;
    nfi_free(l->f);
    return chain;
}

/* ---- layers ---- */

/* What a recipe is made with. */
typedef struct plan {
    const recipe *r;
    options q;
    nf_conv_options net;
    size_t hidden[2]; /* of the recipe's own net */
} plan;

static size_t count(nf_image m)
{
    return m.channels * m.height * m.width;
}

nf_flow *nfi_image_coupling(nf_image m, bool checkerboard, size_t k, size_t n_ctx, nf_conv_options net,
                            const nf_scaled_affine_options *scale)
{
    nf_image in = m;
    size_t out = m.channels;
    unsigned char *mask = nfi_calloc(count(m), 1);
    if (!mask)
        return NULL;
    if (checkerboard) {
        const bool odd = k % 2 == 0 && m.height * m.width > 1;
        net.in_pixels = odd ? NF_EVEN_PIXELS : NF_ODD_PIXELS;
        net.out_pixels = odd ? NF_ODD_PIXELS : NF_EVEN_PIXELS;
    } else {
        out = k % 2 == 0 ? m.channels / 2 : m.channels - m.channels / 2;
        in.channels = m.channels - out;
    }
    const size_t n_b = checkerboard ? nf_mask_checkerboard(m, k, mask) : nf_mask_channels(m, k, mask);
    const size_t each = scale ? 2 : 1;
    net.n_per_feature = each;
    nf_flow *t = scale ? nf_scaled_affine(n_b, scale) : nf_shift(n_b), *f = NULL;
    if (t)
        f = nf_coupling(count(m), mask, t, nf_conv_net(in, each * out, n_ctx, &net));
    nfi_free(mask);
    return f;
}

/* What mixes the channels in step k of scale `level`; the seeds are different ones. */
static nf_flow *mixing(const plan *p, nf_image m, size_t level, size_t k)
{
    const nf_noise noise = {.seed = p->q.seed, .step = level};
    uint32_t draw[4];
    nf_philox((const uint32_t[4]){(uint32_t)k, (uint32_t)((uint64_t)k >> 32), (uint32_t)noise.step, 0},
              (const uint32_t[2]){(uint32_t)noise.seed, (uint32_t)(noise.seed >> 32)}, draw);
    const uint64_t drawn = (uint64_t)draw[0] << 31 | draw[1];
    const uint64_t seed = noise.seed == NF_LU_IDENTITY ? NF_LU_IDENTITY : drawn;
    nf_flow *f = p->q.mixing == NF_MIX_LU        ? nf_lu_linear(m.channels, seed)
                 : p->q.mixing == NF_MIX_PERMUTE ? nf_random_permutation(m.channels, seed)
                                                 : nf_reverse(m.channels);
    return f ? nf_pixelwise(f, m.height * m.width) : NULL;
}

static nf_flow *actnorm(nf_image m)
{
    nf_flow *f = nf_actnorm(m.channels);
    return f ? nf_pixelwise(f, m.height * m.width) : NULL;
}

/* Whether the layers of a scale are computed again: as asked for, or by what they would keep for each sample. */
static bool recomputes_layers(const plan *p, const list *l)
{
    size_t kept = 0;
    for (size_t k = 0; k < l->n && l->whole; k++)
        kept += nf_flow_shape(l->f[k])->n_saved + nf_flow_shape(l->f[k])->dim_in;
    return p->q.recompute == NF_RECOMPUTE_ALWAYS || (p->q.recompute != NF_RECOMPUTE_NEVER && kept > NF_RECOMPUTE_FROM);
}

/* n couplings with what belongs to each of them. */
static nf_flow *layers(const plan *p, nf_image m, size_t level, bool checkerboard, size_t n)
{
    const bool mixes = p->q.mixing != NF_MIX_NONE;
    list l = new_list(3 * n);
    for (size_t k = 0; k < n && l.whole; k++) {
        add(&l,
            nfi_image_coupling(m, checkerboard, mixes ? 0 : k, p->q.n_ctx, p->net, p->q.additive ? NULL : p->q.scale));
        if (l.whole && mixes)
            add(&l, mixing(p, m, level, k));
        if (l.whole)
            add(&l, actnorm(m));
    }
    return finish(&l, recomputes_layers(p, &l) ? nf_recomputed_chain : nf_chain);
}

/* ---- priors ---- */

/* The second half of the channels given the first one. */
static nf_flow *prior_of_rest(const plan *p, nf_image m)
{
    const nf_conv_options net = {.last_scale = NF_ZERO, .learnt_scale = true};
    return nfi_image_coupling(m, false, 0, p->q.n_ctx, net, &wide);
}

/* A mean and a deviation for each channel of the last scale, which the context gives if there is any. */
static nf_flow *prior_of_channels(const plan *p, nf_image m)
{
    nf_flow *f = nf_scaled_affine(m.channels, &wide);
    if (f && p->q.n_ctx) {
        const nf_mlp_options net = {.last_scale = NF_ZERO};
        f = nf_amortized(f, nf_mlp(p->q.n_ctx, 2 * m.channels, 0, &net));
    }
    return f ? nf_pixelwise(f, m.height * m.width) : NULL;
}

/* ---- scales ---- */

/* Of an image, from the base to it. */
static nf_flow *scale(const plan *p, nf_image image, size_t level)
{
    const bool boards = p->r->checkerboards, last = level + 1 == p->q.n_levels, learnt = p->q.prior == NF_PRIOR_LEARNT;
    const nf_image squeezed = {4 * image.channels, image.height / 2, image.width / 2};
    const nf_image half = {2 * image.channels, squeezed.height, squeezed.width};
    list l = new_list(6);
    if (level == p->q.n_levels) { /* Real NVP's last scale */
        if (l.whole && learnt)
            add(&l, prior_of_channels(p, image));
        if (l.whole)
            add(&l, layers(p, image, level, true, p->q.n_steps + 1));
        return finish(&l, nf_chain);
    }
    if (l.whole && (boards || !last)) {
        nf_flow *side[2] = {scale(p, half, level + 1), NULL};
        side[1] = side[0] ? nf_identity(count(half)) : NULL;
        add(&l, side[0] ? nf_blocks(side, 2) : NULL);
        if (l.whole && learnt)
            add(&l, prior_of_rest(p, squeezed));
    } else if (l.whole && learnt) {
        add(&l, prior_of_channels(p, squeezed));
    }
    if (l.whole)
        add(&l, layers(p, squeezed, level, false, p->q.n_steps));
    if (l.whole)
        add(&l, nf_squeeze(image));
    if (l.whole) {
        l.f[l.n - 1] = nf_invert(l.f[l.n - 1]);
        l.whole = l.f[l.n - 1] != NULL;
    }
    if (l.whole && boards)
        add(&l, layers(p, image, level, true, p->q.n_steps));
    return finish(&l, nf_chain);
}

/* ---- options ---- */

/* How often both sizes can be halved, at most `most` times. */
static size_t halvings(nf_image m, size_t most)
{
    size_t n = 0;
    for (; n < most && m.height % 2 == 0 && m.width % 2 == 0; n++) {
        m.height /= 2;
        m.width /= 2;
    }
    return n;
}

static nf_status check_levels(const plan *p, nf_image image)
{
    const size_t n = p->q.n_levels ? p->q.n_levels : 1;
    if (halvings(image, n) == n)
        return NF_OK;
    return nf_error(NF_EARG,
                    "%s: the image is %zu x %zu, but with %zu level%s height and width must be multiples of %zu",
                    p->r->options.function, image.height, image.width, n, n == 1 ? "" : "s", (size_t)1 << n);
}

static nf_status check_nets(const plan *p, const options *given)
{
    const char *who = p->r->options.function;
    if (given->net && (given->hidden || given->n_blocks))
        return nf_error(NF_EARG, "%s: `net` is given, and so is `%s`, which is of the recipe's own nets", who,
                        given->hidden ? "hidden" : "n_blocks");
    if (given->n_blocks && !p->r->paper.n_blocks)
        return nf_error(NF_EARG, "%s: `n_blocks` is given, but its nets have no residual blocks", who);
    if (given->additive && given->scale)
        return nf_error(NF_EARG, "%s: `scale` is given, but the couplings are additive", who);
    if (p->r->checkerboards && p->q.mixing != NF_MIX_NONE)
        return nf_error(NF_EARG, "%s: `mixing` is given, but couplings over checkerboards have none", who);
    return NF_OK;
}

nf_status nfi_check_image_coupling(const char *who, const nf_conv_options *options,
                                   const nf_scaled_affine_options *scale)
{
    nf_conv_options q = *options;
    q.n_per_feature = 1;
    nf_net *net = nf_conv_net((nf_image){1, 2, 2}, 1, 0, &q);
    nf_flow *t = net ? nf_scaled_affine(1, scale) : NULL;
    const bool good = net && t;
    nf_net_free(net);
    nf_flow_free(t);
    if (good)
        return NF_OK;
    char why[200];
    snprintf(why, sizeof why, "%s", nf_error_message());
    return nf_error(nf_error_status(), "%s: `%s`: %s", who, net ? "scale" : "net", why);
}

static nf_status make_plan(const recipe *r, nf_image image, const options *given, plan *p)
{
    static const options none;
    size_t n;
    given = given ? given : &none;
    *p = (plan){.r = r, .q = *given, .net = r->net};
    if (!nfi_count_features(&image, r->options.function, &n))
        return nf_error_status();
    nf_status status = nf_options_settle(&r->options, &p->q, &p->q);
    if (status == NF_OK)
        status = check_levels(p, image);
    if (status == NF_OK)
        status = check_nets(p, given);
    if (status != NF_OK)
        return status;
    p->q.n_levels = p->q.n_levels ? p->q.n_levels : halvings(image, r->most_levels);
    p->q.scale = p->q.scale ? p->q.scale : r->paper.scale;
    p->hidden[0] = p->hidden[1] = p->q.hidden;
    p->net.hidden = p->hidden;
    p->net.n_blocks = p->q.n_blocks;
    if (given->net)
        p->net = *given->net;
    if (p->q.n_steps > SIZE_MAX / 64 || !nfi_mul(n, 64 * sizeof(size_t), &n))
        return nf_error(NF_EARG, "%s: `n_steps` is %zu, the image %zu x %zu of %zu channels", r->options.function,
                        p->q.n_steps, image.height, image.width, image.channels);
    return nfi_check_image_coupling(r->options.function, &p->net, p->q.scale);
}

static nf_flow *build(const recipe *r, nf_image image, const options *given)
{
    plan p;
    return make_plan(r, image, given, &p) == NF_OK ? scale(&p, image, 0) : NULL;
}

const nf_option_table *nfi_image_recipe_options(size_t i)
{
    return i == 0 ? &glow.options : i == 1 ? &real_nvp.options : NULL;
}

nf_flow *nf_glow(nf_image image, const nf_image_recipe_options *options)
{
    return build(&glow, image, options);
}

nf_flow *nf_realnvp_image(nf_image image, const nf_image_recipe_options *options)
{
    return build(&real_nvp, image, options);
}
