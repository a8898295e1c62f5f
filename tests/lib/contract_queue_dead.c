/* The contract of queues: dead letters, limits, and messages that are moved. */
#include "tests/lib/contract_queue.h"

/* Each way to die leaves its entry; the same in the same queue counts, the newest stands first. */
void contract_test_q_deaths(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a b:t10", "get q => a", "reject q a => 1", "tick 10", "show q/dlq => a,b |  | ",
	    "deaths q/dlq a => q:rejected:1:-10", "deaths q/dlq b => q:expired:1:0", "redrive q/dlq => 2",
	    "show q => a,b |  | ", "message q b => ready p0 d0", "deaths q b => q:expired:1:0", "get q => a",
	    "get q => b", "tick 5", "reject q a-b => 2", "deaths q/dlq a => q:rejected:2:0",
	    "deaths q/dlq b => q:rejected:1:0 q:expired:1:-5", "set q delivery.limit 0 => ok", "redrive q/dlq => 2",
	    "get q => a", "nack q a => 1", "deaths q/dlq a => q:delivery_limit:1:0 q:rejected:2:0",
	    "set q max.length 1 => ok", "send q c", "deaths q/dlq b => q:maxlen:1:0 q:rejected:1:0 q:expired:1:-5",
	    "get q/dlq => a", "reject q/dlq a => 1", "show q/dlq => b |  | ", "totals q/dlq dropped => 1");
}

/* What comes back after more than delivery.limit deliveries is dead; -1 sets no limit. */
void contract_test_q_delivery_limit(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "set q delivery.limit 2 => ok", "set q redelivery.delay.ms 5 => ok",
	    "send q a", "get q => a", "nack q a => 1", "tick 5", "get q => a+", "tick 300000", "show q =>  |  | a",
	    "tick 5", "get q/w1 => a+", "message q a => unacked p0 d3 +300000", "nack q/w1 a => 1", "show q =>  |  | ",
	    "deaths q/dlq a => q:delivery_limit:1:0", "nack q/w1 a => EALREADY", "message q/dlq a => ready p0 d0",
	    "set q delivery.limit -1 => ok", "set q redelivery.delay.ms 0 => ok", "redrive q/dlq => 1");
	for (int i = 0; i < 30; i++)
		Q_SCRIPT(c, i == 0 ? "get q => a" : "get q => a+", "nack q a => 1");
	Q_SCRIPT(c, "message q a => ready p0 d30", "set q delivery.limit 29 => ok", "show q => a |  | ",
	    "open f q stream", "read f => a+", "close f", "show q =>  |  | ", "ack q a => ESTALE");
}

/* Dead letters go to another queue, stay if that is not there, or go nowhere. */
void contract_test_q_dead_letter_to(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "queue o", "set q dead.letter.to queues/o => ok", "send q a:p7 b c d", "get q => a",
	    "set o max.priority 4 => ok", "reject q a => 1", "show o => a |  | ", "message o a => ready p4 d0",
	    "deaths o a => q:rejected:1:0", "get q => b", "purge o", "rmdir o => ok", "reject q b => 1",
	    "show q/dlq => b |  | ", "set q dead.letter.to none => ok", "get q => c", "reject q c => 1",
	    "touch q ready d 10", "set q message.ttl.ms 5 => ok", "tick 10", "show q/dlq => b |  | ",
	    "totals q => published 4 delivered 3 dead_lettered 2 expired 1 dropped 1");
	/* It is the name that counts; and from dead letters themselves what was rejected stays there. */
	Q_SCRIPT(c, "queue p", "queue r", "set p dead.letter.to queues/r => ok", "rename r s => ok", "send p x y",
	    "get p => x", "reject p x => 1", "show p/dlq => x |  | ", "queue r", "get p => y", "reject p y => 1",
	    "show r => y |  | ", "show s =>  |  | ", "set p/dlq dead.letter.to queues/t => ok", "get p/dlq => x",
	    "reject p/dlq x => 1", "show p/dlq => x |  | ", "totals p/dlq => delivered 1 dead_lettered 1 moved_in 2");
}

