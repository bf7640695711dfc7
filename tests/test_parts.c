/* What constructors do with their parts: one that is NULL, one that occurs twice, one that belongs to something else
   already. Everything is released once, and the message says what to do. */
#include "expect.h"
#include "base/status.h"
#include "fail_alloc.h"
#include <nflow/nflow.h>
#include <stdio.h>

static const unsigned char half[] = {0, 1};

static nf_net *net(size_t in, size_t out)
{
    return nf_mlp(in, out, 0, NULL);
}

static nf_net *masked(void)
{
    return nf_masked_net(2, 2, 0, NULL);
}

static nf_flow *reader(void)
{
    return nf_amortized_by_context(nf_affine(1));
}

/* ---- NULL ---- */

/* Calls of constructors with a NULL, and which argument it is. */
#define CALLS(X)                                                                                                   \
    X("nf_chain: part 1", nf_chain((nf_flow *[]){nf_affine(2), NULL, nf_affine(2)}, 3))                            \
    X("nf_blocks: part 0", nf_blocks((nf_flow *[]){NULL, nf_affine(2)}, 2))                                        \
    X("nf_invert: `f`", nf_invert(NULL))                                                                           \
    X("nf_on_context: `f`", nf_on_context(NULL, 4, 0))                                                             \
    X("nf_amortized: `f`", nf_amortized(NULL, net(3, 4)))                                                          \
    X("nf_amortized: `head`", nf_amortized(nf_affine(2), NULL))                                                    \
    X("nf_amortized_by_context: `f`", nf_amortized_by_context(NULL))                                               \
    X("nf_context_net: `f`", nf_context_net(NULL, net(3, 2)))                                                      \
    X("nf_context_net: `net`", nf_context_net(reader(), NULL))                                                     \
    X("nf_coupling: `transform`", nf_coupling(2, half, NULL, net(1, 2)))                                           \
    X("nf_coupling: `net`", nf_coupling(2, half, nf_affine(1), NULL))                                              \
    X("nf_coupling_by_context: `transform`", nf_coupling_by_context(2, half, NULL, net(1, 2)))                     \
    X("nf_coupling_by_context: `net`", nf_coupling_by_context(2, half, reader(), NULL))                            \
    X("nf_autoregressive: `transform`", nf_autoregressive(NULL, masked(), NULL, NF_FORWARD))                       \
    X("nf_autoregressive: `masked`", nf_autoregressive(nf_affine(1), NULL, NULL, NF_FORWARD))                      \
    X("nf_autoregressive_by_context: `transform`", nf_autoregressive_by_context(NULL, masked(), NULL, NF_FORWARD)) \
    X("nf_autoregressive_by_context: `masked`", nf_autoregressive_by_context(reader(), NULL, NULL, NF_FORWARD))    \
    X("nf_monotone_net: `net`", nf_monotone_net(2, NULL, NULL))                                                    \
    X("nf_pushforward: `base`", nf_pushforward(NULL, nf_affine(2)))                                                \
    X("nf_pushforward: `flow`", nf_pushforward(nf_normal(2), NULL))                                                \
    X("nf_conditional_normal: `head`", nf_conditional_normal(2, NULL))                                             \
    X("nf_conditional_mixture: `head`", nf_conditional_mixture(2, 3, NULL))                                        \
    X("nf_amortized_dist: `q`", nf_amortized_dist(NULL, net(3, 4)))                                                \
    X("nf_amortized_dist: `head`", nf_amortized_dist(nf_mixture(2, 3), NULL))                                      \
    X("nf_posterior: `flow`", nf_posterior(2, NULL))                                                               \
    X("nf_vae_new: `encoder`", nf_vae_new(NULL, nf_diagonal_posterior(2), net(2, 5), NF_BERNOULLI))                \
    X("nf_vae_new: `posterior`", nf_vae_new(net(5, 4), NULL, net(2, 5), NF_BERNOULLI))                             \
    X("nf_vae_new: `decoder`", nf_vae_new(net(5, 4), nf_diagonal_posterior(2), NULL, NF_BERNOULLI))                \
    X("nf_model_of_dist: `dist`", nf_model_of_dist(NULL, NULL))                                                    \
    X("nf_model_of_flow: `flow`", nf_model_of_flow(NULL, NULL))                                                    \
    X("nf_model_of_net: `net`", nf_model_of_net(NULL, NULL))                                                       \
    X("nf_model_of_vae: `vae`", nf_model_of_vae(NULL, NULL))                                                       \
    X("nf_model_of_object: `o`", nf_model_of_object(NULL, NULL))                                                   \
    X("nf_elbo: `model`", nf_elbo(NULL, NULL, NULL))                                                               \
    X("nf_maximum_likelihood: `model`", nf_maximum_likelihood(NULL, NULL, NULL))                                   \
    X("nf_vae_elbo: `m`", nf_vae_elbo(NULL, NULL, NULL))                                                           \
    X("nf_fitter_new: `o`", nf_fitter_new(NULL, NULL))                                                             \
    X("nf_target_of_model: `m`", nf_target_of_model(NULL, NULL))                                                   \
    X("nf_target_own: `t`", nf_target_own(NULL, NULL, forget))

