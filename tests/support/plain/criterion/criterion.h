/* Stands in for <criterion/criterion.h>. Criterion starts each test by executing the program again. Under qemu's user
   mode the host's kernel refuses that; under a sanitizer or valgrind it takes long. Here a test is a child made by fork
   alone, and compiles in a third of the time. The macros are those that nflow's tests use, and mean what Criterion's
   mean; runner.c is the program around them. */
#ifndef PLAIN_CRITERION_H
#define PLAIN_CRITERION_H
#pragma GCC system_header /* as Criterion's own macros, these do not answer for the types of what they compare */
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct criterion_test_params {
    size_t size;
    void *params;
    size_t length;
};
struct criterion_test_set {
    size_t tests;
};
struct criterion_global_stats {
    size_t tests_passed, tests_failed, tests_crashed;
};

/* A test, or, if its name is NULL, what holds for all tests of a suite. */
typedef struct plain_test {
    const char *suite, *name;
    void (*body)(void);
    void (*body_at)(size_t *parameter); /* parameters are indices in all of our tests */
    struct criterion_test_params (*parameters)(void);
    void (*init)(void), (*fini)(void);
    bool disabled;
    struct plain_test *next;
} plain_test;

void plain_add(plain_test *test);
void plain_add_pre_all(void (*hook)(struct criterion_test_set *));
void plain_add_post_all(void (*hook)(struct criterion_global_stats *));

/* ---- tests ---- */

#define PLAIN_BEFORE_MAIN(name)                             \
    __attribute__((constructor)) static void name##_(void); \
    static void name##_(void)

