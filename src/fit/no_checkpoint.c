/* For builds without Jansson: every call for a checkpoint is refused. */
#include "fit/fitter.h"

static nf_status refuse(const char *who)
{
    return nf_error(NF_EUNSUPPORTED, "%s: this build has no Jansson, so it has no checkpoints", who);
}

nf_status nfi_checkpoint_write(const nf_fitter *f, const char *path, const char *who)
{
    (void)f, (void)path;
    return refuse(who);
}

nf_status nfi_checkpoint_read(nf_fitter *f, const char *path, const char *who)
{
    (void)f, (void)path;
    return refuse(who);
}
