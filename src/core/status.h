/* The thread's error message, set aside while a user's callback runs: what the callback says can then be told from what
   was there before, and is forgotten where the call goes well. */
#ifndef NFI_STATUS_H
#define NFI_STATUS_H
#include <nflow/base.h>

enum { NFI_MESSAGE_SIZE = 512 };

typedef struct nfi_message {
    nf_status status;
    char text[NFI_MESSAGE_SIZE];
} nfi_message;

/* Copies message and status of the calling thread, then clears them: "" and NF_OK. */
void nfi_message_set_aside(nfi_message *kept);
/* Makes them the thread's again. */
void nfi_message_put_back(const nfi_message *kept);

#endif
