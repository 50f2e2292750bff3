/* Checks all there is to check about a run by itself: for `caskade verify`. */
#ifndef CASKADE_RUNVERIFY_H
#define CASKADE_RUNVERIFY_H

#include "index/run.h"

/* Compares the whole file's checksum, and only then has LMDB walk it: its records are the blocks
 * that the fence names, in their order, on their pages; their tags ascend from block to block; the
 * filter, where it is loaded, lets every tag through. path is the directory's name, that has the
 * run. Nobody else may verify the same run at the time. CASK_ECORRUPT, CASK_EIO, CASK_ENOMEM, or
 * CASK_NOTFOUND where the name has gone and only the checksum could be compared. */
CHECKED int run_verify(const struct run *run, const char *path);

#endif
