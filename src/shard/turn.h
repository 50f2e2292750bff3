/* Work that not all shards' workers may do at once, since it takes memory or processors that others
 * need. A worker whose turn it is not goes on with other work, and is asked again when it is. */
#ifndef CASKADE_TURN_H
#define CASKADE_TURN_H

#include "shard/shard.h"

/* False: not now. Otherwise turn_pass_on() is to follow. */
CHECKED bool turn_take(struct shard *shard, enum turn turn);
void turn_pass_on(struct shard *shard, enum turn turn);

#endif
