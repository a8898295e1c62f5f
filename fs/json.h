/*
 * json - the parser of jansson, where there is no memory.
 *
 * jansson does not tell most times that it had none, but that the text is wrong; and where it has none for the next part of a long string
 * it goes on without that, and beyond the end of what it has (2.14: lex_scan_string). So it does not get to know: an allocation that
 * fails leaves the parser, and what that had is freed.
 */
#ifndef MQFS_FS_JSON_H
#define MQFS_FS_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* A value, which the same thread is to free (json_decref) before it parses another; NULL: see ret_error, but for want of memory. */
json_t *json_parse(const char *text, size_t len, size_t flags, json_error_t *ret_error, bool *ret_no_memory);

#endif
