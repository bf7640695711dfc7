/* Criterion starts libgit2 in every test, for differences of texts that our tests do not ask for; libgit2 then reads
   all certificates of the machine, which takes longer than most tests. So the program has the two functions itself. */
__attribute__((visibility("default"))) int git_libgit2_init(void);
__attribute__((visibility("default"))) int git_libgit2_shutdown(void);

int git_libgit2_init(void)
{
    return 1;
}

int git_libgit2_shutdown(void)
{
    return 0;
}
