/* Checks of nets' options, and reading them back. */
#include "nn/options.h"
#include "nn/activation.h"
#include <inttypes.h>
#include <math.h>

nf_status nfi_check_units(const char *who, nf_activation activation, nf_activation output, nf_initialisation init)
{
    if (activation > NF_LIPSWISH || output > NF_LIPSWISH)
        return nf_error(NF_EARG, "%s: unknown activation %d", who,
                        (int)(activation > NF_LIPSWISH ? activation : output));
    if (nfi_keeps_argument(output))
        return nf_error(NF_EARG, "%s: `output` is %s, which has a parameter and is for hidden units alone", who,
                        output == NF_SWISH ? "NF_SWISH" : "NF_LIPSWISH");
    if (init > NF_INIT_SMALL)
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

bool nfi_read_choice(nf_reader *r, const char *name, unsigned last, unsigned *value)
{
    uint64_t read = 0;
    if (nf_read_integer(r, name, &read) != NF_OK)
        return false;
    if (read > last)
        nf_error(NF_EFORMAT, "nf_load: a net's %s %" PRIu64 " is unknown", name, read);
    *value = (unsigned)(read <= last ? read : 0);
    return read <= last;
}
