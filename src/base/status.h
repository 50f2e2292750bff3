/* The statuses of the public header, for every layer. Nothing else of it is used below store/. */
#ifndef CASKADE_STATUS_H
#define CASKADE_STATUS_H

#include "caskade.h"

#define CHECKED __attribute__((warn_unused_result))

/* The first failure of two outcomes. */
static inline int status_first(int first, int second)
{
    return first != CASK_OK ? first : second;
}

#endif
