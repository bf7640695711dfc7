/* The thread's error message, set aside while a user's callback runs. This shows which message the callback itself has
   left. If the call succeeds, the callback's message is forgotten. */
#ifndef NFI_STATUS_H
#define NFI_STATUS_H
#include <nflow/base.h>

enum { NFI_MESSAGE_SIZE = 512 };

typedef struct nfi_message {
    nf_status status;
    char text[NFI_MESSAGE_SIZE];
} nfi_message;

/* Copies the message and the status of the calling thread, then sets them to "" and NF_OK. */
void nfi_message_set_aside(nfi_message *kept);
/* Makes the kept message and status those of the calling thread again. */
void nfi_message_put_back(const nfi_message *kept);

/* For a constructor that was given NULL for `what`, most often because the call that should have made it has failed.
   The message says so and keeps the thread's last error, whose status stays and is returned. It cannot be known whether
   that error is the reason, so the message calls it the last one before the call. Without an earlier error the status
   is NF_EARG. */
nf_status nfi_missing(const char *who, const char *what);

#endif
