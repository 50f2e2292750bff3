/* Tkrzw's HashDBM over MemoryMapParallelFile, its fastest file class.
 *  - num_buckets: twice the number of keys, so that chains stay short.
 *  - The file is first allocated at the size it will have: no remapping while it fills.
 *  - cache_buckets: the bucket array is locked in memory.
 *  - offset_width 4 and align_pow 3 (the defaults) reach 32 GiB; a store that may outgrow that gets
 *    width 5. In-place updates, no record checksum and no compression are the defaults.
 *    min_read_size (one read per record instead of two) and appending updates were tried: the one
 *    makes no difference over a mapping, the other halves the speed of overwrites.
 *  - sync_always: Synchronize(true) after each put. It has no group commit.
 * Tkrzw is safe to use from several threads at once.
 */
#include "engine.h"

#include <tkrzw_dbm_hash.h>
#include <tkrzw_file_mmap.h>

#include <cstdio>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

struct engine_store {
    explicit engine_store(std::unique_ptr<tkrzw::File> file) : dbm(std::move(file))
    {
    }
    tkrzw::HashDBM dbm;
    bool sync_always = false;
};

namespace
{

/* Stores one value of a batch. */
class Setter final : public tkrzw::DBM::RecordProcessor
{
  public:
    std::string_view value;
    std::string_view ProcessFull(std::string_view, std::string_view) override
    {
        return value;
    }
    std::string_view ProcessEmpty(std::string_view) override
    {
        return value;
    }
};

} // namespace

struct engine_session {
    engine_store *store = nullptr;
    std::string value; /* of the last get, reused */
    std::vector<Setter> setters;
    std::vector<std::pair<std::string_view, tkrzw::DBM::RecordProcessor *>> batch;
};

namespace
{

int failed(const char *call, const tkrzw::Status &status)
{
    const std::string text(status);
    std::fprintf(stderr, "caskade-bench: tkrzw: %s: %s\n", call, text.c_str());
    return ENGINE_FAILED;
}

std::string_view view(struct cask_slice slice)
{
    return {static_cast<const char *>(slice.data), slice.size};
}

int store_open(const struct engine_config *config, struct engine_store **ret_store)
{
    const auto num = static_cast<int64_t>(config->num);
    const auto record_bytes = static_cast<int64_t>(config->key_bytes + config->value_bytes + 16);
    const int64_t data_bytes = num * record_bytes;
    tkrzw::HashDBM::TuningParameters tuning;
    tuning.num_buckets = num * 2;
    tuning.offset_width = data_bytes * 2 > (int64_t{30} << 30) ? 5 : 4;
    tuning.align_pow = 3;
    tuning.cache_buckets = 1;
    auto file = std::make_unique<tkrzw::MemoryMapParallelFile>();
    file->SetAllocationStrategy(data_bytes + tuning.num_buckets * tuning.offset_width + (1 << 20),
                                2.0);
    auto store = std::make_unique<engine_store>(std::move(file));
    store->sync_always = config->sync_always;
    const tkrzw::Status status = store->dbm.OpenAdvanced(std::string(config->dir) + "/bench.tkh",
                                                         true, tkrzw::File::OPEN_DEFAULT, tuning);
    if (status != tkrzw::Status::SUCCESS) {
        return failed("Open", status);
    }
    *ret_store = store.release();
    return ENGINE_OK;
}

int store_close(struct engine_store *store)
{
    const tkrzw::Status status = store->dbm.Close();
    delete store;
    return status == tkrzw::Status::SUCCESS ? ENGINE_OK : failed("Close", status);
}

int session_open(struct engine_store *store, bool, struct engine_session **ret_session)
{
    auto *session = new (std::nothrow) engine_session;
    if (session == nullptr) {
        return failed("session", tkrzw::Status(tkrzw::Status::SYSTEM_ERROR, "out of memory"));
    }
    session->store = store;
    *ret_session = session;
    return ENGINE_OK;
}

int session_close(struct engine_session *session)
{
    delete session;
    return ENGINE_OK;
}

int finish_write(struct engine_session *session, const char *call, tkrzw::Status status)
{
    if (status == tkrzw::Status::SUCCESS && session->store->sync_always) {
        call = "Synchronize";
        status = session->store->dbm.Synchronize(true);
    }
    return status == tkrzw::Status::SUCCESS ? ENGINE_OK : failed(call, status);
}

int session_put(struct engine_session *session, struct cask_slice key, struct cask_slice value)
{
    return finish_write(session, "Set", session->store->dbm.Set(view(key), view(value)));
}

int session_get(struct engine_session *session, struct cask_slice key, struct cask_slice *ret_value)
{
    const tkrzw::Status status = session->store->dbm.Get(view(key), &session->value);
    if (status == tkrzw::Status::NOT_FOUND_ERROR) {
        return ENGINE_NOTFOUND;
    }
    if (status != tkrzw::Status::SUCCESS) {
        return failed("Get", status);
    }
    *ret_value = {session->value.data(), session->value.size()};
    return ENGINE_OK;
}

int session_write(struct engine_session *session, size_t count, const struct cask_slice *keys,
                  const struct cask_slice *values)
{
    session->setters.resize(count);
    session->batch.clear();
    for (size_t i = 0; i < count; i++) {
        session->setters[i].value = view(values[i]);
        session->batch.emplace_back(view(keys[i]), &session->setters[i]);
    }
    return finish_write(session, "ProcessMulti",
                        session->store->dbm.ProcessMulti(session->batch, true));
}

} // namespace

extern "C" const struct engine engine_tkrzw = {
    "tkrzw",
    "HashDBM, MemoryMapParallelFile preset to its final size, buckets twice the keys",
    1 << 20,
    false, /* spills */
    store_open,
    store_close,
    nullptr, /* figures: the buckets are part of the mapped file */
    session_open,
    session_close,
    session_put,
    session_get,
    nullptr, /* get_many */
    session_write,
    nullptr, /* merge: space is reused in place */
};
