#include <caskade.h>

#include <stdio.h>
#include <string.h>

static struct cask_slice text(const char *string)
{
    return (struct cask_slice){string, strlen(string)};
}

int main(void)
{
    struct cask_options options = {.size = sizeof options, .sync_mode = CASK_SYNC_INTERVAL};
    struct cask_db *db;
    struct cask_view view;
    int status = cask_open("words.cask", &options, &db);

    if (status != CASK_OK) {
        fprintf(stderr, "words.cask: %s\n", cask_strerror(status));
        return 1;
    }
    status = cask_put(db, text("cask"), text("a vessel of staves, headings and hoops"));
    if (status == CASK_OK)
        status = cask_view(db, text("cask"), &view); /* borrows the value, without a copy */
    if (status == CASK_OK) {
        printf("cask: %.*s\n", (int)view.value.size, (const char *)view.value.data);
        cask_view_release(&view);
        status = cask_delete(db, text("cask"));
    }
    if (status == CASK_OK && cask_exists(db, text("cask")) == CASK_NOTFOUND)
        printf("and gone again\n");
    if (status != CASK_OK)
        fprintf(stderr, "words.cask: %s\n", cask_strerror(status));
    return cask_close(db) == CASK_OK && status == CASK_OK ? 0 : 1;
}
