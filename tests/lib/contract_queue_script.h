/*
 * contract_queue_script - what the commands of a script share: contract_queue.c runs them, contract_queue_look.c has those that
 * look, and the names of messages, contract_queue_act.c those that produce, consume and settle.
 */
#ifndef MQFS_TESTS_CONTRACT_QUEUE_SCRIPT_H
#define MQFS_TESTS_CONTRACT_QUEUE_SCRIPT_H

#include <uthash.h>

#include "tests/lib/contract_queue.h"

#define WORDS 16
#define HANDLES 16

struct handle {
	char name[32];
	struct engine_consumer *consumer;
	struct engine_session *session;
	struct contract_waiter waiter;
};

struct name {
	UT_hash_handle hh, by_id;
	uint64_t id, size;
	char text[32];
};

/* The ids of payloads, and what is open. */
struct script {
	struct contract *c;
	struct name *names, *ids;
	bool lenient;
	unsigned shown;           /* messages whose payloads were not read again */
	struct engine_object *tx; /* in which a command is, or NULL */
	struct handle handles[HANDLES];
	char *words[WORDS];
	uint32_t uid;  /* who reads and claims */
	int64_t dated; /* the next batch is of this time, from now */
	char line[512], answer[65536];
};

extern struct script *script; /* the one that runs */

/* ---- contract_queue_look.c ---- */

void script_answer(const char *format, ...) __attribute__((format(printf, 1, 2)));
void script_answer_rc(int64_t rc); /* a number, or the name of an errno */
void script_answer_ok(int rc);
enum engine_message_state script_state(const char *word);
size_t script_name_length(const char *text, size_t size); /* of a payload: what is before a dot */
void script_learn(const char *text, size_t size, uint64_t id);
void script_learn_all(struct contract *c, struct engine_object *queue); /* the ids of what just came */
uint64_t script_id(const char *text);                                   /* of a payload that was seen, or #number */
/* "a,b | c | d": what is ready, unacked and delayed. details: "a/0/1+300": priority, deliveries, and what is due when. */
void script_show(struct contract *c, const char *path, bool details);
bool script_run_queue(struct contract *c, char *const *words); /* commands about a queue and what is in it */

/* ---- contract_queue_act.c ---- */

void script_close_handle(struct contract *c, struct handle *handle);
bool script_run_sending(struct contract *c, char **words);        /* send, push, room, mv */
bool script_run_consumer(struct contract *c, char *const *words); /* about consuming and settling */

#endif
