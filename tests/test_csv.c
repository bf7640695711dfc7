/* Tables of numbers as text: separators, quotes, names, line ends, what is refused and where. */
#include "fail_alloc.h"
#include "support/expect.h"
#include "temp_files.h"
#include <locale.h>
#include <nflow/data.h>
#include <zlib.h>

static char path[128];

static void setup(void)
{
    snprintf(path, sizeof path, "%s/data.csv", temp_folder());
}

TestSuite(csv, .init = setup, .fini = temp_teardown);

static void load(const char *text, const nf_csv_options *options, nf_table *t)
{
    file_write(path, text, strlen(text));
    cr_assert_eq(nf_load_csv(path, options, t), NF_OK, "%s: %s", text, nf_error_message());
}

/* The table is that of 1 2.5 -3 / 4e2 .5 -0.125, with the names given, separated by bars; none: NULL. */
static void expect_table(const char *text, const nf_csv_options *options, const char *names)
{
    static const double wanted[] = {1, 2.5, -3, 400, 0.5, -0.125};
    nf_table t;
    load(text, options, &t);
    cr_assert(t.n == 2 && t.dim == 3, "%s: %zu x %zu", text, t.n, t.dim);
    for (size_t i = 0; i < 6; i++)
        cr_assert(t.data[i] == (nf_real)wanted[i], "%s: number %zu is %g", text, i, (double)t.data[i]);
    cr_assert_eq(t.name == NULL, names == NULL, "%s", text);
    char all[128] = "";
    for (size_t i = 0; names && i < 3; i++)
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? "|" : "", t.name[i]);
    cr_assert(!names || strcmp(all, names) == 0, "%s: '%s'", text, all);
    nf_table_free(&t);
    cr_assert(!t.data && !t.name);
}

Test(csv, separators_lines_and_names)
{
    expect_table("1,2.5,-3\n4e2,.5,-0.125\n", NULL, NULL);
    expect_table("1,2.5,-3\r\n4e2,.5,-0.125", NULL, NULL);
    expect_table("\n\n  1 , 2.5,-3 \n\r\n+4E+2,\t.5 ,-0.125\n\n", NULL, NULL);
    expect_table("a,b c, d \n1,2.5,-3\n400,0.5,-.125\n", NULL, "a|b c|d");
    expect_table("\xef\xbb\xbf"
                 "a,b,c\n1,2.5,-3\n400,0.5,-.125\n",
                 NULL, "a|b|c");
    expect_table("a\tb, c\td\n1\t2.5\t-3\n400\t0.5\t-.125\n", NULL, "a|b, c|d");
    expect_table("a;\"b;,\"\"x\"\"\n\";d\n1;\"2.5\" ;-3\n400;0.5;-.125\n", NULL, "a|b;,\"x\"\n|d");
    expect_table("a,,3\n1,2.5,-3\n400,0.5,-.125\n", NULL, "a||3");
    expect_table(" 1  2.5   -3 \n400 0.5 -.125 \r\n", NULL, NULL);
    expect_table(" 1  2.5\t-3 \n400 0.5 -.125 \r\n", &(nf_csv_options){.separator = ' '}, NULL);
    expect_table("x  y \"z z\"\n1 2.5 -3\n400 0.5 -.125\n", NULL, "x|y|z z");
    expect_table("7,8,9\n1,2.5,-3\n400,0.5,-.125\n", &(nf_csv_options){.header = NF_CSV_NAMES}, "7|8|9");
    expect_table("1|2.5|-3\n400|0.5|-.125\n", &(nf_csv_options){.separator = '|', .header = NF_CSV_NO_NAMES}, NULL);
    expect_table("1, 2.5, -3\n400, 0.5, -.125", &(nf_csv_options){.separator = ','}, NULL);
}

Test(csv, comments)
{
    const nf_csv_options hash = {.comment = '#'};
    expect_table("#\n# a;b \"c\n1,2.5,-3\n# 5,6\n4e2,.5,-0.125\n#", &hash, NULL);
    expect_table(" \n#a;b;c\r\n\n#\na,b#,c\n1,2.5,-3\n# 5,6,7\n400,0.5,-.125\n\n# end\n", &hash, "a|b#|c");
    expect_table("a,\"\n#b\",c\n1,2.5,-3\n400,0.5,-.125", &hash, "a|\n#b|c");
    expect_table("#a,b,c\n1,2.5,-3\n400,0.5,-.125\n", NULL, "#a|b|c");
    expect_table("%1\n1 2.5 -3\n%\n400 0.5 -.125\n", &(nf_csv_options){.comment = '%'}, NULL);
    nf_table t;
    file_write(path, "# 1\n1,2\n# 2\n3,x\n", 16);
    expect(nf_load_csv(path, &hash, &t), NF_EFORMAT, "line 4, column 2: 'x' is no number");
    file_write(path, "1,2\n3, #4\n", 11);
    expect(nf_load_csv(path, &hash, &t), NF_EFORMAT, "'#4' is no number");
    file_write(path, "# 1\n#\n", 6);
    expect(nf_load_csv(path, &hash, &t), NF_EFORMAT, "there are no rows");
    static const char bad[] = {'5', '-', '"', '\n', ' ', 'e'};
    for (size_t i = 0; i < sizeof bad; i++)
        expect(nf_load_csv(path, &(nf_csv_options){.comment = bad[i]}, &t), NF_EARG, "`comment`");
    expect(nf_load_csv(path, &(nf_csv_options){.comment = ';', .separator = ';'}, &t), NF_EARG, "`comment`");
}

