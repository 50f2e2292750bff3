/* The figures of an open store. */
#ifndef CASKADE_STATS_H
#define CASKADE_STATS_H

#include "store/store.h"

CHECKED int stats_collect(struct cask_db *db, struct cask_stats *ret_stats);

CHECKED int stats_collect_shard(struct cask_db *db, uint32_t shard, struct cask_stats *ret_stats);

#endif
