#include "base/status.h"

/* A switch without a default: the compiler finds a missing text. */
const char *cask_strerror(int status)
{
    switch ((enum cask_status)status) {
    case CASK_OK:
        return "success";
    case CASK_NOTFOUND:
        return "no such key";
    case CASK_EINVAL:
        return "argument or option out of range";
    case CASK_ENOMEM:
        return "out of memory, or the index has reached its memory budget";
    case CASK_EIO:
        return "input/output error";
    case CASK_ENOSPC:
        return "no space left on the device";
    case CASK_EROFS:
        return "read-only file system";
    case CASK_EACCES:
        return "permission denied";
    case CASK_ELOCKED:
        return "the store is open elsewhere";
    case CASK_ENOTSTORE:
        return "not a Caskade store";
    case CASK_EVERSION:
        return "the store's format is newer than this library";
    case CASK_ECORRUPT:
        return "the store is damaged";
    case CASK_ERANGE:
        return "the buffer is too small for the value";
    case CASK_ETOOBIG:
        return "key, value or batch too large";
    case CASK_EREADONLY:
        return "the store was opened read-only";
    case CASK_EBUSY:
        return "the store is changing too fast, or the work was stopped";
    case CASK_EMFILE:
        return "out of file descriptors or memory mappings";
    case CASK_ENOTSUP:
        return "not supported by this system or file system";
    case CASK_EEXIST:
        return "the store, or another value of the key, is there already";
    case CASK_EMISMATCH:
        return "an option contradicts what the store was created with";
    }
    return "unknown status";
}
