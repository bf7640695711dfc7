/* A net of a type of the test's own that prepares a number: y = x + prep, prep = theta + state. */
#ifndef PREPARED_NET_H
#define PREPARED_NET_H
#include <nflow/model.h>

static bool prepare_fails;    /* the next preparations do */
static size_t times_prepared; /* by all such nets */

/* In training the state advances, as it may. */
static nf_status prepare_sum(const nf_object *o, nf_mode mode, const nf_real *theta, nf_real *state, nf_real *prep)
{
    (void)o;
    if (mode == NF_TRAIN)
        state[0] += 1;
    prep[0] = theta[0] + state[0];
    times_prepared++;
    return prepare_fails ? nf_error(NF_ENOCONV, "as it was told") : NF_OK;
}

static nf_status add_prepared(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved)
{
    (void)o, (void)saved;
    for (size_t s = 0; s < p->ld; s++)
        y[s] = x[s] + p->prep[0];
    return NF_OK;
}

static nf_status no_net_gradient(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                                 const nf_real *gy, nf_real *gx, const nf_grad *g)
{
    (void)o, (void)p, (void)x, (void)y, (void)saved, (void)gy, (void)gx, (void)g;
    return NF_OK;
}

/* A model of one, which starts with zeros. */
static nf_model *prepared_net(void)
{
    static const nf_net_type type = {.part = {.name = "own", .prepare = prepare_sum},
                                     .abi = sizeof(nf_net_type),
                                     .apply = add_prepared,
                                     .vjp = no_net_gradient};
    const nf_shape own = {.dim_in = 1, .dim_out = 1, .n_params = 1, .n_state = 1, .n_prep = 1};
    return nf_model_of_net(nf_net_new(&type, &own, NULL, NULL, 0), NULL);
}

#endif
