/* Philox4x32-10 as a gsl_rng_type. The stream consists of the words of the blocks 0, 1, 2 ... of one name (seed, step,
   sample, site). After nf_gsl_philox_seek these are the words that nf_noise_normal and nf_noise_uniform turn into the
   features of that sample. When the block number wraps, the stream goes on with the next sample, then site, then step:
   the period is 2^130 words. */
#include "math/noise.h"
#include <nflow/gsl.h>

typedef struct philox {
    uint32_t counter[4], key[2], word[4];
    uint32_t used; /* how many of the four words */
} philox;

static void philox_seek(philox *p, const nf_noise *noise)
{
    nfi_noise_block(noise, noise->first_sample, 0, p->counter, p->key);
    p->used = 4;
}

static void philox_set(void *state, unsigned long seed)
{
    philox_seek(state, &(nf_noise){.seed = seed});
}

static unsigned long philox_get(void *state)
{
    philox *p = state;
    if (p->used == 4) {
        uint32_t *c = p->counter;
        nf_philox(c, p->key, p->word);
        p->used = 0;
        if (++c[1] == 0 && ++c[0] == 0 && ++c[2] == 0)
            ++c[3];
    }
    return p->word[p->used++];
}

static double philox_get_double(void *state)
{
    return (double)philox_get(state) * 0x1p-32;
}

static const gsl_rng_type philox_type = {
    "philox4x32-10", UINT32_MAX, 0, sizeof(philox), philox_set, philox_get, philox_get_double,
};

const gsl_rng_type *nf_gsl_philox(void)
{
    return &philox_type;
}

nf_status nf_gsl_philox_seek(gsl_rng *r, const nf_noise *noise)
{
    if (!r || r->type != &philox_type)
        return nf_error(NF_EARG, "nf_gsl_philox_seek: r is %s, not a generator of type nf_gsl_philox()",
                        r ? r->type->name : "NULL");
    if (!noise)
        return nf_error(NF_EARG, "nf_gsl_philox_seek: noise is NULL");
    philox_seek(r->state, noise);
    return NF_OK;
}
