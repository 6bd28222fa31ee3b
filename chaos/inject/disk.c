/* A disk that can be asked what it was promised, and told to fail. Preloaded (LD_PRELOAD) into every process of a run.
 *
 * Everything below CHAOS_DISK_ROOT that changes a file or a name is noted in the journal CHAOS_DISK_JOURNAL,
 * in the order in which it happened, across processes; `chaos/journal.py` reads it and says what a power cut may leave.
 * CHAOS_DISK_FAULT is a file of 512 bytes: an errno and a part of a path. Where a path holds that part, nothing can
 * be written.
 *
 * Left out: memory maps (SQLite's -shm, which no recovery reads) and what nobody here uses, which aborts the process
 * rather than go unnoticed.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { MOST_FILES = 65536 };

struct record { /* then the bytes of `first`, then those of `second`; little-endian, packed by its own sizes */
    uint64_t inode, offset;
    uint32_t first, second;
    char kind; /* C create, W write, T truncate, S sync, D sync a folder, R rename, L link, U unlink, M mkdir, X rmdir */
    char padding[7];
};

struct fault {
    int32_t error;
    char part[508];
};

/* What was opened under a number. The number may mean another file by now, so the inode is compared at each use: close
 * is not listened to, because a child between vfork and exec closes what is its parent's. */
struct opened {
    uint64_t inode, device;
    char *path;
};

static struct opened table[MOST_FILES];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static const char *root;
static size_t root_length;
static int journal = -1;
static volatile struct fault *fault;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("CHAOS_DISK_ROOT"), *control = getenv("CHAOS_DISK_FAULT");
    if (name == NULL) return;
    if (getenv("CHAOS_DISK_JOURNAL") != NULL) {
        long found = syscall(SYS_openat, AT_FDCWD, getenv("CHAOS_DISK_JOURNAL"), O_WRONLY | O_APPEND | O_CLOEXEC);
        if (found < 0) abort();
        journal = fcntl((int)found, F_DUPFD_CLOEXEC, 200);
        if (journal < 0) abort();
        syscall(SYS_close, (int)found);
    }
    if (control != NULL) {
        long found = syscall(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC);
        if (found < 0) abort();
        void *page = mmap(NULL, sizeof *fault, PROT_READ, MAP_SHARED, (int)found, 0);
        if (page == MAP_FAILED) abort();
        fault = page;
        syscall(SYS_close, (int)found);
    }
    root_length = strlen(name);
    root = name;
}

static void hold(void) {
    pthread_mutex_lock(&mutex);
    if (journal >= 0) flock(journal, LOCK_EX);
}

static void let_go(void) {
    int kept = errno;
    if (journal >= 0) flock(journal, LOCK_UN);
    pthread_mutex_unlock(&mutex);
    errno = kept;
}

static void note(char kind, uint64_t inode, uint64_t offset, const void *first, size_t first_size, const char *second) {
    if (journal < 0) return;
    int kept = errno;
    size_t second_size = second == NULL ? 0 : strlen(second);
    struct record record = {inode, offset, (uint32_t)first_size, (uint32_t)second_size, kind, {0}};
    struct iovec parts[] = {{&record, sizeof record}, {(void *)first, first_size}, {(void *)second, second_size}};
    long size = (long)(sizeof record + first_size + second_size);
    if (syscall(SYS_writev, journal, parts, 3) != size) abort();
    errno = kept;
}

static void note_path(char kind, const char *path, const char *second) {
    note(kind, 0, 0, path, strlen(path), second);
}

/* The absolute path of what a call names; false where it does not lie below the root. */
static int below_root(int folder, const char *path, char *found) {
    if (root == NULL || path == NULL) return 0;
    size_t length = 0;
    if (path[0] != '/') {
        if (folder == AT_FDCWD) {
            if (getcwd(found, PATH_MAX) == NULL) return 0;
            length = strlen(found);
        } else {
            char link[64];
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
            long size = syscall(SYS_readlinkat, AT_FDCWD, link, found, PATH_MAX - 1);
            if (size < 0) return 0;
            length = (size_t)size;
        }
        found[length++] = '/';
    }
    if (length + strlen(path) >= PATH_MAX) return 0;
    strcpy(found + length, path);
    return strncmp(found, root, root_length) == 0 && found[root_length] == '/';
}

/* Whether writing here fails now; errno says how. */
static int fails(const char *path) {
    if (fault == NULL || fault->error == 0 || strstr(path, (const char *)fault->part) == NULL) return 0;
    errno = fault->error;
    return 1;
}

static int is_read_only(const char *path) {
    return fails(path) && errno == EROFS;
}