static void forget(void *user)
{
    (void)user;
}

static void says(const char *first, const char *rest)
{
    char whole[512];
    snprintf(whole, sizeof whole, "%s is NULL%s", first, rest);
    cr_assert_str_eq(nf_error_message(), whole);
}

/* The thread has no error any more. */
static void forget_errors(void)
{
    nfi_message_put_back(&(nfi_message){.status = NF_OK});
}

Test(parts, null_without_an_earlier_error)
{
    const size_t before = alloc_live();
#define TRY(first, call)                      \
    forget_errors();                          \
    cr_assert_null(call);                     \
    says(first, "");                          \
    cr_assert_eq(nf_error_status(), NF_EARG); \
    cr_assert_eq(alloc_live(), before, first);
    CALLS(TRY)
#undef TRY
}

Test(parts, null_after_an_error)
{
    const size_t before = alloc_live();
#define TRY(first, call)                                                \
    nf_error(NF_ENOCONV, "an earlier word");                            \
    cr_assert_null(call);                                               \
    says(first, " (the last error before this call: an earlier word)"); \
    cr_assert_eq(nf_error_status(), NF_ENOCONV);                        \
    cr_assert_eq(alloc_live(), before, first);
    CALLS(TRY)
#undef TRY
}

/* The constructor that failed first is named last, however deep it is. */
Test(parts, null_in_depth)
{
    cr_assert_null(
        nf_model_of_dist(nf_pushforward(nf_normal(2), nf_chain((nf_flow *[]){nf_affine(2), nf_planar(0)}, 2)), NULL));
    says("nf_model_of_dist: `dist`",
         " (the last error before this call: nf_pushforward: `flow` is NULL (the last error before this call: "
         "nf_chain: part 1 is NULL (the last error before this call: nf_planar: `dim` is 0)))");
    cr_assert_eq(nf_error_status(), NF_EARG);
    nf_flow *f = nf_planar(0);
    for (size_t i = 0; i < 40; i++)
        f = nf_invert(f);
    cr_assert(strncmp(nf_error_message(), "nf_invert: `f` is NULL (the last error before this call: ...", 60) == 0,
              "%s", nf_error_message());
    cr_assert(strstr(nf_error_message(), "nf_planar: `dim` is 0"), "%s", nf_error_message());
    cr_assert_eq(strlen(nf_error_message()), NFI_MESSAGE_SIZE - 1);
}

/* ---- references ---- */

/* That the message is about `first`, and says `rest`. */
static void refused(const void *made, const char *first, const char *rest)
{
    cr_assert_null(made, "%s was accepted", first);
    cr_assert_eq(nf_error_status(), NF_EARG);
    cr_assert(strncmp(nf_error_message(), first, strlen(first)) == 0, "%s", nf_error_message());
    cr_assert(strstr(nf_error_message(), rest), "%s", nf_error_message());
}

Test(parts, the_same_flow_twice)
{
    const size_t before = alloc_live();
    nf_flow *f = nf_planar(2), *other = nf_affine(2);
    refused(nf_chain((nf_flow *[]){f, other, f}, 3),
            "nf_chain: part 2 is the same object as part 0, and no reference was taken for it; nf_flow_ref()", "");
    cr_assert_eq(alloc_live(), before);
    f = nf_planar(2);
    refused(nf_blocks((nf_flow *[]){f, f}, 2), "nf_blocks: part 1 is the same object as part 0", "nf_flow_ref()");
    cr_assert_eq(alloc_live(), before);

    f = nf_planar(2);
    refused(nf_chain((nf_flow *[]){nf_flow_ref(f), f, f}, 3), "nf_chain: part 2 is the same object as part 0", "");
    cr_assert_eq(alloc_live(), before);

    f = nf_planar(2);
    nf_flow *both = nf_chain((nf_flow *[]){f, nf_flow_ref(f)}, 2); /* the two have numbers of their own */
    cr_assert_eq(nf_flow_shape(both)->n_params, 10);
    nf_flow_free(both);
    cr_assert_eq(alloc_live(), before);
}

