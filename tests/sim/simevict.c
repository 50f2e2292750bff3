/* Forgets the clean pages that a failed sync left behind. Invariants: see simdisk.h and
 * crashstate.h.
 */
#include <string.h>

#include "crashstate.h"
#include "sim_internal.h"

static struct sim_inode *find_inode(struct sim_inode *dir, uint64_t id)
{
    for (struct sim_inode *child = dir->children; child; child = child->sibling) {
        struct sim_inode *found = child->id == id ? child : NULL;

        if (!found && child->is_dir)
            found = find_inode(child, id);
        if (found)
            return found;
    }
    return NULL;
}

static void log_evictions(const struct sim_inode *dir)
{
    for (const struct sim_inode *child = dir->children; child; child = child->sibling) {
        if (child->is_dir)
            log_evictions(child);
        else
            simfs_log(SIMOP_EVICT, child);
    }
}

void simdisk_evict(void)
{
    struct simimage *image;

    sim_enter();
    if (!sim.log)
        sim_fatal("simdisk_evict() needs a log");
    log_evictions(sim.root);
    image = crash_image_all(sim.log, sim.log->count);
    for (size_t i = 0; i < image->count; i++) {
        const struct simimage_entry *entry = &image->entries[i];
        struct sim_inode *inode = find_inode(sim.root, entry->inode);

        if (entry->blob && entry->blob->size > 0)
            simfs_store(inode, 0, entry->blob->bytes, entry->blob->size);
    }
    simimage_release(image);
    sim_leave();
}
