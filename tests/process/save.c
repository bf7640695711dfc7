/* nf_save on a file that is there: its mode and owner stay, a symbolic link stays and its file is replaced, what killed
   processes have left goes away, and what a living process writes is left alone. */
#include "process.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

enum { KILLS = 100 };
static char folder[64] = "/tmp/nflow-process-XXXXXX";
static nf_model *m;

static const char *in_folder(const char *name)
{
    static char path[4][300];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
    return path[next];
}

static int count_files(void)
{
    int n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(d);
    return n;
}

static struct stat look(const char *path, int (*how)(const char *, struct stat *))
{
    struct stat s;
    MUST(how(path, &s) == 0, "%s: %s", path, strerror(errno));
    return s;
}

static void save(const char *path)
{
    MUST(nf_save(m, path) == NF_OK, "nf_save");
    nf_model *again = nf_load(path, NULL);
    MUST(again, "nf_load");
    nf_model_free(again);
}

static void modes(void)
{
    const char *path = in_folder("model");
    umask(027);
    save(path);
    MUST((look(path, stat).st_mode & 07777) == 0640, "a new file does not follow the umask");
    const mode_t kept[] = {0600, 0644, 0664, 0400, 0604};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        MUST(chmod(path, kept[i]) == 0, "chmod");
        save(path);
        MUST((look(path, stat).st_mode & 07777) == kept[i], "mode %o became %o", kept[i],
             look(path, stat).st_mode & 07777);
    }
    if (getuid() == 0) {
        MUST(chown(path, 1234, 2345) == 0, "chown");
        save(path);
        const struct stat s = look(path, stat);
        MUST(s.st_uid == 1234 && s.st_gid == 2345, "owner %u, group %u", s.st_uid, s.st_gid);
    }
    umask(022);
}

static void links(void)
{
    const char *sub = in_folder("sub"), *file = in_folder("sub/file"), *link = in_folder("link");
    MUST(mkdir(sub, 0700) == 0 && symlink("sub/hop", link) == 0 && symlink("file", in_folder("sub/hop")) == 0, "links");
    for (int time = 0; time < 2; time++) { /* the first time the links lead nowhere */
        const ino_t before = time ? look(file, stat).st_ino : 0;
        save(in_folder("link"));
        MUST(S_ISLNK(look(in_folder("link"), lstat).st_mode), "the link was replaced");
        MUST(S_ISLNK(look(in_folder("sub/hop"), lstat).st_mode), "the second link was replaced");
        MUST(S_ISREG(look(in_folder("sub/file"), lstat).st_mode), "the file was not written");
        MUST(look(in_folder("sub/file"), stat).st_ino != before, "the file was written in place");
        file = in_folder("sub/file");
    }
    MUST(symlink("loop", in_folder("loop")) == 0, "symlink");
    MUST(nf_save(m, in_folder("loop")) == NF_EIO, "a loop of links");
    unlink(in_folder("loop"));
    unlink(in_folder("sub/file"));
    unlink(in_folder("sub/hop"));
    unlink(in_folder("link"));
    MUST(rmdir(in_folder("sub")) == 0, "something is left beside the link's file");
}

static void leavings(void)
{
    const char *path = in_folder("model");
    for (int k = 0; k < KILLS; k++) {
        const pid_t pid = fork();
        if (pid == 0)
            for (;;)
                if (nf_save(m, path) != NF_OK)
                    _exit(1);
        nanosleep(&(struct timespec){.tv_nsec = 1000000 + 137000 * (k % 29)}, NULL);
        kill(pid, SIGKILL);
        int how;
        MUST(waitpid(pid, &how, 0) == pid && WIFSIGNALED(how), "the saving child ended by itself");
        nf_model *whole = nf_load(path, NULL);
        MUST(whole, "half a file");
        nf_model_free(whole);
    }
    /* what a process left whose lock is gone, and what a living one writes: somebody holds its lock */
    close(open(in_folder(".model.nflow-1.tmp"), O_WRONLY | O_CREAT, 0600));
    const int held = open(in_folder(".model.nflow-0.tmp"), O_WRONLY | O_CREAT, 0600);
    MUST(held >= 0 && flock(held, LOCK_EX) == 0, "flock");
    save(path);
    MUST(access(in_folder(".model.nflow-0.tmp"), F_OK) == 0, "a living writer's file was removed");
    MUST(count_files() == 2, "%d files instead of 2", count_files());
    close(held);
    save(path);
    MUST(count_files() == 1, "%d files instead of 1", count_files());
}

/* The library's flock is ours: `before_locking`, if there is one, runs once before the next lock is taken. */
static void (*before_locking)(void);

int flock(int fd, int how)
{
    void (*act)(void) = before_locking;
    before_locking = NULL;
    if (act)
        act();
    return (int)syscall(SYS_flock, fd, how);
}

/* Another writer renames its temporary file, and a third one takes the name and locks it. */
static int third_writer;
static void change_writers(void)
{
    MUST(rename(in_folder(".model.nflow-0.tmp"), in_folder("model")) == 0, "rename");
    third_writer = open(in_folder(".model.nflow-0.tmp"), O_WRONLY | O_CREAT | O_EXCL, 0600);
    MUST(third_writer >= 0 && syscall(SYS_flock, third_writer, LOCK_EX) == 0, "the third writer's file");
}

static void writers_change(void)
{
    close(open(in_folder(".model.nflow-0.tmp"), O_WRONLY | O_CREAT, 0600));
    before_locking = change_writers;
    save(in_folder("model"));
    MUST(before_locking == NULL, "the library takes no lock");
    MUST(access(in_folder(".model.nflow-0.tmp"), F_OK) == 0, "the third writer's file was removed");
    close(third_writer);
    save(in_folder("model"));
    MUST(count_files() == 1, "%d files instead of 1", count_files());
}

/* Several processes save to one name at once: each succeeds, and nothing is left. */
static void save_often(void *user)
{
    (void)user;
    for (int i = 0; i < 100; i++)
        MUST(nf_save(m, in_folder("model")) == NF_OK, "nf_save beside others");
}

static void together(void)
{
    pid_t pid[4];
    for (int i = 0; i < 4; i++)
        if ((pid[i] = fork()) == 0) {
            save_often(NULL);
            _exit(0);
        }
    for (int i = 0; i < 4; i++) {
        int how;
        MUST(waitpid(pid[i], &how, 0) == pid[i] && how == 0, "one of several savers failed");
    }
    save(in_folder("model"));
    MUST(count_files() == 1, "%d files instead of 1", count_files());
}

int main(void)
{
    MUST(mkdtemp(folder), "mkdtemp");
    m = process_model();
    alarm(3 * PATIENCE);
    modes();
    links();
    leavings();
    writers_change();
    together();
    unlink(in_folder("model"));
    MUST(rmdir(folder) == 0, "something is left");
    nf_model_free(m);
    return 0;
}
