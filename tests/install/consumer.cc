// A program of someone else's, in C++: the public header and every call it makes compile and link.
#include <caskade.h>

#include <cstdio>
#include <string>

static cask_slice slice(const std::string &text)
{
    return cask_slice{text.data(), text.size()};
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;

    cask_options options = cask_options();
    options.size = sizeof options;
    options.shard_count = 2;

    cask_db *db = nullptr;
    int status = cask_open(argv[1], &options, &db);
    if (status == CASK_OK)
        status = cask_put(db, slice("key"), slice("value"));
    struct cask_view view = {}; // "struct", as for stat(2): a function has the same name
    if (status == CASK_OK)
        status = cask_view(db, slice("key"), &view);
    bool same = false;
    if (status == CASK_OK) {
        same = std::string(static_cast<const char *>(view.value.data), view.value.size) == "value";
        cask_view_release(&view);
    }
    if (db != nullptr && cask_close(db) != CASK_OK)
        status = CASK_EIO;
    std::printf("consumer in C++: %s\n", status == CASK_OK && same ? "fine" : "failed");
    return status == CASK_OK && same ? 0 : 1;
}