/* A dead letter that would come to where it was before is dropped, unless somebody rejected it on the way. */
void contract_test_q_circle(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "queue o", "set q dead.letter.to queues/o => ok", "set o dead.letter.to queues/q => ok",
	    "set q message.ttl.ms 10 => ok", "set o message.ttl.ms 10 => ok", "send q a", "tick 10",
	    "show o => a |  | ", "tick 10", "show o =>  |  | ", "show q =>  |  | ", "totals o => dropped 1 moved_in 1",
	    "send q b", "get q => b", "reject q b => 1", "tick 10", "show q => b |  | ",
	    "deaths q b => o:expired:1:0 q:rejected:1:-10", "tick 10", "show q =>  |  | ", "show o =>  |  | ",
	    "totals q => published 2 delivered 1 dead_lettered 2 dropped 1 moved_in 1",
	    "set q dead.letter.to queues/q => ok", "send q c", "tick 10", "show q =>  |  | ", "totals q dropped => 2",
	    "send q d", "get q => d", "reject q d => 1", "show q => d |  | ", "deaths q d => q:rejected:1:0");
}

/* What a batch brings to dead letters, by the room or by its age, is all there before their length is looked at. */
void contract_test_q_dead_before_lengths(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "set q overflow reject-publish-dlx => ok", "set q max.length.bytes 40 => ok",
	    "set q message.ttl.ms 100 => ok", "set q/dlq max.length.bytes 40 => ok", "dated -200 => ok",
	    "send q a b:p9:s5000 c:d1", "show q =>  |  | ", "show q/dlq =>  |  | ",
	    "totals q => published 3 dead_lettered 3", "totals q/dlq dropped => 3");
}

/* The dead letters are a queue like others: they are read, leased, settled, delayed, limited. */
void contract_test_q_dlq(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "send q a b c", "snap q => a,b,c", "reject q a-c => 3",
	    "get q/dlq => a", "ack q a => EALREADY", "ack q/dlq a => 1", "get q/dlq => b", "nack q/dlq b => 1",
	    "touch q/dlq ready b 10", "show q/dlq => c |  | b", "totals q dead => 2", "send q/dlq d",
	    "show q/dlq => c,d |  | b", "set q/dlq max.length 1 => ok", "show q/dlq => d |  | b",
	    "totals q/dlq dropped => 1", "send q e", "get q => e", "reject q e => 1", "show q/dlq => e |  | b",
	    "set q/dlq overflow reject-publish => ok", "send q f", "get q => f", "reject q f => 1",
	    "show q/dlq => e,f |  | b", "send q/dlq g => EDQUOT");
}

/* Redriving puts dead letters back to the end of their queue, all or those named, as long as there is room. */
void contract_test_q_redrive(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a:p5 b c d", "snap q => a,b,c,d", "reject q a-d => 4", "send q e",
	    "redrive q/dlq b => 1", "redrive q/dlq b => ENOENT", "show q => e,b |  | ", "touch q/dlq ready c 100",
	    "redrive q/dlq c => ENOENT", "set q max.length 3 => ok", "set q overflow reject-publish => ok",
	    "redrive q/dlq => 1", "show q => a,e,b |  | ", "show q/dlq => d |  | c", "redrive q/dlq => EDQUOT",
	    "set q max.length -1 => ok", "redrive q/dlq => 1", "redrive q/dlq => 0", "show q => a,e,b,d |  | ",
	    "get q => a", "redrive q => EINVAL", "totals q => published 5 delivered 5 dead_lettered 4 moved_in 3",
	    "totals q/dlq => moved_in 4 moved_out 3");
	/* What comes back displaces others, which are dead letters then: it ends all the same. */
	Q_SCRIPT(c, "queue o", "send o v w", "snap o => v,w", "reject o v-w => 2", "set o max.length 1 => ok",
	    "send o x", "redrive o/dlq => 2", "show o => w |  | ", "show o/dlq => x,v |  | ");
}