static int is_shared_memory(const char *path) {
    size_t length = strlen(path);
    return length > 4 && strcmp(path + length - 4, "-shm") == 0;
}

/* What was opened under this number, if it is that still, and a file below the root. */
static struct opened *opened_as(int number) {
    struct stat now;
    if (root == NULL || number < 0 || number >= MOST_FILES || table[number].path == NULL) return NULL;
    int kept = errno;
    int known = fstat(number, &now) == 0 && S_ISREG(now.st_mode) && now.st_ino == table[number].inode &&
                now.st_dev == table[number].device;
    errno = kept;
    return known ? &table[number] : NULL;
}

static int open_noted(int folder, const char *path, int flags, mode_t mode) {
    char full[PATH_MAX];
    if (!below_root(folder, path, full) || (flags & O_TMPFILE) == O_TMPFILE)
        return (int)syscall(SYS_openat, folder, path, flags, mode);
    hold();
    struct stat before, now;
    int existed = fstatat(AT_FDCWD, full, &before, 0) == 0;
    int writes = (flags & O_ACCMODE) != O_RDONLY;
    int number = -1;
    if ((flags & O_CREAT) && !existed && fails(full))
        ;
    else if ((writes || (flags & O_TRUNC)) && is_read_only(full))
        ;
    else
        number = (int)syscall(SYS_openat, folder, path, flags, mode);
    if (number >= 0 && number < MOST_FILES && fstat(number, &now) == 0 && S_ISREG(now.st_mode)) {
        char *copy = strdup(full); /* the former one is left: somebody may be reading it */
        table[number] = (struct opened){now.st_ino, now.st_dev, copy};
        if (!is_shared_memory(full)) {
            if (!existed) note('C', now.st_ino, 0, full, strlen(full), NULL);
            else if ((flags & O_TRUNC) && before.st_size > 0) note('T', now.st_ino, 0, NULL, 0, NULL);
        }
    }
    let_go();
    return number;
}

static ssize_t write_noted(int number, const void *bytes, size_t size, off_t offset, int at_offset) {
    struct opened *file = opened_as(number);
    if (file == NULL)
        return at_offset ? syscall(SYS_pwrite64, number, bytes, size, offset) : syscall(SYS_write, number, bytes, size);
    if (fails(file->path)) return -1;
    hold();
    if (!at_offset) {
        int is_appended = fcntl(number, F_GETFL) & O_APPEND;
        offset = (off_t)syscall(SYS_lseek, number, 0, is_appended ? SEEK_END : SEEK_CUR);
    }
    ssize_t done =
        at_offset ? syscall(SYS_pwrite64, number, bytes, size, offset) : syscall(SYS_write, number, bytes, size);
    if (done > 0 && !is_shared_memory(file->path))
        note('W', file->inode, (uint64_t)offset, bytes, (size_t)done, NULL);
    let_go();
    return done;
}

static int truncate_noted(int number, off_t size) {
    struct opened *file = opened_as(number);
    if (file == NULL) return (int)syscall(SYS_ftruncate, number, size);
    struct stat now;
    if (fstat(number, &now) == 0 && (size > now.st_size ? fails(file->path) : is_read_only(file->path))) return -1;
    hold();
    int done = (int)syscall(SYS_ftruncate, number, size);
    if (done == 0 && !is_shared_memory(file->path)) note('T', file->inode, (uint64_t)size, NULL, 0, NULL);
    let_go();
    return done;
}

static int sync_noted(int number, long call) {
    struct stat now;
    if (root == NULL || fstat(number, &now) != 0) return (int)syscall(call, number);
    struct opened *file = opened_as(number);
    int done = (int)syscall(call, number);
    if (done != 0) return done;
    if (file != NULL) {
        hold();
        note('S', file->inode, 0, NULL, 0, NULL);
        let_go();
    } else if (S_ISDIR(now.st_mode)) {
        char path[PATH_MAX] = "", whole[PATH_MAX], link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", number);
        if (syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1) > 0 &&
            (below_root(AT_FDCWD, path, whole) || strcmp(path, root) == 0)) {
            hold();
            note_path('D', path, NULL);
            let_go();
        }
    }
    return done;
}

/* A call that changes one name. */
static int name_noted(char kind, int folder, const char *path, long done_by, long argument) {
    char full[PATH_MAX];
    if (!below_root(folder, path, full)) return (int)syscall(done_by, folder, path, argument);
    if (kind == 'M' ? fails(full) : is_read_only(full)) return -1;
    hold();
    int done = (int)syscall(done_by, folder, path, argument);
    if (done == 0 && !is_shared_memory(full)) note_path(kind, full, NULL);
    let_go();
    return done;
}

