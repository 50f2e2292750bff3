/* Whether a store that is closed has files that nothing refers to. */
#ifndef CASKADE_TESTS_SUPPORT_STRAYS_H
#define CASKADE_TESTS_SUPPORT_STRAYS_H

/* CHECKs that its shards hold manifests, segments that these list, hints of such segments, and
 * nothing else. */
void check_no_strays(const char *path);

#endif
