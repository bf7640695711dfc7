#include <criterion/criterion.h>
Test(checkpoint, todo) {}