#define Test(Suite, Name, ...)                                                                                  \
    static void plain_##Suite##_##Name(void);                                                                   \
    PLAIN_BEFORE_MAIN(plain_add_##Suite##_##Name)                                                               \
    {                                                                                                           \
        static plain_test test = {.suite = #Suite, .name = #Name, .body = plain_##Suite##_##Name, __VA_ARGS__}; \
        plain_add(&test);                                                                                       \
    }                                                                                                           \
    static void plain_##Suite##_##Name(void)

#define TestSuite(Suite, ...)                                     \
    PLAIN_BEFORE_MAIN(plain_add_suite_##Suite)                    \
    {                                                             \
        static plain_test suite = {.suite = #Suite, __VA_ARGS__}; \
        plain_add(&suite);                                        \
    }                                                             \
    _Static_assert(true, "a semicolon follows")

#define ParameterizedTestParameters(Suite, Name) \
    static struct criterion_test_params plain_parameters_##Suite##_##Name(void)

#define ParameterizedTest(Parameter, Suite, Name, ...)                             \
    static void plain_##Suite##_##Name(Parameter);                                 \
    PLAIN_BEFORE_MAIN(plain_add_##Suite##_##Name)                                  \
    {                                                                              \
        static plain_test test = {.suite = #Suite,                                 \
                                  .name = #Name,                                   \
                                  .body_at = plain_##Suite##_##Name,               \
                                  .parameters = plain_parameters_##Suite##_##Name, \
                                  __VA_ARGS__};                                    \
        plain_add(&test);                                                          \
    }                                                                              \
    static void plain_##Suite##_##Name(Parameter)

#define cr_make_param_array(Type, Array, Length)                    \
    (struct criterion_test_params)                                  \
    {                                                               \
        .size = sizeof(Type), .params = (Array), .length = (Length) \
    }

#define ReportHook(Kind) PLAIN_HOOK_##Kind
#define PLAIN_HOOK_PRE_ALL                                  \
    static void plain_pre_all(struct criterion_test_set *); \
    PLAIN_BEFORE_MAIN(plain_add_hook_before)                \
    {                                                       \
        plain_add_pre_all(plain_pre_all);                   \
    }                                                       \
    static void plain_pre_all
#define PLAIN_HOOK_POST_ALL                                      \
    static void plain_post_all(struct criterion_global_stats *); \
    PLAIN_BEFORE_MAIN(plain_add_hook_after)                      \
    {                                                            \
        plain_add_post_all(plain_post_all);                      \
    }                                                            \
    static void plain_post_all

/* ---- assertions: a message, printf's, may follow ---- */

/* Ends the test. */
_Noreturn void plain_assert_failed(const char *file, int line, const char *text, const char *message, ...)
    __attribute__((format(printf, 4, 5)));
/* The test goes on, and has failed. */
void plain_expect_failed(const char *file, int line, const char *text, const char *message, ...)
    __attribute__((format(printf, 4, 5)));
_Noreturn void plain_skip(const char *message, ...) __attribute__((format(printf, 1, 2)));

#define PLAIN_CHECK(kind, condition, text, ...) \
    ((condition) ? (void)0 : plain_##kind##_failed(__FILE__, __LINE__, text, "" __VA_ARGS__))
#define PLAIN_COMPARE(kind, a, op, b, ...) PLAIN_CHECK(kind, (a)op(b), #a " " #op " " #b, __VA_ARGS__)
#define PLAIN_NEAR(kind, a, b, most, ...) \
    PLAIN_CHECK(kind, (b) - (a) <= (most) && (a) - (b) <= (most), #a " near " #b, __VA_ARGS__)

#define cr_assert(condition, ...) PLAIN_CHECK(assert, condition, #condition, __VA_ARGS__)
#define cr_assert_not(condition, ...) PLAIN_CHECK(assert, !(condition), "not " #condition, __VA_ARGS__)
#define cr_assert_eq(a, b, ...) PLAIN_COMPARE(assert, a, ==, b, __VA_ARGS__)
#define cr_assert_neq(a, b, ...) PLAIN_COMPARE(assert, a, !=, b, __VA_ARGS__)
#define cr_assert_lt(a, b, ...) PLAIN_COMPARE(assert, a, <, b, __VA_ARGS__)
#define cr_assert_leq(a, b, ...) PLAIN_COMPARE(assert, a, <=, b, __VA_ARGS__)
#define cr_assert_gt(a, b, ...) PLAIN_COMPARE(assert, a, >, b, __VA_ARGS__)
#define cr_assert_geq(a, b, ...) PLAIN_COMPARE(assert, a, >=, b, __VA_ARGS__)
#define cr_assert_null(p, ...) PLAIN_COMPARE(assert, p, ==, NULL, __VA_ARGS__)
#define cr_assert_not_null(p, ...) PLAIN_COMPARE(assert, p, !=, NULL, __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...) PLAIN_CHECK(assert, strcmp(a, b) == 0, #a " is " #b, __VA_ARGS__)
#define cr_assert_str_neq(a, b, ...) PLAIN_CHECK(assert, strcmp(a, b) != 0, #a " is not " #b, __VA_ARGS__)
#define cr_assert_arr_eq(a, b, bytes, ...) PLAIN_CHECK(assert, memcmp(a, b, bytes) == 0, #a " is " #b, __VA_ARGS__)
#define cr_assert_arr_neq(a, b, bytes, ...) PLAIN_CHECK(assert, memcmp(a, b, bytes) != 0, #a " is not " #b, __VA_ARGS__)
#define cr_assert_float_eq(a, b, most, ...) PLAIN_NEAR(assert, a, b, most, __VA_ARGS__)

#define cr_expect(condition, ...) PLAIN_CHECK(expect, condition, #condition, __VA_ARGS__)
#define cr_expect_not(condition, ...) PLAIN_CHECK(expect, !(condition), "not " #condition, __VA_ARGS__)
#define cr_expect_eq(a, b, ...) PLAIN_COMPARE(expect, a, ==, b, __VA_ARGS__)
#define cr_expect_neq(a, b, ...) PLAIN_COMPARE(expect, a, !=, b, __VA_ARGS__)
#define cr_expect_lt(a, b, ...) PLAIN_COMPARE(expect, a, <, b, __VA_ARGS__)
#define cr_expect_leq(a, b, ...) PLAIN_COMPARE(expect, a, <=, b, __VA_ARGS__)
#define cr_expect_gt(a, b, ...) PLAIN_COMPARE(expect, a, >, b, __VA_ARGS__)
#define cr_expect_geq(a, b, ...) PLAIN_COMPARE(expect, a, >=, b, __VA_ARGS__)
#define cr_expect_null(p, ...) PLAIN_COMPARE(expect, p, ==, NULL, __VA_ARGS__)
#define cr_expect_not_null(p, ...) PLAIN_COMPARE(expect, p, !=, NULL, __VA_ARGS__)
#define cr_expect_str_eq(a, b, ...) PLAIN_CHECK(expect, strcmp(a, b) == 0, #a " is " #b, __VA_ARGS__)
#define cr_expect_str_neq(a, b, ...) PLAIN_CHECK(expect, strcmp(a, b) != 0, #a " is not " #b, __VA_ARGS__)
#define cr_expect_arr_eq(a, b, bytes, ...) PLAIN_CHECK(expect, memcmp(a, b, bytes) == 0, #a " is " #b, __VA_ARGS__)
#define cr_expect_arr_neq(a, b, bytes, ...) PLAIN_CHECK(expect, memcmp(a, b, bytes) != 0, #a " is not " #b, __VA_ARGS__)
#define cr_expect_float_eq(a, b, most, ...) PLAIN_NEAR(expect, a, b, most, __VA_ARGS__)

#define cr_skip(...) plain_skip("" __VA_ARGS__)
#define cr_skip_test(...) plain_skip("" __VA_ARGS__)

#endif