/* Each goes back alone: what it displaces is dead before the next one comes. */
void contract_test_q_redrive_to_limits(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q x:p1 y", "snap q => x,y", "reject q x => 1", "reject q y => 1", "push q h",
	    "set q max.length 1 => ok", "redrive q/dlq => 2", "show q => x |  | ", "show q/dlq => h,y |  | ");
}

/* Above max.length the oldest of the lowest priority goes to dead letters; what is leased or delayed does not count. */
void contract_test_q_max_length(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "set q max.length 3 => ok", "send q a b:p1 c d", "show q => b,c,d |  | ", "get q => b",
	    "send q e:d10", "show q => c,d | b | e", "send q f", "show q => c,d,f | b | e", "nack q b => 1",
	    "show q => b,d,f |  | e", "tick 10", "show q => b,e,f |  | ", "push q g", "show q => b,g,f |  | ",
	    "push q h", "show q => b,h,g |  | ", "push q i", "show q => b,i,h |  | ", "send q j:p1 k:p1",
	    "show q => b,j,k |  | ", "send q l", "show q => b,j,k |  | ", "set q max.length 1 => ok",
	    "show q => k |  | ", "deaths q/dlq a => q:maxlen:1:-10", "show q/dlq => b,j,a,c,d,e,f,g,h,i,l |  | ",
	    "set q dead.letter.to none => ok", "send q m:p1", "show q => m |  | ", "totals q dropped => 1");
}

/* max.length.bytes counts payloads; a message that is larger by itself has no place. */
void contract_test_q_max_length_bytes(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "set q max.length.bytes 10 => ok", "send q aaaa bbbb cc", "show q => aaaa,bbbb,cc |  | ",
	    "send q d", "show q => bbbb,cc,d |  | ", "send q eeeeeeeeeee", "show q =>  |  | ", "totals q bytes => 0",
	    "set q overflow reject-publish => ok", "send q ffffff", "send q ggggg => EDQUOT", "room q 5 => EDQUOT",
	    "room q 4 => ok", "send q gggg => ok", "room q 0 => ok", "room q 1 => EDQUOT",
	    "set q overflow drop-head => ok", "room q 1 => ok");
}

/* Under reject-publish a batch that has no room is refused whole; what comes back, and dead letters, always come in. */
void contract_test_q_reject_publish(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "queue o", "set q max.length 2 => ok", "set q overflow reject-publish => ok",
	    "send q a b c => EDQUOT", "show q =>  |  | ", "send q a => ok", "send q d:d10 e:d10 => ok",
	    "send q f => ok", "send q g => EDQUOT", "get q => a", "send q h => ok", "nack q a => 1",
	    "show q => a,f,h |  | d,e", "tick 10", "show q => a,d,e,f,h |  | ", "send q i:d1 => ok",
	    "send q j => EDQUOT", "room q 0 => EDQUOT", "room q 1 d0 => EDQUOT", "room q 1 d1 => ok",
	    "room q 1 =x => EDQUOT", "room o 1000000 => ok", "set o dead.letter.to queues/q => ok", "send o k",
	    "get o => k", "reject o k => 1", "show q => a,d,e,f,h,k |  | i", "set q max.length 1 => ok",
	    "show q => a,d,e,f,h,k |  | i", "totals q => published 6 delivered 1 moved_in 1");
}

/* Under reject-publish-dlx what has no room is dead at once, and its producer content. */
void contract_test_q_reject_publish_dlx(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "set q max.length 2 => ok", "set q overflow reject-publish-dlx => ok",
	    "send q a b c d:d5 => ok", "show q => a,b |  | d", "show q/dlq => c |  | ",
	    "deaths q/dlq c => q:maxlen:1:0", "tick 5", "show q => a,b,d |  | ", "room q 1 => ok",
	    "set q dead.letter.to none => ok", "room q 1 => EDQUOT", "send q e => EDQUOT",
	    "totals q => published 4 dead_lettered 1");
}

