/* Why a target rejected its first draw: the callback's message for the lowest sample with a message, in the first
   step that has one. The tiles of a step come in any order and from any thread. So the message of a lower sample may
   replace the one that is there, until the step is over or somebody has been given the text. */
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
