/*
 * utf8 - is this UTF-8? One strict decoder for names, keys, JSON and metrics, so that all of them agree.
 *
 * Well-formed as in Unicode's table 3-7: no overlong forms, no surrogates, nothing above U+10FFFF. Noncharacters and
 * unassigned code points are fine. Nothing is normalised: two spellings of one letter are two names.
 */
#ifndef MQFS_FS_UTF8_H
#define MQFS_FS_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the character that ptr (len >= 1 bytes) begins with: 1 to 4; 0 if it begins with none. */
size_t utf8_char(const char *ptr, size_t len, uint32_t *ret_code);

/* All of it? Empty is. NUL bytes are characters like others. */
bool utf8_valid(const char *ptr, size_t len);

#endif
