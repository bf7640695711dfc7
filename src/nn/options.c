/* Checks of the options of nets, and the options' names in descriptions. */
#include "nn/options.h"
#include "object/fields.h"
#include "base/memory.h"
#include "nn/activation.h"
#include <math.h>

/* Model files contain these names. */
static const char *const units[] = {
    [NF_RELU] = "relu",         [NF_TANH] = "tanh",         [NF_LEAKY_RELU] = "leaky_relu",
    [NF_ELU] = "elu",           [NF_SOFTPLUS] = "softplus", [NF_SIGMOID] = "sigmoid",
    [NF_IDENTITY] = "identity", [NF_SWISH] = "swish",       [NF_LIPSWISH] = "lipswish",
};
static const char *const initialisations[] = {
    [NF_INIT_AUTO] = "auto",   [NF_INIT_HE] = "he",       [NF_INIT_GLOROT] = "glorot",
    [NF_INIT_LECUN] = "lecun", [NF_INIT_TORCH] = "torch", [NF_INIT_SMALL] = "small",
};

nf_status nfi_check_units(const char *who, nf_activation activation, nf_activation output, nf_initialisation init)
{
    if (activation >= NFI_N_NAMES(units) || output >= NFI_N_NAMES(units))
        return nf_error(NF_EARG, "%s: unknown activation %d", who,
                        (int)(activation >= NFI_N_NAMES(units) ? activation : output));
    if (nfi_keeps_argument(output))
        return nf_error(NF_EARG, "%s: `output` is %s, which has a parameter and is for hidden units alone", who,
                        output == NF_SWISH ? "NF_SWISH" : "NF_LIPSWISH");
    if (init >= NFI_N_NAMES(initialisations))
        return nf_error(NF_EARG, "%s: unknown initialisation %d", who, (int)init);
    return NF_OK;
}

nf_status nfi_check_dropout(const char *who, double dropout)
{
    return dropout >= 0 && dropout < 1 ? NF_OK : nf_error(NF_EARG, "%s: `dropout` is %g, not in [0, 1)", who, dropout);
}

nf_status nfi_check_scale(const char *who, const char *name, double scale)
{
    return isfinite(scale) ? NF_OK : nf_error(NF_EARG, "%s: `%s` is not finite", who, name);
}

nf_status nfi_check_hidden(const char *who, size_t n, const size_t *hidden)
{
    if (n && !hidden)
        return nf_error(NF_EARG, "%s: `hidden` is NULL, but n_hidden is %zu", who, n);
    for (size_t l = 0; l < n; l++)
        if (hidden[l] == 0)
            return nf_error(NF_EARG, "%s: hidden[%zu] is 0", who, l);
    return NF_OK;
}

nf_status nfi_write_unit(nf_writer *w, const char *name, nf_activation unit)
{
    return nf_write_choice(w, name, NFI_N_NAMES(units), units, unit);
}

nf_status nfi_read_unit(nf_reader *r, const char *name, nf_activation *unit)
{
    size_t value = *unit;
    nf_status status = nfi_maybe_choice(r, name, NFI_N_NAMES(units), units, &value);
    *unit = (nf_activation)value;
    return status;
}

nf_status nfi_write_init(nf_writer *w, nf_initialisation init)
{
    return nf_write_choice(w, "init", NFI_N_NAMES(initialisations), initialisations, init);
}

nf_status nfi_read_init(nf_reader *r, nf_initialisation *init)
{
    size_t value = *init;
    nf_status status = nfi_maybe_choice(r, "init", NFI_N_NAMES(initialisations), initialisations, &value);
    *init = (nf_initialisation)value;
    return status;
}

size_t *nfi_read_hidden(nf_reader *r, size_t *n)
{
    *n = nf_read_length(r, "hidden");
    size_t *hidden = nfi_calloc(*n, sizeof *hidden);
    if (hidden && nf_read_has(r, "hidden") && nf_read_integers(r, "hidden", *n, hidden) != NF_OK) {
        nfi_free(hidden);
        return NULL;
    }
    return hidden;
}
