/* What constructors check of a schedule. */
#ifndef NFI_SCHEDULE_H
#define NFI_SCHEDULE_H
#include <nflow/schedule.h>

/* NF_EARG if the kind is unknown, if it is the default one beside numbers that it does not read, or if a number or the
   function that it needs is missing. `name` is the option's. */
nf_status nfi_check_schedule(const char *who, const char *name, const nf_schedule *s);

#endif
