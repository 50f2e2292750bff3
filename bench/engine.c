#include "engine.h"

#include <string.h>

#if BENCH_HAVE_TKRZW
#define TKRZW &engine_tkrzw
#else
#define TKRZW NULL
#endif
#if BENCH_HAVE_LMDB
#define LMDB &engine_lmdb
#else
#define LMDB NULL
#endif

#if BENCH_HAVE_LEVELDB
#define LEVELDB &engine_leveldb
#else
#define LEVELDB NULL
#endif
#if BENCH_HAVE_ROCKSDB
#define ROCKSDB &engine_rocksdb
#else
#define ROCKSDB NULL
#endif

static const struct engine_entry entries[] = {
    {"caskade", &engine_caskade}, {"tkrzw", TKRZW},     {"lmdb", LMDB},
    {"leveldb", LEVELDB},         {"rocksdb", ROCKSDB}, {"none", &engine_none},
};

const struct engine_entry *engine_at(size_t i)
{
    return i < sizeof entries / sizeof entries[0] ? &entries[i] : NULL;
}

const struct engine_entry *engine_find(const char *name)
{
    const struct engine_entry *entry = NULL;
    for (size_t i = 0; (entry = engine_at(i)) != NULL && strcmp(entry->name, name) != 0; i++)
        ;
    return entry;
}
