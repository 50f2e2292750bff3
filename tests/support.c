#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- checks ---------------------------------------------------------------------------------- */

static char context_text[512];

void check_context(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(context_text, sizeof context_text, format, arguments);
    va_end(arguments);
}

static void remove_scratch_dirs(void);

_Noreturn void check_failed(const char *file, int line, const char *what, const char *format, ...)
{
    char text[2048];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    (void)fflush(stdout);
    (void)fprintf(stderr, "%s:%d: failed: %s%s%s\n", file, line, what, *text ? ": " : "", text);
    if (*context_text)
        (void)fprintf(stderr, "%s:%d: repeat with: %s\n", file, line, context_text);
    remove_scratch_dirs();
    _exit(99);
}

/* ---- random numbers and the environment ------------------------------------------------------ */

uint64_t mix64(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

uint64_t rng_next(struct rng *rng)
{
    rng->state += 0x9e3779b97f4a7c15u;
    return mix64(rng->state);
}

uint64_t rng_below(struct rng *rng, uint64_t limit)
{
    return rng_next(rng) % limit;
}

bool rng_percent(struct rng *rng, unsigned percent)
{
    return rng_below(rng, 100) < percent;
}

uint64_t environment_number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

uint64_t clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t wall_clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

void pause_us(uint64_t microseconds)
{
    struct timespec left = {(time_t)(microseconds / 1000000),
                            (long)(microseconds % 1000000) * 1000};

    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR)
        continue;
}

/* ---- places to work in ----------------------------------------------------------------------- */

#define SCRATCH_MAX 64

static struct {
    pthread_mutex_t lock;
    pid_t owner;
    char *paths[SCRATCH_MAX];
} scratch = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void remove_scratch_dirs(void)
{
    if (scratch.owner != getpid() || getenv("CASKADE_KEEP"))
        return;
    for (unsigned i = 0; i < SCRATCH_MAX; i++)
        if (scratch.paths[i])
            tree_remove(scratch.paths[i]);
}

static const char *scratch_parent(enum scratch_kind kind)
{
    const char *parent = getenv("TMPDIR");

    if (kind == SCRATCH_MEMORY && access("/dev/shm", W_OK | X_OK) == 0)
        return "/dev/shm";
    return parent && *parent ? parent : "/tmp";
}

char *scratch_make(enum scratch_kind kind)
{
    char text[4096];
    char *path;
    unsigned i = 0;

    CHECK(snprintf(text, sizeof text, "%s/caskade-test-XXXXXX", scratch_parent(kind)) <
              (int)sizeof text,
          "TMPDIR is too long");
    CHECK(mkdtemp(text), "%s: %s", text, strerror(errno));
    path = strdup(text);
    CHECK(path, "out of memory");
    pthread_mutex_lock(&scratch.lock);
    if (scratch.owner == 0) {
        scratch.owner = getpid();
        (void)atexit(remove_scratch_dirs);
    }
    while (i < SCRATCH_MAX && scratch.paths[i])
        i++;
    CHECK(i < SCRATCH_MAX, "too many scratch directories");
    scratch.paths[i] = path;
    pthread_mutex_unlock(&scratch.lock);
    return path;
}

void scratch_remove(char *path)
{
    pthread_mutex_lock(&scratch.lock);
    for (unsigned i = 0; i < SCRATCH_MAX; i++)
        if (scratch.paths[i] == path)
            scratch.paths[i] = NULL;
    pthread_mutex_unlock(&scratch.lock);
    if (!getenv("CASKADE_KEEP"))
        tree_remove(path);
    free(path);
}

/* The next of a few buffers of this thread. */
static char *path_buffer(size_t *ret_size)
{
    static _Thread_local char buffers[8][4096];
    static _Thread_local unsigned next;

    *ret_size = sizeof buffers[0];
    return buffers[next++ % 8];
}

const char *path_in(const char *dir, const char *name)
{
    size_t size;
    char *path = path_buffer(&size);
    int length = snprintf(path, size, "%s/%s", dir, name);

    CHECK(length > 0 && (size_t)length < size, "a path is too long");
    return path;
}

const char *shard_path(const char *dir, unsigned shard, const char *name)
{
    size_t size;
    char *path = path_buffer(&size);
    int length = snprintf(path, size, "%s/shard-%03u/%s", dir, shard, name);

    CHECK(length > 0 && (size_t)length < size, "a path is too long");
    return path;
}

bool path_exists(const char *path)
{
    struct stat info;

    return lstat(path, &info) == 0;
}

void write_file(const char *path, const void *bytes, size_t size)
{
    const uint8_t *from = bytes;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t done = 0;

    CHECK(fd >= 0, "%s: %s", path, strerror(errno));
    while (done < size) {
        ssize_t put = write(fd, from + done, size - done);

        CHECK(put > 0, "%s: %s", path, strerror(errno));
        done += (size_t)put;
    }
    close(fd);
}

