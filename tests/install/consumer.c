/* A program of someone else's, in C: uses the installed library through its public header, and has
 * functions named like the library's internal ones, which must not clash. */
#include <caskade.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int segment_append(void);
int record_encode(void);
int keydir_find(void);
int io_open(void);
int hash_key(void);

int segment_append(void)
{
    return 1;
}
int record_encode(void)
{
    return 2;
}
int keydir_find(void)
{
    return 3;
}
int io_open(void)
{
    return 4;
}
int hash_key(void)
{
    return 5;
}

static void expect(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "consumer: %s\n", what);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    struct cask_db *db;
    char buffer[8];
    size_t size;

    expect(argc == 2, "usage: consumer DIR");
    expect(segment_append() + record_encode() + keydir_find() + io_open() + hash_key() == 15,
           "a function of the program was replaced by the library's");
    expect(strcmp(cask_version(), CASK_VERSION_STRING) == 0, "library and header differ");
    expect(cask_open(argv[1], NULL, &db) == CASK_OK, "open");
    expect(cask_put(db, (struct cask_slice){"key", 3}, (struct cask_slice){"value", 5}) == CASK_OK,
           "put");
    expect(cask_get(db, (struct cask_slice){"key", 3}, buffer, sizeof buffer, &size) == CASK_OK,
           "get");
    expect(size == 5 && memcmp(buffer, "value", 5) == 0, "another value came back");
    expect(cask_close(db) == CASK_OK, "close");
    puts("consumer: fine");
    return 0;
}
