/*
 * plog_block - the block of memory a plog_read leaves its batch in, so that the next read finds it there.
 *
 * A reader that takes messages one by one reads the same stored batch again and again: it is fetched and checked once, and
 * kept in the reader's struct engine_scratch. The block begins with a token, which is that of the plog that filled it. A
 * read of another log, or of another engine, does not find its own token and fills the block anew. (Another engine's
 * bytes are a token by chance once in 2^64; a scratch is used with one engine anyway.)
 *
 * Unlike scratch.h, a block that was made large for a large message becomes small again.
 */
#ifndef MQFS_PLOG_BLOCK_H
#define MQFS_PLOG_BLOCK_H

#include "engine/engine.h"

/* Drops what is there and makes room for size bytes. Returns them, aligned for any type, or NULL: no memory. */
void *plog_block_begin(struct engine_scratch *scratch, size_t size);

/* Makes room for size bytes and keeps what is there; may move it. NULL: no memory, and nothing has changed. */
void *plog_block_grow(struct engine_scratch *scratch, size_t size);

/* Tokens are never 0. get returns the content if the token is this one, else NULL. */
void plog_block_own(struct engine_scratch *scratch, uint64_t token);
void *plog_block_get(struct engine_scratch *scratch, uint64_t token);

#endif
