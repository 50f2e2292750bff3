/* Files that nothing refers to. See strays.h. */
#include "strays.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "simdisk.h"

/* Of the manifest; docs/format.md. The size of a segment's entry follows from that of the file. */
#define SEGMENTS_AT 80u
#define RUNS_AT 88u
#define HEADER_BYTES 112u
#define RUN_BYTES 32u
#define TRAILER_BYTES 8u

static uint64_t number_at(const struct simblob *blob, size_t offset)
{
    uint64_t number = 0;

    for (size_t i = 0; i < 8 && offset + i < blob->size; i++)
        number |= (uint64_t)blob->bytes[offset + i] << (8 * i);
    return number;
}

static bool is_listed(const struct simimage *image, const char *folder, uint64_t id)
{
    const struct simimage_entry *manifest;
    uint64_t count;
    uint64_t rest;
    char path[300];

    snprintf(path, sizeof path, "%s/MANIFEST", folder);
    manifest = simimage_find(image, path);
    if (!manifest || !manifest->blob)
        return false;
    count = number_at(manifest->blob, SEGMENTS_AT);
    rest = HEADER_BYTES + number_at(manifest->blob, RUNS_AT) * RUN_BYTES + TRAILER_BYTES;
    for (uint64_t i = 0; i < count; i++)
        if (number_at(manifest->blob, HEADER_BYTES + i * ((manifest->blob->size - rest) / count)) ==
            id)
            return true;
    return false;
}

static bool is_listed_run(const struct simimage *image, const char *folder, uint64_t id)
{
    const struct simimage_entry *manifest;
    uint64_t count;
    char path[300];

    snprintf(path, sizeof path, "%s/MANIFEST", folder);
    manifest = simimage_find(image, path);
    if (!manifest || !manifest->blob)
        return false;
    count = number_at(manifest->blob, RUNS_AT);
    for (uint64_t i = 0; i < count; i++)
        if (number_at(manifest->blob,
                      manifest->blob->size - TRAILER_BYTES - (count - i) * RUN_BYTES) == id)
            return true;
    return false;
}

bool strays_find(const struct simimage *image, char *ret_path, size_t size)
{
    for (size_t i = 0; i < image->count; i++) {
        const struct simimage_entry *entry = &image->entries[i];
        unsigned long long id;
        char folder[256];
        char kind[16];
        char *slash;

        if (!entry->blob || sscanf(entry->name, "%llu.%15s", &id, kind) != 2)
            continue;
        simimage_path(image, entry, folder, sizeof folder);
        slash = strrchr(folder, '/');
        *slash = '\0';
        if (strcmp(kind, "mdb") == 0) { /* a run; its manifest is one folder up */
            slash = strrchr(folder, '/');
            *slash = '\0';
            if (is_listed_run(image, folder, id))
                continue;
        }
        if (is_listed(image, folder, id) &&
            (strcmp(kind, "data") == 0 || strcmp(kind, "hint") == 0))
            continue;
        simimage_path(image, entry, ret_path, size);
        return true;
    }
    return false;
}

bool strays_find_now(char *ret_path, size_t size)
{
    struct simimage *image = simdisk_snapshot();
    bool found = strays_find(image, ret_path, size);

    simimage_release(image);
    return found;
}