/* A message keeps its id wherever it is moved; there it is new: last of its priority, and not yet delivered. */
void contract_test_q_moves(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "queue o", "consumer q/w1", "consumer o/w2", "send q a b c d e", "send o x y:p3",
	    "mv q ready b o ready", "show q => a,c,d,e |  | ", "show o => y,x,b |  | ", "mv q ready a q ready p5",
	    "show q => a,c,d,e |  | ", "message q a => ready p5 d0", "mv q ready c o ready p9",
	    "show o => c,y,x,b |  | ", "mv q ready d o unacked o/w2", "message o d => unacked p0 d1 +300000",
	    "ack q d => ENOENT", "ack o/w2 d => 1", "get q => a", "mv q unacked a o ready p0", "ack q a => EALREADY",
	    "message o a => ready p0 d0", "touch q ready e 10", "mv q delayed e o unacked o",
	    "message o e => unacked p0 d1 +300000", "ack o e => 1", "show q =>  |  | ", "show o => c,y,x,b,a |  | ",
	    "totals q => published 5 delivered 1 moved_out 5", "totals o => published 2 delivered 2 acked 2 moved_in 5",
	    "mv o ready b q ready", "mv o ready x q unacked q/w1", "mv q unacked x q unacked q", "ack q/w1 x => ESTALE",
	    "message q x => unacked p0 d2 +300000", "tick 1000", "mv q unacked x q unacked q",
	    "message q x => unacked p0 d2 +300000", "mv q unacked x q ready p1", "show q => x,b |  | ",
	    "message q x => ready p1 d2", "mv q ready x q/dlq ready", "deaths q/dlq x => q:rejected:1:0",
	    "mv o ready y q/dlq ready", "deaths q/dlq y => -", "mv q/dlq ready x o ready",
	    "deaths o x => q:rejected:1:0");
}

/* Who dies by being moved keeps the priority it had; who is given another one keeps its age. */
void contract_test_q_moves_and_priorities(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a:p3 b:p4 c", "mv q ready a q/dlq ready p0", "message q/dlq a => ready p3 d0",
	    "set q delivery.limit 0 => ok", "get q => b", "mv q unacked b q ready p1", "message q/dlq b => ready p4 d0",
	    "deaths q/dlq b => q:delivery_limit:1:0", "tick 100", "mv q ready c q ready p7", "send q d:p7", "tick 100",
	    "set q message.ttl.ms 150 => ok", "show q => d |  | ", "tick 50", "show q =>  |  | ");
}

/* A place that there is not, or that has no room, is refused, and the message stays where it was. */
void contract_test_q_move_errors(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *queue, *other;
	struct engine_place place = { .state = ENGINE_READY, .priority = ENGINE_ANY };

	Q_SCRIPT(c, "queue q", "queue o", "consumer q/w1", "consumer o/w2", "set o max.priority 4 => ok", "send q a:p9",
	    "mv q ready a o ready p5 => EINVAL", "mv q ready a o unacked => EINVAL",
	    "mv q ready a o unacked q/w1 => EPERM", "mv q ready a q unacked o/w2 => EPERM",
	    "mv q ready a o delayed => EINVAL", "mv q unacked a o ready => ENOENT", "mv o ready a q ready => ENOENT",
	    "show q => a |  | ");
	queue = q_object(c, "q");
	other = q_object(c, "o");
	place.queue = topic;
	assert_err(c->ops->queue->message_move(queue, 1, ENGINE_READY, &place), EINVAL);
	Q_SCRIPT(c, "rmdir o => ok");
	place.queue = other;
	assert_err(c->ops->queue->message_move(queue, 1, ENGINE_READY, &place), EIDRM);
	Q_SCRIPT(
	    c, "queue o", "set o max.priority 4 => ok", "mv q ready a o ready => ok", "message o a => ready p4 d0");
	c->ops->put(other);
	c->ops->put(queue);
	c->ops->put(topic);
}

