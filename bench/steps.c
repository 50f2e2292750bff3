#include "steps.h"

#include <inttypes.h>
#include <time.h>

#include "machine.h"

#define MIB 1048576.0

static void look(struct steps_watch *watch)
{
    uint64_t bytes = machine_rss_anon_bytes();
    uint64_t max = atomic_load(&watch->max_bytes);
    while (bytes > max && !atomic_compare_exchange_weak(&watch->max_bytes, &max, bytes))
        ;
}

static void *run(void *argument)
{
    struct steps_watch *watch = argument;
    const struct timespec wait = {0, STEPS_LOOK_MS * 1000000L};
    while (!atomic_load(&watch->stopping)) {
        look(watch);
        nanosleep(&wait, NULL);
    }
    return NULL;
}

int steps_watch_start(struct steps_watch *watch)
{
    atomic_init(&watch->stopping, false);
    atomic_init(&watch->max_bytes, 0);
    if (pthread_create(&watch->thread, NULL, run, watch) != 0) {
        fprintf(stderr, "caskade-bench: cannot start the thread that looks at memory\n");
        return -1;
    }
    return 0;
}

uint64_t steps_watch_take(struct steps_watch *watch)
{
    look(watch);
    return atomic_exchange(&watch->max_bytes, 0);
}

void steps_watch_stop(struct steps_watch *watch)
{
    atomic_store(&watch->stopping, true);
    pthread_join(watch->thread, NULL);
}

double steps_seconds_at(const struct step *steps, size_t count, double keys)
{
    double seconds = 0.0;
    double before = 0.0;
    for (size_t i = 0; i < count && before < keys; i++) {
        double here = (double)steps[i].keys - before;
        double wanted = keys - before;
        seconds += wanted < here ? steps[i].seconds * wanted / here : steps[i].seconds;
        before = (double)steps[i].keys;
    }
    return seconds;
}

static double ns_per_put(const struct step *steps, size_t i)
{
    uint64_t puts = steps[i].keys - (i == 0 ? 0 : steps[i - 1].keys);
    return puts == 0 ? 0.0 : steps[i].seconds * 1e9 / (double)puts;
}

void steps_print_json(const struct step *steps, size_t count, FILE *file)
{
    fprintf(file, "\"step_columns\": [\"keys\", \"seconds\", \"ns_per_put\", \"longest_put_ns\", "
                  "\"rss_anon_max_bytes\", \"index_ram_bytes\", \"index_disk_bytes\", "
                  "\"spilled_keys\", \"runs\", \"stalls\", \"index_written_bytes\"], \"steps\": [");
    for (size_t i = 0; i < count; i++) {
        const struct step *s = &steps[i];
        fprintf(file,
                "%s[%" PRIu64 ", %.6f, %.1f, %.0f, %" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64
                ", %" PRIu64 ", %" PRIu64 ", %" PRIu64 "]",
                i == 0 ? "" : ", ", s->keys, s->seconds, ns_per_put(steps, i), s->longest_put_ns,
                s->rss_anon_max_bytes, s->index_ram_bytes, s->index_disk_bytes, s->spilled_keys,
                s->runs, s->stalls, s->index_written_bytes);
    }
    fprintf(file, "]");
}

void steps_print(const struct step *steps, size_t count, FILE *file)
{
    fprintf(file, "%16s %8s %8s %10s %8s %9s %10s %12s %5s %7s %11s\n", "keys", "seconds", "ns/put",
            "longest ms", "anon MiB", "index MiB", "spill MiB", "spilled keys", "runs", "stalls",
            "written MiB");
    for (size_t i = 0; i < count; i++) {
        const struct step *s = &steps[i];
        fprintf(file,
                "%16" PRIu64 " %8.2f %8.1f %10.2f %8.1f %9.1f %10.1f %12" PRIu64 " %5" PRIu64
                " %7" PRIu64 " %11.1f\n",
                s->keys, s->seconds, ns_per_put(steps, i), s->longest_put_ns / 1e6,
                (double)s->rss_anon_max_bytes / MIB, (double)s->index_ram_bytes / MIB,
                (double)s->index_disk_bytes / MIB, s->spilled_keys, s->runs, s->stalls,
                (double)s->index_written_bytes / MIB);
    }
}
