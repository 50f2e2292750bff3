#include "support_strays.h"

#include <string.h>

#include "base/bytes.h"
#include "support.h"

/* Of the manifest; docs/format.md. The size of a segment's entry follows from that of the file. */
#define SEGMENTS_AT 80u
#define RUNS_AT 88u
#define HEADER_BYTES 112u
#define RUN_BYTES 32u
#define TRAILER_BYTES 8u

static bool is_listed(const struct tree_file *manifest, uint64_t id)
{
    uint64_t count = get_u64(manifest->bytes + SEGMENTS_AT);
    uint64_t rest = HEADER_BYTES + get_u64(manifest->bytes + RUNS_AT) * RUN_BYTES + TRAILER_BYTES;

    for (uint64_t i = 0; i < count; i++)
        if (get_u64(manifest->bytes + HEADER_BYTES + i * ((manifest->size - rest) / count)) == id)
            return true;
    return false;
}

static bool is_listed_run(const struct tree_file *manifest, uint64_t id)
{
    uint64_t count = get_u64(manifest->bytes + RUNS_AT);

    for (uint64_t i = 1; i <= count; i++)
        if (get_u64(manifest->bytes + manifest->size - TRAILER_BYTES - i * RUN_BYTES) == id)
            return true;
    return false;
}

/* "shard-NNN/index/<id>.<kind>": a run that the shard's manifest lists. */
static bool is_run(const struct tree *tree, const char *name)
{
    const struct tree_file *manifest;
    unsigned long long id = 0;
    unsigned shard = 0;
    char kind[16] = "";
    char other[64];

    if (sscanf(name, "shard-%3u/index/%llu.%15s", &shard, &id, kind) != 3)
        return true; /* none of this kind */
    (void)snprintf(other, sizeof other, "shard-%03u/MANIFEST", shard);
    manifest = tree_find(tree, other);
    return manifest && strcmp(kind, "mdb") == 0 && is_listed_run(manifest, id);
}

void check_no_strays(const char *path)
{
    struct tree tree = {0};

    tree_load(&tree, path);
    for (size_t i = 0; i < tree.count; i++) {
        const char *name = tree.files[i].name;
        const struct tree_file *manifest;
        unsigned long long id = 0;
        unsigned shard = 0;
        char kind[16] = "";
        char other[64];

        CHECK(is_run(&tree, name), "%s is left behind", name);
        if (sscanf(name, "shard-%3u/%llu.%15s", &shard, &id, kind) != 3)
            continue;
        (void)snprintf(other, sizeof other, "shard-%03u/MANIFEST", shard);
        manifest = tree_find(&tree, other);
        CHECK(manifest && is_listed(manifest, id), "%s is left behind", name);
        CHECK(strcmp(kind, "data") == 0 || strcmp(kind, "hint") == 0, "%s is left behind", name);
    }
    tree_release(&tree);
}