/* A full queue that refuses what is sent refuses what is moved in; one that drops makes room for it. */
void contract_test_q_moves_to_limits(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "queue o", "consumer o/w1", "set o max.length 1 => ok", "send o x", "send q a b c",
	    "mv q ready a o ready => ok", "show o => a |  | ", "show o/dlq => x |  | ",
	    "set o overflow reject-publish => ok", "mv q ready b o ready => EDQUOT",
	    "mv q ready b o unacked o/w1 => ok", "nack o/w1 b => 1", "show o => a,b |  | ",
	    "mv o ready a o ready p3 => ok", "mv q ready c o ready => EDQUOT",
	    "set o overflow reject-publish-dlx => ok", "mv q ready c o ready => EDQUOT", "show q => c |  | ");
}

/* Purging discards what is ready and delayed, and leaves what somebody holds. */
void contract_test_q_purge(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a b c:p4 d:d100", "push q e", "get q => c", "purge q => ok", "show q =>  | c | ",
	    "show q/dlq =>  |  | ", "nack q c => 1", "purge q/dlq => ok", "show q => c |  | ",
	    "totals q => published 5 delivered 1 dropped 4", "ack q a => ENOENT");
}

/* Everything that came is still there, or went on one of the ways that are counted; the bytes are those of what is there. */
void contract_test_q_conservation(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "queue o", "send q aa b c d e:t5 f g h:d1 i j", "get q => aa", "ack q aa => 1",
	    "take q => b", "get q => c", "reject q c => 1", "rm q ready d", "tick 5", "mv q ready f o ready",
	    "mv o ready f q ready", "set q max.length 3 => ok", "get q => i",
	    "totals q => published 10 delivered 4 acked 2 dead_lettered 4 dropped 1 moved_in 1 moved_out 1",
	    "totals q bytes => 3", "totals q ready => 2", "totals q unacked => 1", "totals q dead => 4",
	    "show q => j,f | i | ");
}

/* ---- many at once ---- */

#define WRITERS 4
#define READERS 4
#define EACH 2000

struct crowd {
	struct contract *c;
	struct engine_object *queue, *dlq, *consumers[READERS];
	unsigned acked[WRITERS * EACH]; /* lock */
	pthread_mutex_t lock;
	uint64_t settled; /* lock */
	char errors[256]; /* lock */
};

struct member {
	struct crowd *crowd;
	unsigned number;
	pthread_t thread;
};

static void complain(struct crowd *crowd, const char *what, int64_t rc)
{
	pthread_mutex_lock(&crowd->lock);
	snprintf(crowd->errors, sizeof(crowd->errors), "%s: %" PRId64, what, rc);
	pthread_mutex_unlock(&crowd->lock);
}

static void *write_all(void *arg)
{
	struct member *m = arg;
	const struct engine_ops *ops = m->crowd->c->ops;
	struct engine_producer *producer = NULL;
	int rc = ops->queue->producer_open(m->crowd->queue, ENGINE_ANY, false, &producer);

	for (unsigned i = 0; rc == 0 && i < EACH; i += 10) {
		char lines[256] = "";
		struct engine_batch batch;

		for (unsigned j = 0; j < 10; j++)
			snprintf(
			    lines + strlen(lines), sizeof(lines) - strlen(lines), "%u\n", m->number * EACH + i + j);
		batch = contract_batch(lines);
		rc = contract_send_batch(m->crowd->c, producer, &batch);
	}
	if (rc < 0)
		complain(m->crowd, "send", rc);
	ops->producer_close(producer);
	return NULL;
}

/* Settles what a view gave at random. */
static void settle_view(
    struct member *m, const struct engine_view *view, struct engine_object *consumer, unsigned *seed)
{
	static const enum engine_settle hows[] = { ENGINE_ACK, ENGINE_ACK, ENGINE_NACK, ENGINE_REJECT };
	const struct engine_ops *ops = m->crowd->c->ops;
	const char *data = view->batch.data;

	for (uint32_t i = 0; i < view->batch.count; i++) {
		enum engine_settle how = hows[rand_r(seed) % 4];
		uint64_t id = view->deliveries[i].id;
		int64_t rc = ops->queue->settle(consumer, how, id, id);

		if (rc != 1)
			complain(m->crowd, "settle", rc);
		pthread_mutex_lock(&m->crowd->lock);
		m->crowd->acked[strtoul(data, NULL, 10)] += how == ENGINE_ACK;
		m->crowd->settled += how == ENGINE_ACK;
		pthread_mutex_unlock(&m->crowd->lock);
		data += view->batch.lengths[i] + 1;
	}
}

