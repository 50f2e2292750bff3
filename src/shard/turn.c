#include "shard/turn.h"

#include "base/thread.h"

static unsigned at_once(enum turn turn)
{
    unsigned processors = thread_processors();

    return turn == TURN_SEAL || processors < 4 ? 1 : processors / 2;
}

static bool enter(struct shard_env *env, enum turn turn)
{
    unsigned most = at_once(turn);
    unsigned taken = atomic_load(&env->turns[turn]);

    while (taken < most)
        if (atomic_compare_exchange_weak(&env->turns[turn], &taken, taken + 1))
            return true;
    return false;
}

bool turn_take(struct shard *shard, enum turn turn)
{
    if (enter(shard->env, turn))
        return true;
    atomic_store(&shard->put_off[turn], true);
    if (!enter(shard->env, turn))
        return false; /* those who have it will see, when done, what was put off */
    atomic_store(&shard->put_off[turn], false);
    return true;
}

void turn_pass_on(struct shard *shard, enum turn turn)
{
    static const enum shard_work work[TURNS] = {SHARD_WORK_SEAL, SHARD_WORK_TIDY};
    struct shard_env *env = shard->env;

    atomic_fetch_sub(&env->turns[turn], 1);
    for (uint32_t i = 1; i <= env->shard_count; i++) {
        struct shard *next = &env->shards[(shard->number + i) % env->shard_count];

        if (atomic_exchange(&next->put_off[turn], false)) {
            shard_ask_for_work(next, work[turn]);
            return; /* who passes it on in turn */
        }
    }
}
