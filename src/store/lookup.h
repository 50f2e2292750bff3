/* Reading: copies, borrowed views, and many keys at once. */
#ifndef CASKADE_LOOKUP_H
#define CASKADE_LOOKUP_H

#include "store/store.h"

CHECKED int lookup_exists(struct cask_db *db, struct cask_slice key);
CHECKED int lookup_get(struct cask_db *db, struct cask_slice key, void *buffer, size_t capacity,
                       size_t *ret_size);
CHECKED int lookup_view(struct cask_db *db, struct cask_slice key, struct cask_view *ret_view);
void lookup_view_release(struct cask_view *view);

/* Keys over their length are answered CASK_ETOOBIG, empty ones CASK_EINVAL. */
CHECKED int lookup_many(struct cask_db *db, size_t count, const struct cask_slice *keys,
                        void *buffer, size_t capacity, struct cask_slice *ret_values,
                        int *statuses);

static inline int lookup_check_key(struct cask_slice key)
{
    if (!key.data || key.size == 0)
        return CASK_EINVAL;
    return key.size > CASK_KEY_MAX ? CASK_ETOOBIG : CASK_OK;
}

#endif
