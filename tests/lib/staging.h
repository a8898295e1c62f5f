/*
 * staging - the writer of a staging file, as tests are one: it appends to the file that the engine names, as the kernel does for a
 * process with passthrough.
 */
#ifndef MQFS_TESTS_STAGING_H
#define MQFS_TESTS_STAGING_H

#include "tests/lib/contract.h"

extern const struct engine_cred staging_cred; /* who opens */

/* What the engine answers to an opening by this producer, which is closed. */
int staging_open(struct contract *c, struct engine_producer *producer, char delimiter, const struct engine_cred *by,
    struct engine_stage **ret_stage);
int staging_writer(struct contract *c, struct engine_stage *stage); /* a descriptor */
void staging_put(int writer, const char *text, size_t len);
void staging_text(int writer, const char *text);
/* The writer closes it, and nobody else has it open; returns what the engine answers. */
int staging_end(struct contract *c, struct engine_stage *stage, int writer);

size_t staging_files(struct contract *c);
bool staging_no_files(struct contract *c, void *ctx); /* for contract_wait() */

#endif
