/* Status codes and the thread's last error message. The library's only other writable
   state is which instruction set is in use (instruction_set.c). */
#include <nflow/base.h>
#include <stdarg.h>
#include <stdio.h>

enum { MESSAGE_SIZE = 512 };
static _Thread_local char message[MESSAGE_SIZE];
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
    /* The arguments may contain the present message: format into a fresh buffer first. */
    char text[MESSAGE_SIZE];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(message, sizeof message, "%s", n >= 0 ? text : nf_status_text(status));
    last_status = status;
    return status;
}

const char *nf_version(void)
{
    return NFI_VERSION;
}