/* One that gives a file another name: renameat2 or linkat. */
static int names_noted(char kind, int folder, const char *from, int other, const char *to, long call, int flags) {
    char full[PATH_MAX], target[PATH_MAX];
    int is_ours = below_root(other, to, target), was_ours = below_root(folder, from, full);
    if (!is_ours && !was_ours) return (int)syscall(call, folder, from, other, to, flags);
    if (is_ours != was_ours) abort(); /* nobody moves files in or out */
    if (fails(target)) return -1;
    hold();
    int done = (int)syscall(call, folder, from, other, to, flags);
    if (done == 0) note(kind, 0, 0, full, strlen(full), target);
    let_go();
    return done;
}

/* What the C library offers of all this. */

static mode_t mode_of(int flags, va_list rest) {
    return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0;
}

#define OPEN(NAME)                                     \
    int NAME(const char *path, int flags, ...) {       \
        va_list rest;                                  \
        va_start(rest, flags);                         \
        mode_t mode = mode_of(flags, rest);            \
        va_end(rest);                                  \
        return open_noted(AT_FDCWD, path, flags, mode); \
    }
#define OPENAT(NAME)                                         \
    int NAME(int folder, const char *path, int flags, ...) { \
        va_list rest;                                        \
        va_start(rest, flags);                               \
        mode_t mode = mode_of(flags, rest);                  \
        va_end(rest);                                        \
        return open_noted(folder, path, flags, mode);        \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
int __open_2(const char *path, int flags) { return open_noted(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_noted(AT_FDCWD, path, flags, 0); }
int __openat_2(int folder, const char *path, int flags) { return open_noted(folder, path, flags, 0); }
int __openat64_2(int folder, const char *path, int flags) { return open_noted(folder, path, flags, 0); }
int creat(const char *path, mode_t mode) { return open_noted(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return open_noted(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

ssize_t write(int number, const void *bytes, size_t size) { return write_noted(number, bytes, size, 0, 0); }
ssize_t pwrite(int number, const void *bytes, size_t size, off_t at) { return write_noted(number, bytes, size, at, 1); }
ssize_t pwrite64(int number, const void *bytes, size_t size, off64_t at) {
    return write_noted(number, bytes, size, at, 1);
}
ssize_t writev(int number, const struct iovec *parts, int count) {
    if (opened_as(number) != NULL) abort();
    return syscall(SYS_writev, number, parts, count);
}
ssize_t sendfile(int to, int from, off_t *offset, size_t count) {
    if (opened_as(to) != NULL) {
        errno = EINVAL; /* whoever asks falls back on read and write */
        return -1;
    }
    return syscall(SYS_sendfile, to, from, offset, count);
}
ssize_t sendfile64(int to, int from, off64_t *offset, size_t count) { return sendfile(to, from, offset, count); }
ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t size, unsigned flags) {
    if (opened_as(to) != NULL) {
        errno = EINVAL;
        return -1;
    }
    return syscall(SYS_copy_file_range, from, a, to, b, size, flags);
}
int ftruncate(int number, off_t size) { return truncate_noted(number, size); }
int ftruncate64(int number, off64_t size) { return truncate_noted(number, size); }
int fsync(int number) { return sync_noted(number, SYS_fsync); }
int fdatasync(int number) { return sync_noted(number, SYS_fdatasync); }

int unlink(const char *path) { return name_noted('U', AT_FDCWD, path, SYS_unlinkat, 0); }
int rmdir(const char *path) { return name_noted('X', AT_FDCWD, path, SYS_unlinkat, AT_REMOVEDIR); }
int unlinkat(int folder, const char *path, int flags) {
    return name_noted(flags & AT_REMOVEDIR ? 'X' : 'U', folder, path, SYS_unlinkat, flags);
}
int mkdir(const char *path, mode_t mode) { return name_noted('M', AT_FDCWD, path, SYS_mkdirat, mode); }
int mkdirat(int folder, const char *path, mode_t mode) { return name_noted('M', folder, path, SYS_mkdirat, mode); }
int rename(const char *from, const char *to) {
    return names_noted('R', AT_FDCWD, from, AT_FDCWD, to, SYS_renameat2, 0);
}
int renameat(int folder, const char *from, int other, const char *to) {
    return names_noted('R', folder, from, other, to, SYS_renameat2, 0);
}
int link(const char *from, const char *to) { return names_noted('L', AT_FDCWD, from, AT_FDCWD, to, SYS_linkat, 0); }
int linkat(int folder, const char *from, int other, const char *to, int flags) {
    return names_noted('L', folder, from, other, to, SYS_linkat, flags);
}
