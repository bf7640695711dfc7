/* Why a target rejected its first draw: the callback's words for the lowest sample of the first step that has any. A
   step's tiles come in any order and from any thread, so a text may be replaced by that of a lower sample until the
   step is over, or until somebody has been given it. */
#include "vi/target.h"
#include <stdio.h>

nf_status nfi_rejection_begin(nfi_rejection *r)
{
    return pthread_mutex_init(&r->lock, NULL) ? nf_error(NF_ENOMEM, "out of memory: a mutex") : NF_OK;
}

void nfi_rejection_end(nfi_rejection *r)
{
    pthread_mutex_destroy(&r->lock);
}

void nfi_rejection_note(nfi_rejection *r, size_t sample)
{
    pthread_mutex_lock(&r->lock);
    if (!r->final && (!r->text[0] || sample < r->sample)) {
        snprintf(r->text, sizeof r->text, "%s", nf_error_message());
        r->sample = sample;
    }
    pthread_mutex_unlock(&r->lock);
}

const char *nfi_rejection_settle(nfi_rejection *r)
{
    pthread_mutex_lock(&r->lock);
    bool settled = r->final = r->text[0] != 0;
    pthread_mutex_unlock(&r->lock);
    return settled ? r->text : "";
}