Test(csv, one_column)
{
    nf_table t;
    load("height\n1.5\n2\n", NULL, &t);
    cr_assert(t.n == 2 && t.dim == 1 && t.data[0] == NF_R(1.5) && strcmp(t.name[0], "height") == 0);
    nf_table_free(&t);
}

/* Longer than the blocks that are read, with a separator in every place of a block. */
Test(csv, long_files)
{
    enum { ROWS = 20011 };
    char *text = malloc(ROWS * 16);
    size_t length = 0;
    for (size_t i = 0; i < ROWS; i++)
        length += (size_t)sprintf(text + length, "%zu,\"%zu\"\n", i, i % 97);
    gzFile f = gzopen(path, "wb");
    cr_assert_eq(gzwrite(f, text, (unsigned)length), (int)length);
    gzclose(f);
    nf_table t;
    cr_assert_eq(nf_load_csv(path, NULL, &t), NF_OK, "%s", nf_error_message());
    cr_assert(t.n == ROWS && t.dim == 2);
    for (size_t i = 0; i < ROWS; i++)
        cr_assert(t.data[2 * i] == (nf_real)i && t.data[2 * i + 1] == (nf_real)(i % 97));
    nf_table_free(&t);
    free(text);
}

static void refused(const char *text, const char *words)
{
    nf_table t;
    file_write(path, text, strlen(text));
    expect(nf_load_csv(path, &(nf_csv_options){.max_bytes = 1000}, &t), NF_EFORMAT, words);
    cr_assert(strstr(nf_error_message(), path), "%s", nf_error_message());
    cr_assert(!t.data && !t.name && t.n == 0);
}

Test(csv, bad_files_are_refused)
{
    refused("", "there are no rows");
    refused("\n \n", "there are no rows");
    refused("a,b\n", "there are no rows below the names");
    refused("age,b\n1,2\n\n,4\n", "line 4, column 1 (age): the value is missing");
    refused("1,2\n3,NA\n", "line 2, column 2: the value is missing");
    refused("1,2\n3,nan\n", "the value is missing");
    refused("1,2\n3,?\n", "the value is missing");
    refused("1,2\n3,4x\n", "line 2, column 2: '4x' is no number");
    refused("1;2\n3;4,5\n", "line 2, column 2: '4,5' is no number");
    refused("1,2\n3,1e999\n", "'1e999' is not finite");
    refused("1,2\n3,-inf\n", "'-inf' is not finite");
    refused("1,2\n3\n", "line 2 has 1 fields, but the first has 2");
    refused("1,2\n3,4,5\n", "line 2 has 3 fields, but the first has 2");
    refused("a,\"b\nc\"\n1,2\n3,x\n", "line 4, column 2 (b\nc): 'x' is no number");
    refused("a,b\n1,\"2\n", "line 2: a quote that is not closed");
    refused("a,b\n1,\"2\"3\n", "line 2: text behind a field in quotes");
    char wide[6000] = "1,";
    memset(wide + 2, '7', 5000);
    refused(wide, "a field of more than 4096 bytes");
    char tall[2000] = "";
    for (size_t i = 0; i < 500; i++)
        strcat(tall, "1\n");
    refused(tall, "more numbers than max_bytes, 1000, has room for");
    nf_table t;
    file_write(path, "1,2\n3\0,4\n", 9);
    expect(nf_load_csv(path, NULL, &t), NF_EFORMAT, "line 2: a zero byte");
    if (sizeof(nf_real) == sizeof(float)) {
        file_write(path, "1e300\n", 6);
        expect(nf_load_csv(path, NULL, &t), NF_EFORMAT, "is too large for single precision");
    }
    expect(nf_load_csv(path, &(nf_csv_options){.separator = '5'}, &t), NF_EARG, "`separator`");
    expect(nf_load_csv(path, &(nf_csv_options){.separator = '.'}, &t), NF_EARG, "`separator`");
    expect(nf_load_csv(path, &(nf_csv_options){.header = (nf_csv_header)3}, &t), NF_EARG, "unknown header 3");
    expect(nf_load_csv(NULL, NULL, &t), NF_EARG, "path is NULL");
    expect(nf_load_csv(path, NULL, NULL), NF_EARG, "out is NULL");
    remove(path);
    expect(nf_load_csv(path, NULL, &t), NF_EIO, path);
}

Test(csv, failing_allocations)
{
    file_write(path, "a,b\n1,2\n3,4\n", 12);
    for (size_t k = 0;; k++) {
        nf_table t;
        const size_t before = alloc_live();
        fail_alloc_after(k);
        const nf_status status = nf_load_csv(path, NULL, &t);
        const bool failed = fail_alloc_off();
        cr_assert_eq(status, failed ? NF_ENOMEM : NF_OK);
        nf_table_free(&t);
        cr_assert_eq(alloc_live(), before);
        if (!failed)
            break;
    }
}
