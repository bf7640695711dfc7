/* A status, and words of the message that goes with it; a result, or none. */
#ifndef EXPECT_H
#define EXPECT_H
#include <criterion/criterion.h>
#include <nflow/model.h>
#include <string.h>

static inline void expect(nf_status status, nf_status wanted, const char *words)
{
    cr_assert_eq(status, wanted, "%s: %s", nf_status_text(status), nf_error_message());
    cr_assert_eq(nf_error_status(), wanted);
    cr_assert(strstr(nf_error_message(), words), "%s", nf_error_message());
}

/* A model that a constructor must have made. */
static inline nf_model *made(nf_model *m)
{
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

/* A constructor made nothing, and said why. */
static inline void expect_none(const void *result, nf_status wanted, const char *words)
{
    cr_assert_null(result, "%s was accepted", words);
    expect(nf_error_status(), wanted, words);
}

#endif
