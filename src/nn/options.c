/* The names of what nets offer. Model files contain them. */
#include "nn/options.h"
#include "nn/activation.h"

static const char *const units[] = {
    [NF_RELU] = "relu",         [NF_TANH] = "tanh",         [NF_LEAKY_RELU] = "leaky_relu",
    [NF_ELU] = "elu",           [NF_SOFTPLUS] = "softplus", [NF_SIGMOID] = "sigmoid",
    [NF_IDENTITY] = "identity", [NF_SWISH] = "swish",       [NF_LIPSWISH] = "lipswish",
};
static const char *const initialisations[] = {
    [NF_INIT_AUTO] = "auto",   [NF_INIT_HE] = "he",       [NF_INIT_GLOROT] = "glorot",
    [NF_INIT_LECUN] = "lecun", [NF_INIT_TORCH] = "torch", [NF_INIT_SMALL] = "small",
};
const nf_choices nfi_units = NFI_CHOICES("activation", units);
const nf_choices nfi_initialisations = NFI_CHOICES("initialisation", initialisations);

nf_status nfi_check_output(const char *who, nf_activation output)
{
    if (!nfi_keeps_argument(output))
        return NF_OK;
    return nf_error(NF_EARG, "%s: `output` is %s, which has a parameter and is for hidden units alone", who,
                    output == NF_SWISH ? "NF_SWISH" : "NF_LIPSWISH");
}
