#include "fs/errors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/ring.h"

void errors_init(struct errors *errors)
{
	*errors = (struct errors){ 0 };
	pthread_mutex_init(&errors->lock, NULL);
}

void errors_release(struct errors *errors)
{
	for (size_t i = 0; i < errors->count; i++)
		free(errors->lines[i].text);
	pthread_mutex_destroy(&errors->lock);
}

/* The oldest line of the user who has the most with one more of uid; of two who have as many, that whose oldest is older. */
static size_t find_surplus_locked(const struct errors *errors, uint32_t uid)
{
	struct {
		uint32_t uid;
		size_t first, count;
	} users[ERRORS_KEPT];
	size_t user_count = 0, most = 0;

	users[0].first = 0;
	for (size_t i = 0; i < errors->count; i++) {
		size_t user = 0;

		while (user < user_count && users[user].uid != errors->lines[i].uid)
			user++;
		if (user == user_count) {
			users[user_count].uid = errors->lines[i].uid;
			users[user_count].first = i;
			users[user_count++].count = errors->lines[i].uid == uid;
		}
		users[user].count++;
	}
	for (size_t user = 1; user < user_count; user++)
		if (users[user].count > users[most].count)
			most = user;
	return users[most].first;
}

int errors_add(struct errors *errors, uint32_t uid, const char *text, size_t len)
{
	char *line = ring_line(text, len), *old = NULL;

	if (!line)
		return -ENOMEM;
	pthread_mutex_lock(&errors->lock);
	if (errors->count == ERRORS_KEPT) {
		size_t gone = find_surplus_locked(errors, uid);

		old = errors->lines[gone].text;
		errors->count--;
		memmove(
		    &errors->lines[gone], &errors->lines[gone + 1], (errors->count - gone) * sizeof errors->lines[0]);
	}
	errors->lines[errors->count++] = (struct error_line){ line, uid };
	pthread_mutex_unlock(&errors->lock);
	free(old);
	return 0;
}

int errors_read(struct errors *errors, size_t max, struct buffer *out)
{
	size_t before = out->len, count;

	pthread_mutex_lock(&errors->lock);
	count = errors->count < max ? errors->count : max;
	for (size_t i = errors->count - count; i < errors->count; i++)
		buffer_add_text(out, errors->lines[i].text);
	pthread_mutex_unlock(&errors->lock);
	if (buffer_error(out)) {
		out->len = before;
		return -ENOMEM;
	}
	return (int)count;
}
