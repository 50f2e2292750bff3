/* Merging all of a store on request. */
#ifndef CASKADE_COMPACT_H
#define CASKADE_COMPACT_H

#include "store/store.h"

CHECKED int compact_store(struct cask_db *db, cask_progress_fn progress, void *context);

/* All of the index to disk, a run for each shard. */
CHECKED int compact_index(struct cask_db *db);

#endif