static bool is_over(struct crowd *crowd)
{
	bool over;

	pthread_mutex_lock(&crowd->lock);
	over = crowd->settled == WRITERS * EACH || crowd->errors[0] != '\0';
	pthread_mutex_unlock(&crowd->lock);
	return over;
}

/* Reads with files that come and go, puts dead letters back, until each message was acknowledged. */
static void *read_all(void *arg)
{
	struct member *m = arg;
	const struct engine_ops *ops = m->crowd->c->ops;
	struct engine_object *object = m->crowd->consumers[m->number];
	struct engine_scratch scratch = { 0 };
	unsigned seed = m->number;

	while (!is_over(m->crowd)) {
		enum engine_consume how = rand_r(&seed) % 2 == 0 ? ENGINE_CONSUME_SNAPSHOT : ENGINE_CONSUME_STREAM;
		struct engine_consumer *consumer = NULL;
		struct engine_view view;
		int rc = ops->queue->consumer_open(object, how, false, 0, &consumer);

		for (int i = 0; rc == 0 && i < 50; i++) {
			rc = ops->consumer_fetch(consumer, 1 + (uint32_t)rand_r(&seed) % 20, SIZE_MAX, &scratch, &view);
			if (rc == 1)
				settle_view(m, &view, object, &seed);
			rc = rc == 1 ? 0 : rc < 0 ? rc : 1;
		}
		if (rc < 0)
			complain(m->crowd, "read", rc);
		ops->consumer_close(consumer);
		if (ops->queue->redrive(m->crowd->dlq, 0, UINT64_MAX) < 0)
			complain(m->crowd, "redrive", -1);
	}
	engine_scratch_release(&scratch);
	return NULL;
}

/* Writers and readers that ack, nack and reject at random: each message is acknowledged exactly once, none is lost. */
void contract_test_q_in_parallel(struct contract *c)
{
	struct crowd *crowd = calloc(1, sizeof(*crowd));
	struct member writers[WRITERS], readers[READERS];
	struct engine_queue_stat stat;

	cr_assert_not_null(crowd);
	Q_SCRIPT(
	    c, "queue q", "consumer q/w1", "consumer q/w2", "set q delivery.limit -1 => ok", "set q prefetch 50 => ok");
	crowd->c = c;
	pthread_mutex_init(&crowd->lock, NULL);
	crowd->queue = q_object(c, "q");
	crowd->dlq = q_object(c, "q/dlq");
	for (unsigned i = 0; i < READERS; i++)
		crowd->consumers[i] = q_object(c, i < 2 ? (i == 0 ? "q/w1" : "q/w2") : "q");
	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i] = (struct member){ crowd, i, 0 };
		readers[i] = (struct member){ crowd, i, 0 };
		cr_assert_eq(pthread_create(&writers[i].thread, NULL, write_all, &writers[i]), 0);
		/* The anonymous consumer has one reader: two could take each other's for their own. */
		if (i < 3)
			cr_assert_eq(pthread_create(&readers[i].thread, NULL, read_all, &readers[i]), 0);
	}
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(writers[i].thread, NULL);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(readers[i].thread, NULL);
	cr_assert_str_eq(crowd->errors, "");
	for (unsigned i = 0; i < WRITERS * EACH; i++)
		cr_assert_eq(crowd->acked[i], 1, "message %u was acknowledged %u times", i, crowd->acked[i]);
	assert_ok(c->ops->queue->queue_stat(crowd->queue, &stat));
	cr_assert(stat.published == WRITERS * EACH && stat.acked == WRITERS * EACH && stat.ready + stat.unacked == 0);
	for (unsigned i = 0; i < READERS; i++)
		c->ops->put(crowd->consumers[i]);
	c->ops->put(crowd->dlq);
	c->ops->put(crowd->queue);
	pthread_mutex_destroy(&crowd->lock);
	free(crowd);
}
