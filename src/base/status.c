/* Status codes and the last error message of each thread. The library's only other writable state is the number of the
   instruction set in use (instruction_set.c). */
#include "base/status.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char message[NFI_MESSAGE_SIZE];
static _Thread_local nf_status last_status = NF_OK;

const char *nf_status_text(nf_status status)
{
    switch (status) {
#define CASE(name, value, text) \
    case name:                  \
        return text;
        NF_STATUS_LIST(CASE)
#undef CASE
    }
    return "unknown status";
}

const char *nf_error_message(void)
{
    return message;
}

nf_status nf_error_status(void)
{
    return last_status;
}

nf_status nf_error(nf_status status, const char *format, ...)
{
    /* The arguments may point to the present message, so format into a new buffer first. */
    char text[NFI_MESSAGE_SIZE];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(message, sizeof message, "%s", n >= 0 ? text : nf_status_text(status));
    last_status = status;
    return status;
}

nf_status nfi_missing(const char *who, const char *what)
{
    if (last_status == NF_OK)
        return nf_error(NF_EARG, "%s: %s is NULL", who, what);
    char text[NFI_MESSAGE_SIZE];
    const int begun = snprintf(text, sizeof text, "%s: %s is NULL (the last error before this call: ", who, what);
    const size_t used = begun > 0 ? (size_t)begun : 0, length = strlen(message);
    const size_t room = used + 2 < sizeof text ? sizeof text - used - 2 : 0; /* for the bracket and the end */
    const bool fits = length <= room || room < 3; /* if not, its end is kept, where the first failure stands */
    return nf_error(last_status, "%s%s%s)", text, fits ? "" : "...", fits ? message : message + length - room + 3);
}

void nfi_message_set_aside(nfi_message *kept)
{
    snprintf(kept->text, sizeof kept->text, "%s", message);
    kept->status = last_status;
    message[0] = 0;
    last_status = NF_OK;
}

void nfi_message_put_back(const nfi_message *kept)
{
    snprintf(message, sizeof message, "%s", kept->text);
    last_status = kept->status;
}

const char *nf_version(void)
{
    return NFI_VERSION;
}
