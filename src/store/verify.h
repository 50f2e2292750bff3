/* Checks the whole store: bytes against checksums, records against the index and back. */
#ifndef CASKADE_VERIFY_H
#define CASKADE_VERIFY_H

#include "store/store.h"

CHECKED int verify_store(struct cask_db *db, cask_progress_fn progress, void *context);

#endif
