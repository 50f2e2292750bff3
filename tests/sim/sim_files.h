/* What the handles of io.h are on the simulated machine. */
#ifndef CASKADE_SIM_FILES_H
#define CASKADE_SIM_FILES_H

#include "io/io.h"
#include "sim_internal.h"

struct io_dir {
    struct sim_inode *inode;
};

struct io_file {
    struct sim_inode *inode;
    enum io_open_mode mode;
    bool holds_lock;
};

/* Whether dir may get that name: CASK_OK, or why not. */
int sim_check_new_name(const struct sim_inode *dir, const char *name);

/* Aborts if the file was opened for reading; the kernel would say EBADF or EACCES. */
void sim_require_writable(const struct io_file *file, const char *what);

#endif