uint8_t *read_whole_file(const char *path, size_t *ret_size)
{
    uint8_t *bytes = read_file_if_there(path, ret_size);

    CHECK(bytes, "%s: no such file", path);
    return bytes;
}

uint8_t *read_file_if_there(const char *path, size_t *ret_size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    uint8_t *bytes;
    size_t done = 0;

    if (fd < 0 && errno == ENOENT)
        return NULL;
    CHECK(fd >= 0 && fstat(fd, &info) == 0, "%s: %s", path, strerror(errno));
    bytes = malloc((size_t)info.st_size + 1);
    CHECK(bytes, "out of memory");
    while (done < (size_t)info.st_size) {
        ssize_t got = read(fd, bytes + done, (size_t)info.st_size - done);

        CHECK(got >= 0, "%s: %s", path, strerror(errno));
        if (got == 0)
            break;
        done += (size_t)got;
    }
    close(fd);
    *ret_size = done;
    return bytes;
}

/* ---- what a store says ----------------------------------------------------------------------- */

void log_lines_init(struct log_lines *lines)
{
    memset(lines, 0, sizeof *lines);
    CHECK(pthread_mutex_init(&lines->lock, NULL) == 0, "out of memory");
}

void log_lines_clear(struct log_lines *lines)
{
    pthread_mutex_lock(&lines->lock);
    memset(lines->counts, 0, sizeof lines->counts);
    lines->used = 0;
    lines->text[0] = '\0';
    pthread_mutex_unlock(&lines->lock);
}

void log_lines_collect(void *context, enum cask_log_level level, const char *message)
{
    static const char *const names[] = {"?", "error", "warning", "info"};
    struct log_lines *lines = context;
    size_t room;
    int length;

    CHECK(level >= CASK_LOG_ERROR && level <= CASK_LOG_INFO, "level %d", (int)level);
    CHECK(message && *message && !strchr(message, '\n'), "a log line is not a line");
    pthread_mutex_lock(&lines->lock);
    lines->counts[level]++;
    room = sizeof lines->text - lines->used;
    length = snprintf(lines->text + lines->used, room, "%s: %s\n", names[level], message);
    if (length > 0 && (size_t)length < room)
        lines->used += (size_t)length;
    else
        lines->text[lines->used] = '\0';
    pthread_mutex_unlock(&lines->lock);
}

unsigned log_lines_count(struct log_lines *lines, enum cask_log_level level)
{
    unsigned count;

    pthread_mutex_lock(&lines->lock);
    count = lines->counts[level];
    pthread_mutex_unlock(&lines->lock);
    return count;
}

bool log_lines_mention(struct log_lines *lines, const char *text)
{
    bool found;

    pthread_mutex_lock(&lines->lock);
    found = strstr(lines->text, text) != NULL;
    pthread_mutex_unlock(&lines->lock);
    return found;
}

struct cask_options options_with_log(struct log_lines *lines)
{
    return (struct cask_options){
        .size = sizeof(struct cask_options), .log = log_lines_collect, .log_context = lines};
}

/* ---- keys, values, processes ----------------------------------------------------------------- */

struct cask_slice slice_of(const char *text)
{
    return (struct cask_slice){text, strlen(text)};
}

struct cask_slice slice_bytes(const void *data, size_t size)
{
    return (struct cask_slice){data, size};
}

void check_value(struct cask_db *db, const char *key, const char *value)
{
    char buffer[1024];
    size_t size = 0;
    int status = cask_get(db, slice_of(key), buffer, sizeof buffer, &size);

    if (!value) {
        CHECK(status == CASK_NOTFOUND, "key %s: %s", key, cask_strerror(status));
        return;
    }
    CHECK(status == CASK_OK, "key %s: %s", key, cask_strerror(status));
    CHECK(size == strlen(value) && memcmp(buffer, value, size) == 0, "key %s is '%.*s', not '%s'",
          key, (int)size, buffer, value);
}

void wait_for_success(pid_t child)
{
    int status;

    CHECK(child > 0, "fork: %s", strerror(errno));
    CHECK(waitpid(child, &status, 0) == child, "waitpid: %s", strerror(errno));
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with 0x%x",
          (unsigned)status);
}

void wait_for_kill(pid_t child)
{
    int status;

    CHECK(child > 0, "fork: %s", strerror(errno));
    CHECK(waitpid(child, &status, 0) == child, "waitpid: %s", strerror(errno));
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the child ended with 0x%x",
          (unsigned)status);
}

unsigned count_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    CHECK(dir, "/proc/self/fd: %s", strerror(errno));
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}
