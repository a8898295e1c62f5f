#!/usr/bin/env bats
# status/: the figures of everything, for programs (metrics) and for people (dashboard.html).
load helpers

# take_metrics - checks them; $SAMPLES are lines of NAME LABELS VALUE.
take_metrics() {
	SAMPLES=$BATS_TEST_TMPDIR/samples
	t cat "$M/status/metrics" >"$SAMPLES.txt"
	python3 "$BATS_TEST_DIRNAME/openmetrics.py" <"$SAMPLES.txt" >"$SAMPLES"
}

# figure NAME LABELS - its value
figure() {
	grep -F "$1 $2 " "$SAMPLES" | cut -c "$((${#1} + ${#2} + 3))-"
}

# of_queue NAME [QUEUE]
of_queue() {
	figure "mqfs_queue_$1" "{\"queue\": \"${2:-${Q##*/}}\"}"
}

@test "metrics: every figure of a queue, as info has it, and ages of the oldest" {
	local name
	queue
	printf '%s\n' a b c d e f >>in
	mkdir consumers/w
	t cat consumers/w/next >/dev/null
	echo all >consumers/w/nack
	t cat consumers/w/out >/dev/null
	echo none >config/dead.letter.to
	echo "$(id_of a)" >consumers/w/ack
	mv "unacked/$(id_of b)" dlq/ready/
	mv "unacked/$(id_of c)" ready/
	touch -d '+10 min' "ready/$(id_of c)"
	echo '{"payload":"gone","ttl_ms":1}' >>in.json
	eventually eval '[ "$(info ready)" = 0 ]'
	echo ready >>in
	exec 9>consumers/w/session
	take_metrics
	for name in ready unacked delayed dead bytes consumers; do
		is "$name $(of_queue "$name")" "$name $(info "$name")"
	done
	is "$(for name in ready unacked delayed dead consumers; do of_queue "$name"; done | xargs)" '1 3 1 1 1'
	for name in published delivered redelivered acked dead_lettered expired dropped moved_in moved_out; do
		is "$name $(of_queue "${name}_total")" "$name $(info "$name")"
	done
	is "$(for name in published delivered redelivered acked expired; do of_queue "${name}_total"; done | xargs)" '8 7 1 1 '"$(info expired)"
	awk -v ready="$(of_queue oldest_ready_seconds)" -v unacked="$(of_queue oldest_unacked_seconds)" \
		'BEGIN { exit !(ready >= 0 && ready < 20 && unacked >= 0 && unacked < 20) }'
	is "$(of_queue ready "${Q##*/}/dlq")" 1
	exec 9>&-
}

@test "metrics: topics, groups and their dead letters; names that must be escaped" {
	topic 3
	group
	local name=${T##*/} odd=$'q"uo\\te d\xc3\xbc{a="b"}'
	mkdir "$M/queues/$odd" "$M/topics/$odd"
	printf '%s\n' a b c >>0/in
	take_metrics
	is "$(figure mqfs_queue_ready "{\"queue\": \"$name/groups/g/dlq\"}")" 0
	t cat groups/g/next >/dev/null
	echo all >groups/g/reject
	take_metrics
	is "$(figure mqfs_queue_ready "{\"queue\": \"$name/groups/g/dlq\"}")" 1
	is "$(figure mqfs_queue_published_total "{\"queue\": \"$name/groups/g/dlq\"}")" 1
	is "$(figure mqfs_group_lag "{\"group\": \"g\", \"topic\": \"$name\"}")" 2
	is "$(figure mqfs_topic_partitions "{\"topic\": \"$name\"}")" 3
	is "$(figure mqfs_topic_messages "{\"topic\": \"$name\"}")" 3
	grep -q -F '{"queue": "q\"uo\\te dü{a=\"b\"}"} 0' "$SAMPLES"
	grep -q -F '{"topic": "q\"uo\\te dü{a=\"b\"}"} 0' "$SAMPLES"
}

# page - the dashboard: checked to be whole HTML that asks for nothing from elsewhere; its text without tags, a cell or line each.
page() {
	t cat "$M/status/dashboard.html" | python3 -c '
import html.parser, sys
VOID = {"meta", "input", "br"}
OPEN = {"td", "th", "tr", "dt", "dd", "p"}
class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.quiet = [], False
    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        assert not {"src", "srcset", "action", "data", "background"} & attrs.keys(), (tag, attrs)
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form", "b", "i", "x"), tag
        assert tag != "a" or attrs["href"] == "metrics", attrs
        assert not [name for name in attrs if name.startswith("on")], attrs
        if tag in ("style", "script"):
            self.quiet = True
        if tag not in VOID | OPEN:
            self.open.append(tag)
    def handle_endtag(self, tag):
        self.quiet = False
        if tag not in OPEN:
            assert self.open.pop() == tag, tag
    def handle_data(self, data):
        if self.quiet:
            assert "http" not in data and "@import" not in data and "url(" not in data, data
        elif data.strip():
            print(data.strip())
text = sys.stdin.buffer.read().decode("utf-8")
assert text.lower().startswith("<!doctype html>")
page = Page()
page.feed(text)
page.close()
assert page.open == [], page.open'
}

# row NAME - the cells of the row that begins with NAME, in the table that has most of it.
has_row() {
	page | tr '\n' '|' | grep -q -F "|$1|"
}

@test "dashboard.html: topics with partitions, groups with lag and members, queues, health, last errors" {
	queue
	local name=${Q##*/}
	printf '%s\n' a b c >>in
	t cat next >/dev/null
	mv "ready/$(id_of b)" dlq/ready/
	not bash -c 'echo bogus >ack' 2>/dev/null
	topic 2
	seq 1500 >>0/in
	group billing
	mkdir groups/billing/members/anna groups/billing/members/bob
	page | grep -q '^state ok$'
	has_row "$name|1|1|0|1|2 B|0"
	has_row "$name/dlq|1|0|0|0|1 B|0"
	has_row "${T##*/}|2|1,500|6.2 KiB|1,500|1|0|0: 0–1500 · 1: 0–0"
	has_row "${T##*/}|billing|1,500|0|0|0|0|0|anna (0), bob (1)"
	page | grep -q "EINVAL uid=0 .* queues/$name/ack: write all, ID or ID-ID, not \"bogus\"$"
	is "$(stat -c '%A %s' "$M/status/dashboard.html")" '-r--r--r-- 0'
	t setpriv --reuid 65534 --regid 65534 --clear-groups cat "$M/status/dashboard.html" >/dev/null
	fails EPERM bash -c "echo x > $M/status/dashboard.html"
}

@test "dashboard.html: names are text and no HTML, wherever they stand" {
	local odd="<b>\"x\"<i>&amp;'" other='<script>alert(1)<x>'
	mkdir "$M/queues/$odd" "$M/topics/$other" "$M/topics/$other/groups/$odd" "$M/topics/$other/groups/$odd/members/$other"
	not mkdir "$M/queues/$odd/$other" 2>/dev/null
	has_row "$odd"
	has_row "$other|$odd"
	page | grep -q -F "$other (0)"
	page | grep -q "EPERM uid=0 .* queues/<b>.*/<script>alert(1)<x>: no directory"
	rmdir "$M/queues/$odd" "$M/topics/$other/groups/$odd/members/$other" "$M/topics/$other/groups/$odd" "$M/topics/$other"
}

@test "dashboard.html: of many queues the fullest are shown, and it says how many there are" {
	local count
	for count in $(seq 205); do echo "$M/queues/many-$count"; done | xargs mkdir
	seq 5000 >>"$M/queues/many-177/in"
	count=$(ls "$M/queues" | wc -l)
	page | grep -q "^The 200 queues with the most messages, of [0-9]*\.$"
	[ "$(page | grep -o 'messages, of [0-9]*' | grep -o '[0-9]*')" -ge "$count" ]
	is "$(page | grep -c -e '^many-')" "$(page | grep -e '^many-' | sort -u | wc -l)"
	has_row 'many-177|5,000'
	[ "$(t cat "$M/status/dashboard.html" | wc -c)" -lt 200000 ]
	take_metrics
	is "$(of_queue ready many-205)" 0
}

@test "health says which file it is that keeps a log from being opened" {
	topic
	echo mine >>in
	local one=$T
	topic
	echo other >>in
	cd /
	unmount
	local a b
	a=$(grep -l '^mine$' "$S"/logs/*/*.data)
	b=$(grep -l '^other$' "$S"/logs/*/*.data)
	cp "${b%.data}.index" "${a%.data}.index"
	mount_store
	not t cat "$one/0/log"
	grep -q "^reason topic ${one##*/}, partition 0: the log cannot be opened: log [0-9a-f]*: segment 0* is segment 0* of log" "$M/status/health" || { cat "$M/status/health"; return 1; }
	is "$(cat "$T/0/log")" other
}

# fail_last_write WHEN... - one change meets a disk that fails in the last write of LMDB's commit, and then as WHEN says (strace's injections).
# The last write is one of a few: if one before it fails, that is an error of the change only, and the next is tried.
fail_last_write() {
	local pid tracer n
	pid=$(daemon_pid)
	for n in {1..30}; do # as many as a commit has at most
		strace -f -q -o "$BATS_TEST_TMPDIR/trace" -P "$S/catalog" -e trace=pwrite64,pwritev -e inject=pwrite64:error=EIO:when=$n "$@" -p "$pid" 3>&- &
		tracer=$!
		eventually grep -q 'TracerPid:.*[1-9]' "/proc/$pid/status" || skip 'strace may not trace'
		run mkdir "$M/topics/unlucky$n"
		kill "$tracer"
		wait "$tracer" || true
		! grep -q 'pwrite64(.*, \(32\|4128\)) = .*INJECTED' "$BATS_TEST_TMPDIR/trace" || return 0 # in a meta page
	done
	return 1
}

@test "a disk that fails once under the catalog: the call says EIO, and all goes on" {
	command -v strace >/dev/null || skip 'strace is not installed'
	topic
	cd /
	fail_last_write
	[ "$status" = 1 ]
	[[ $output == *'Input/output error' ]]
	grep -q 'EIO .*topics/unlucky' "$M/status/errors"
	not grep 'the disk failed under the catalog' "$M/status/health"
	mkdir "$M/topics/lucky"
	echo hello >>"$M/topics/lucky/in"
	unmount
	mount_store
	is "$(cat "$M/topics/lucky/0/log")" hello
	not test -e "$M/topics/unlucky1"
}

@test "a disk that stays bad under the catalog: each change is EIO, health and errors say what it is, and the rest is there" {
	command -v strace >/dev/null || skip 'strace is not installed'
	topic
	echo hello >>in
	cd /
	fail_last_write -e inject=pwritev:error=EIO
	[ "$status" = 1 ]
	[[ $output == *'Input/output error' ]]
	grep -q '^state degraded' "$M/status/health"
	grep -q '^reason the disk failed under the catalog, .* fsck.mqfs -y' "$M/status/health"
	grep -q 'EIO .*topics/unlucky' "$M/status/errors"
	grep -q 'EIO .*the disk failed under the catalog' "$M/status/errors"
	is "$(cat "$T/0/log")" hello
	grep -q '^partitions 1$' "$T/info"
	run mkdir "$M/topics/more"
	[ "$status" = 1 ]
	[[ $output == *'Input/output error' ]]
	# As it says; and what the disk has is the state before.
	unmount
	mount_store
	is "$(cat "$T/0/log")" hello
	not grep -q 'the disk failed' "$M/status/health"
	mkdir "$M/topics/more"
}
