/* Why a target rejected its first draw: the callback's message for the lowest sample with a message, in the first
   step that has rejected draws; if none of them has a message, where the lowest was. The tiles of a step come in any
   order and from any thread. So the message of a lower sample may replace the one that is there, until the step is over
   or somebody has been given the text. */
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

void nfi_rejection_note(nfi_rejection *r, size_t sample, const char *text, bool words)
{
    pthread_mutex_lock(&r->lock);
    const bool better = words != r->words ? words : sample < r->sample;
    if (!r->final && (!r->text[0] || better)) {
        snprintf(r->text, sizeof r->text, "%s", text);
        r->words = words;
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
