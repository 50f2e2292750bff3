#include "series.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "machine.h"
#include "ticks.h"

static int add(struct series *series, const struct sample *sample)
{
    if (series->count == series->capacity) {
        size_t capacity = series->capacity == 0 ? 256 : series->capacity * 2;
        struct sample *samples = realloc(series->samples, capacity * sizeof *samples);
        if (samples == NULL) {
            return -1;
        }
        series->samples = samples;
        series->capacity = capacity;
    }
    series->samples[series->count++] = *sample;
    return 0;
}

/* With the mutex held, which keeps the samples in order. */
static void take(struct series *series)
{
    struct engine_figures figures;
    memset(&figures, 0, sizeof figures);
    struct sample sample;
    memset(&sample, 0, sizeof sample); /* it travels as bytes */
    sample.seconds = (double)(clock_ns() - series->start_ns) / 1e9;
    sample.disk_bytes = series->dir != NULL ? machine_disk_bytes(series->dir) : 0;
    if (series->dir != NULL && sample.disk_bytes == 0) {
        return; /* a folder could not be read just now */
    }
    series->engine->figures(series->store, &figures);
    sample.ops = figures.writes;
    sample.live_bytes = figures.live_bytes;
    sample.written_bytes = figures.written_bytes;
    sample.merge_read_bytes = figures.merge_read_bytes;
    sample.merge_written_bytes = figures.merge_written_bytes;
    if (add(series, &sample) != 0) {
        series->failed = true;
    }
}

static void add_ms(struct timespec *time, long ms)
{
    time->tv_nsec += ms * 1000000;
    time->tv_sec += time->tv_nsec / 1000000000;
    time->tv_nsec %= 1000000000;
}

static void *run(void *argument)
{
    struct series *series = argument;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    pthread_mutex_lock(&series->mutex);
    while (!series->stopping) {
        add_ms(&until, SERIES_INTERVAL_MS);
        while (!series->stopping &&
               pthread_cond_timedwait(&series->changed, &series->mutex, &until) != ETIMEDOUT)
            ;
        if (!series->stopping) {
            take(series);
        }
    }
    pthread_mutex_unlock(&series->mutex);
    return NULL;
}

int series_start(struct series *series, const struct engine *engine, struct engine_store *store,
                 const char *dir)
{
    memset(series, 0, sizeof *series);
    series->engine = engine;
    series->store = store;
    series->dir = dir;
    series->start_ns = clock_ns();
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&series->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&series->mutex, NULL);
    series_mark(series);
    if (pthread_create(&series->thread, NULL, run, series) != 0) {
        fprintf(stderr, "caskade-bench: cannot start the thread that samples\n");
        pthread_cond_destroy(&series->changed);
        pthread_mutex_destroy(&series->mutex);
        series_release(series);
        return -1;
    }
    return 0;
}

void series_mark(struct series *series)
{
    pthread_mutex_lock(&series->mutex);
    take(series);
    pthread_mutex_unlock(&series->mutex);
}

int series_stop(struct series *series)
{
    series_mark(series);
    pthread_mutex_lock(&series->mutex);
    series->stopping = true;
    pthread_cond_broadcast(&series->changed);
    pthread_mutex_unlock(&series->mutex);
    pthread_join(series->thread, NULL);
    pthread_cond_destroy(&series->changed);
    pthread_mutex_destroy(&series->mutex);
    if (series->failed) {
        fprintf(stderr, "caskade-bench: out of memory for samples\n");
    }
    return series->failed ? -1 : 0;
}

void series_release(struct series *series)
{
    free(series->samples);
    series->samples = NULL;
    series->count = 0;
    series->capacity = 0;
}

double series_worst_ratio(const struct sample *samples, size_t count, uint64_t from_ops)
{
    double worst = 0.0;
    for (size_t i = 0; i < count; i++) {
        if (samples[i].ops >= from_ops && samples[i].live_bytes != 0) {
            double ratio = (double)samples[i].disk_bytes / (double)samples[i].live_bytes;
            worst = ratio > worst ? ratio : worst;
        }
    }
    return worst;
}

uint64_t series_largest_disk(const struct sample *samples, size_t count)
{
    uint64_t largest = 0;
    for (size_t i = 0; i < count; i++) {
        largest = samples[i].disk_bytes > largest ? samples[i].disk_bytes : largest;
    }
    return largest;
}

double series_merging_share(const struct sample *samples, size_t count)
{
    double merging = 0.0;
    for (size_t i = 1; i < count; i++) {
        const struct sample *a = &samples[i - 1];
        const struct sample *b = &samples[i];
        if (b->merge_read_bytes != a->merge_read_bytes ||
            b->merge_written_bytes != a->merge_written_bytes) {
            merging += b->seconds - a->seconds;
        }
    }
    double all = count != 0 ? samples[count - 1].seconds - samples[0].seconds : 0.0;
    return all > 0.0 ? merging / all : 0.0;
}

void series_print_json(const struct sample *samples, size_t count, FILE *file)
{
    fprintf(file, "\"series_columns\": [\"seconds\", \"ops\", \"disk_bytes\", \"live_bytes\", "
                  "\"written_bytes\", \"merge_read_bytes\", \"merge_written_bytes\"], "
                  "\"series\": [");
    for (size_t i = 0; i < count; i++) {
        const struct sample *s = &samples[i];
        fprintf(file,
                "%s[%.3f, %" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64
                "]",
                i == 0 ? "" : ", ", s->seconds, s->ops, s->disk_bytes, s->live_bytes,
                s->written_bytes, s->merge_read_bytes, s->merge_written_bytes);
    }
    fprintf(file, "]");
}

void series_print_data(const struct sample *samples, size_t count, FILE *file)
{
    fprintf(file, "seconds\tops\tdisk\tlive\twritten\tmerge read\tmerge written\n");
    for (size_t i = 0; i < count; i++) {
        const struct sample *s = &samples[i];
        fprintf(file,
                "%.3f\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64
                "\n",
                s->seconds, s->ops, s->disk_bytes, s->live_bytes, s->written_bytes,
                s->merge_read_bytes, s->merge_written_bytes);
    }
}