/* Where something else is wrong with the parts as well. */
Test(parts, twice_and_something_else)
{
    const size_t before = alloc_live();
    nf_flow *f = nf_planar(2);
    cr_assert_null(nf_chain((nf_flow *[]){f, NULL, f}, 3));
    cr_assert_eq(alloc_live(), before);
    f = nf_planar(2);
    cr_assert_null(nf_chain((nf_flow *[]){f, nf_affine(3), f}, 3));
    cr_assert_eq(alloc_live(), before);
    nf_net *both = net(2, 2);
    cr_assert_null(nf_vae_new(both, NULL, both, NF_BERNOULLI));
    cr_assert_eq(alloc_live(), before);
    both = net(2, 2);
    refused(nf_vae_new(both, nf_diagonal_posterior(1), both, NF_BERNOULLI),
            "nf_vae_new: `decoder` is the same object as `encoder`", "nf_net_ref()");
    cr_assert_eq(alloc_live(), before);
    nf_object *child = nf_flow_object(nf_affine(2));
    cr_assert_null(nf_flow_new(NULL, NULL, NULL, (nf_object *[]){child, child}, 2));
    cr_assert_eq(alloc_live(), before);
    child = nf_flow_object(nf_affine(2));
    static const nf_flow_type nothing = {.abi = sizeof(nf_flow_type)};
    cr_assert_null(nf_formula_flow(&nothing, NULL, NULL, NULL, 0, (nf_object *[]){child, child}, 2));
    cr_assert_eq(alloc_live(), before);
}

Test(parts, a_net_in_two_couplings)
{
    const size_t before = alloc_live();
    nf_net *shared = net(1, 2);
    nf_flow *first = nf_coupling(2, half, nf_affine(1), shared);
    refused(nf_coupling(2, half, nf_affine(1), shared), "nf_coupling: `net`, a mlp, belongs to a larger object",
            "nf_net_ref()");
    nf_flow *second = nf_coupling(2, half, nf_affine(1), nf_net_ref(shared));
    cr_assert_not_null(second);
    nf_flow_free(first);
    nf_model *m = nf_model_of_flow(second, NULL);
    nf_real x[] = {NF_R(0.3), NF_R(0.7)}, y[2];
    cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, 1, x, NULL, y, NULL), NF_OK);
    nf_model_free(m);
    cr_assert_eq(alloc_live(), before);
}

/* Every constructor refuses a part that something else has consumed, and leaves it alone. */
Test(parts, used_again)
{
    const size_t before = alloc_live();
    nf_flow *flow = nf_affine(2), *one = nf_affine(1), *reads = reader();
    nf_net *head = net(3, 4), *steering = net(1, 2), *parallel = masked(), *of_one = net(1, 1), *encoder = net(5, 4),
           *decoder = net(2, 5);
    nf_dist *base = nf_normal(2), *posterior = nf_diagonal_posterior(2);
    nf_flow *owner_of_flows = nf_blocks((nf_flow *[]){flow, one, nf_on_context(reads, 2, 0)}, 3);
    nf_flow *owners[] = {nf_amortized(nf_affine(2), head), nf_coupling(2, half, nf_affine(1), steering),
                         nf_autoregressive(nf_affine(1), parallel, NULL, NF_FORWARD), nf_monotone_net(2, of_one, NULL)};
    nf_dist *owner_of_base = nf_pushforward(base, nf_affine(2));
    nf_vae *vae = nf_vae_new(encoder, posterior, decoder, NF_BERNOULLI);
    cr_assert(owner_of_flows && owner_of_base && vae && owners[0] && owners[1] && owners[2] && owners[3]);
    const size_t owned = alloc_live();
#define TRY(first, call)                                                                     \
    refused(call, first, "belongs to a larger object or a model already, and no reference"); \
    cr_assert_eq(alloc_live(), owned, first);
    TRY("nf_chain: part 1, a affine", nf_chain((nf_flow *[]){nf_affine(2), flow}, 2))
    TRY("nf_blocks: part 0", nf_blocks((nf_flow *[]){flow, nf_affine(2)}, 2))
    TRY("nf_invert: `f`", nf_invert(flow))
    TRY("nf_on_context: `f`", nf_on_context(flow, 3, 0))
    TRY("nf_amortized: `f`", nf_amortized(flow, net(3, 4)))
    TRY("nf_amortized: `head`", nf_amortized(nf_affine(2), head))
    TRY("nf_amortized_by_context: `f`", nf_amortized_by_context(flow))
    TRY("nf_context_net: `f`", nf_context_net(reads, net(3, 2)))
    TRY("nf_context_net: `net`", nf_context_net(reader(), head))
    TRY("nf_coupling: `transform`", nf_coupling(2, half, one, net(1, 2)))
    TRY("nf_coupling: `net`", nf_coupling(2, half, nf_affine(1), steering))
    TRY("nf_coupling_by_context: `net`", nf_coupling_by_context(2, half, reader(), steering))
    TRY("nf_autoregressive: `transform`", nf_autoregressive(one, masked(), NULL, NF_FORWARD))
    TRY("nf_autoregressive: `masked`", nf_autoregressive(nf_affine(1), parallel, NULL, NF_FORWARD))
    TRY("nf_autoregressive_by_context: `masked`", nf_autoregressive_by_context(reader(), parallel, NULL, NF_FORWARD))
    TRY("nf_monotone_net: `net`", nf_monotone_net(2, of_one, NULL))
    TRY("nf_pushforward: `base`", nf_pushforward(base, nf_affine(2)))
    TRY("nf_pushforward: `flow`", nf_pushforward(nf_normal(2), flow))
    TRY("nf_conditional_normal: `head`", nf_conditional_normal(2, head))
    TRY("nf_conditional_mixture: `head`", nf_conditional_mixture(2, 3, head))
    TRY("nf_amortized_dist: `q`", nf_amortized_dist(base, net(3, 4)))
    TRY("nf_amortized_dist: `head`", nf_amortized_dist(nf_mixture(2, 3), head))
    TRY("nf_posterior: `flow`", nf_posterior(2, flow))
    TRY("nf_vae_new: `encoder`", nf_vae_new(encoder, nf_diagonal_posterior(2), net(2, 5), NF_BERNOULLI))
    TRY("nf_vae_new: `posterior`", nf_vae_new(net(5, 4), posterior, net(2, 5), NF_BERNOULLI))
    TRY("nf_vae_new: `decoder`", nf_vae_new(net(5, 4), nf_diagonal_posterior(2), decoder, NF_BERNOULLI))
    TRY("nf_model_of_flow: `flow`", nf_model_of_flow(flow, NULL))
    TRY("nf_model_of_dist: `dist`", nf_model_of_dist(base, NULL))
    TRY("nf_model_of_net: `net`", nf_model_of_net(head, NULL))
    TRY("nf_model_of_object: `o`", nf_model_of_object(nf_net_object(head), NULL))
#undef TRY
    nf_flow_free(owner_of_flows);
    for (size_t i = 0; i < 4; i++)
        nf_flow_free(owners[i]);
    nf_dist_free(owner_of_base);
    nf_vae_free(vae);
    cr_assert_eq(alloc_live(), before);
}

