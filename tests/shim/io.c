/*
 * Preloaded into a program: fails, kills at, counts or records its I/O calls on files below $IO_UNDER.
 *
 * IO_CALL=name IO_AT=n IO_TIMES=k IO_ERRNO=e   the calls n to n+k-1 of that name fail with errno e; 0 kills the process instead
 * IO_NAMED=text                                only files whose path has this in it are counted and fail
 * IO_COUNTS=file                               at the end, a line "name count" for each name
 * IO_SYNCED=file                               for each fsync and fdatasync a line "device inode length": what a power loss leaves
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

enum { FDATASYNC, FSYNC, WRITE, PWRITE, RENAME, LINK, UNLINK, FTRUNCATE, OPEN, READ, STAT, OPENDIR, CALLS };
static const char *names[] = {"fdatasync", "fsync", "write",     "pwrite", "rename", "link",
                              "unlink",    "ftruncate", "open", "read",   "stat",   "opendir"};
static atomic_long counts[CALLS];

static const char *setting(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

static int concerns(const char *path) {
    const char *under = setting("IO_UNDER");
    return *under && !strncmp(path, under, strlen(under)) && strstr(path, setting("IO_NAMED"));
}

static int concerns_fd(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return concerns(path);
}

/* Counts a call that concerns; whether it fails. */
static int fails(int call) {
    long number = atomic_fetch_add(&counts[call], 1) + 1, at = atol(setting("IO_AT"));
    if (strcmp(setting("IO_CALL"), names[call]) || number < at || number >= at + atol(setting("IO_TIMES"))) return 0;
    if (!atoi(setting("IO_ERRNO"))) kill(getpid(), SIGKILL);
    errno = atoi(setting("IO_ERRNO"));
    return 1;
}

static void note_synced(int fd) {
    struct stat file;
    char line[128];
    int before = errno, to = *setting("IO_SYNCED") ? open(setting("IO_SYNCED"), O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;
    if (to >= 0 && !fstat(fd, &file)) {
        int length = snprintf(line, sizeof line, "%lu %lu %ld\n", file.st_dev, file.st_ino, file.st_size);
        if (REAL(write)(to, line, length) != length) abort();
    }
    if (to >= 0) close(to);
    errno = before;
}

__attribute__((destructor)) static void tell_counts(void) {
    FILE *to = *setting("IO_COUNTS") ? fopen(setting("IO_COUNTS"), "w") : NULL;
    for (int call = 0; to && call < CALLS; call++) fprintf(to, "%s %ld\n", names[call], counts[call]);
    if (to) fclose(to);
}

#define SYNC(name, call)                                                        \
    int name(int fd) {                                                          \
        if (concerns_fd(fd) && fails(call)) return -1;                          \
        int outcome = REAL(name)(fd);                                           \
        if (!outcome) note_synced(fd);                                          \
        return outcome;                                                         \
    }
SYNC(fdatasync, FDATASYNC)
SYNC(fsync, FSYNC)

ssize_t write(int fd, const void *bytes, size_t length) {
    return concerns_fd(fd) && fails(WRITE) ? -1 : REAL(write)(fd, bytes, length);
}

#define PWRITE_AS(name)                                                         \
    ssize_t name(int fd, const void *bytes, size_t length, off_t at) {          \
        return concerns_fd(fd) && fails(PWRITE) ? -1 : REAL(name)(fd, bytes, length, at); \
    }
PWRITE_AS(pwrite)
PWRITE_AS(pwrite64)

#define FTRUNCATE_AS(name)                                                      \
    int name(int fd, off_t length) {                                            \
        return concerns_fd(fd) && fails(FTRUNCATE) ? -1 : REAL(name)(fd, length); \
    }
FTRUNCATE_AS(ftruncate)
FTRUNCATE_AS(ftruncate64)

int rename(const char *from, const char *to) { return concerns(to) && fails(RENAME) ? -1 : REAL(rename)(from, to); }

int link(const char *from, const char *to) { return concerns(to) && fails(LINK) ? -1 : REAL(link)(from, to); }

int unlink(const char *path) { return concerns(path) && fails(UNLINK) ? -1 : REAL(unlink)(path); }

#define OPEN_AS(name)                                                           \
    int name(const char *path, int flags, ...) {                                \
        va_list rest;                                                           \
        va_start(rest, flags);                                                  \
        int mode = va_arg(rest, int);                                           \
        va_end(rest);                                                           \
        return concerns(path) && fails(OPEN) ? -1 : REAL(name)(path, flags, mode); \
    }
OPEN_AS(open)
OPEN_AS(open64)

ssize_t read(int fd, void *bytes, size_t length) {
    return concerns_fd(fd) && fails(READ) ? -1 : REAL(read)(fd, bytes, length);
}

#define PREAD_AS(name)                                                          \
    ssize_t name(int fd, void *bytes, size_t length, off_t at) {                \
        return concerns_fd(fd) && fails(READ) ? -1 : REAL(name)(fd, bytes, length, at); \
    }
PREAD_AS(pread)
PREAD_AS(pread64)

int statx(int folder, const char *path, int flags, unsigned mask, struct statx *file) {
    return concerns(path) && fails(STAT) ? -1 : REAL(statx)(folder, path, flags, mask, file);
}

DIR *opendir(const char *path) { return concerns(path) && fails(OPENDIR) ? NULL : REAL(opendir)(path); }
