/*
 * steps - a script of exchanges and transactions, by requests (ask.h), and what there is before and after each step.
 */
#ifndef MQFS_TEST_STEPS_H
#define MQFS_TEST_STEPS_H

#include <stdbool.h>
#include <stddef.h>

#define LOOK_MAX 4096u

extern const size_t step_count;

const char *step_name(size_t i); /* for messages */
bool step_is_of_many(size_t i);  /* its messages are for one topic and come one after the other */
int step_answer(size_t i);       /* what it answers if nothing fails */
int step_do(size_t i);           /* 0, or the negative errno by which a request was refused */

/* The messages of the topic that all go to. */
void look_at_log(char ret[LOOK_MAX]);

/*
 * All else, as text: exchanges with what is bound, how much is in the queue, transactions. lasting: what a daemon that is killed leaves; else
 * also what is staged, and what is charged to users.
 */
void look_around(bool lasting, char ret[LOOK_MAX]);

#endif