Test(parts, of_models)
{
    const size_t before = alloc_live();
    nf_vae *vae = nf_vae_new(net(5, 4), nf_diagonal_posterior(2), net(2, 5), NF_BERNOULLI);
    nf_model *m = nf_model_of_vae(vae, NULL);
    refused(nf_model_of_vae(vae, NULL), "nf_model_of_vae: `vae`, a vae, belongs to", "nf_vae_ref()");
    refused(nf_model_of_object(nf_model_object(m), NULL), "nf_model_of_object: `o`", "belongs to");
    nf_model *again = nf_model_of_object(nf_object_ref(nf_model_object(m)), NULL);
    cr_assert_not_null(again);
    nf_model_free(m);
    cr_assert_gt(nf_model_shape(again)->n_params, 0);
    nf_model_free(again);
    cr_assert_eq(alloc_live(), before);
}

/* nf_object_free() of an object that the caller has given away leaves it to its owner. */
Test(parts, freed_by_another)
{
    const size_t before = alloc_live();
    nf_flow *f = nf_planar(2), *owner = nf_invert(f);
    const size_t owned = alloc_live();
    nf_flow_free(f);
    cr_assert_eq(alloc_live(), owned);
    cr_assert_str_eq(nf_error_message(),
                     "nf_object_free: the planar belongs to a larger object or to a model, and to no caller");
    nf_flow_free(nf_flow_ref(f)); /* a reference of the caller's own */
    cr_assert_eq(alloc_live(), owned);
    nf_flow_ref(f);
    nf_flow_free(owner);
    cr_assert_eq(nf_flow_shape(f)->n_params, 5);
    nf_flow_free(f);
    cr_assert_eq(alloc_live(), before);
}

/* A failed allocation, with parts that occur twice and parts that belong to something else. */
Test(parts, failed_allocations)
{
    for (size_t k = 0, failed = 1; failed; k++) {
        const size_t before = alloc_live();
        nf_flow *f = nf_planar(2), *given = nf_affine(2), *owner = nf_invert(given);
        const size_t owned = alloc_live();
        fail_alloc_once(k);
        nf_flow *chain = nf_chain((nf_flow *[]){f, given, f, NULL}, 3);
        failed = fail_alloc_off();
        cr_assert_null(chain);
        cr_assert_lt(alloc_live(), owned);
        nf_flow_free(owner);
        cr_assert_eq(alloc_live(), before);

        f = nf_planar(2);
        fail_alloc_once(k);
        chain = nf_chain((nf_flow *[]){f, nf_flow_ref(f), nf_affine(2)}, 3);
        failed |= fail_alloc_off();
        nf_flow_free(chain);
        cr_assert_eq(alloc_live(), before);
    }
}
