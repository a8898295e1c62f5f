# helpers.bash - a mount for the tests of one bats file, and what these tests keep asking.
#
# A file begins with `load helpers`, which defines setup_file and teardown_file: a fresh store, mounted once for the whole
# file. Each test makes a topic of its own with `topic`, and works in it: $T is its directory, which is also the current
# one. Whatever fails, teardown_file unmounts and ends the daemon. Where nothing can be mounted, all tests are skipped.
#
#   $M       the mount point          $S       the store          $MQFS_PROGRAM   the program
#   $T       the topic of this test   $G       its group, after `group`   $Q   its queue, after `queue`
#
# `each_shell CHECK` runs a function once for bash and once for dash, each with a topic of its own; in it, `in_shell SCRIPT`
# runs a script in that shell. Nothing that touches the mount runs without a time limit, so that a hang is a failure.

: "${MQFS_BUILD:=build}"
: "${MQFS_PROGRAM:=$MQFS_BUILD/mqfs}"
MQFS_PROGRAM=$(realpath -m "$MQFS_PROGRAM")
SHELLS='bash dash'
LIMIT_S=60
export LC_ALL=C.UTF-8

# ------------------------------------------------------------------------------------------ mounting

# Why nothing can be mounted here; nothing if it can.
obstacle() {
	if [ "$(id -u)" != 0 ]; then
		echo 'cannot mount: not root'
	elif ! [ -r /dev/fuse ]; then
		echo 'cannot mount: no /dev/fuse'
	elif ! [ -x "$MQFS_PROGRAM" ]; then
		echo "cannot mount: no program $MQFS_PROGRAM"
	fi
}

# mount_store [OPTION...] - with $MQFS_TEST_OPTIONS (io_uring, say), if there are any. What mqfs says goes to $BATS_FILE_TMPDIR/said. No descriptor of bats is left to the daemon.
mount_store() {
	timeout "$LIMIT_S" "$MQFS_PROGRAM" ${MQFS_TEST_OPTIONS:+-o "$MQFS_TEST_OPTIONS"} "$@" "$S" "$M" >"$BATS_FILE_TMPDIR/said" 2>&1 </dev/null 3>&- 4>&-
}

# with_parameter FILE VALUE COMMAND... - while a file of the kernel, a sysctl or a parameter of a module, has that value; then it is put back.
with_parameter() {
	local file=$1 before result=0
	before=$(cat "$file")
	echo "$2" >"$file"
	shift 2
	"$@" || result=$?
	echo "$before" >"$file"
	return $result
}

# can_set FILE - such a file is there, and can be written to.
can_set() {
	(read -r now <"$1" && echo "$now" >"$1") 2>/dev/null
}

daemon_pid() {
	cat "$S/lock"
}

# wait_gone PID [SECONDS] - until a process has ended, be it our child or not. A zombie has.
wait_gone() {
	local i
	for ((i = 0; i < ${2:-$LIMIT_S} * 100; i++)); do
		# Of all its threads: the first may be a zombie while another still holds the files, and the lock.
		grep -qs '^State:.[^ZX]' /proc/"$1"/task/*/status || return 0
		sleep 0.01
	done
	return 1
}

# unmount - and waits for the daemon, which ends after umount has returned.
unmount() {
	local pid
	pid=$(daemon_pid)
	umount "$M" && wait_gone "$pid"
}

remount() {
	cd /
	unmount || { echo 'the daemon did not end after umount'; return 1; }
	mount_store "$@" || { cat "$BATS_FILE_TMPDIR/said"; return 1; }
	[ -z "$T" ] || cd "$T"
}

# crash - kill -9, and another daemon takes over the store.
crash() {
	local pid
	pid=$(daemon_pid)
	cd /
	kill -KILL "$pid"
	wait_gone "$pid"
	umount -l "$M"
	mount_store || { cat "$BATS_FILE_TMPDIR/said"; return 1; }
	[ -z "$T" ] || cd "$T"
}

setup_file() {
	export S=$BATS_FILE_TMPDIR/store M=$BATS_FILE_TMPDIR/mq
	mkdir -p "$M"
	# Other users must be able to come here.
	chmod a+x "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR/file" "$BATS_FILE_TMPDIR" 2>/dev/null || true
	OBSTACLE=$(obstacle)
	export OBSTACLE
	[ -n "$OBSTACLE" ] || [ -n "$NO_MOUNT" ] || mount_store || { cat "$BATS_FILE_TMPDIR/said"; return 1; }
}

# Ends whatever is mounted below the directory of this file, and the daemon.
teardown_file() {
	local pid=
	cd /
	[ ! -s "$S/lock" ] || pid=$(daemon_pid)
	# mountpoint(1) does not know a mount whose daemon is dead.
	if grep -q " $M " /proc/self/mountinfo && ! umount "$M" 2>/dev/null; then
		echo "# busy at the end: processes $(fuser -m "$M" 2>/dev/null)" >&3
		umount -l "$M"
	fi
	if [ -n "$pid" ] && ! wait_gone "$pid"; then
		kill -KILL "$pid"
	fi
}

setup() {
	[ -z "$OBSTACLE" ] || skip "$OBSTACLE"
	T=
}

teardown() {
	cd /
	# Readers and holders that a failed test has left.
	[ -z "$(jobs -p)" ] || kill -KILL $(jobs -p) 2>/dev/null || true
}

# ------------------------------------------------------------------------------------------ objects

# topic [PARTITIONS] - a new topic, named after the test's number; goes there.
topic() {
	TOPICS_MADE=$((TOPICS_MADE + 1))
	T=$M/topics/test-$BATS_TEST_NUMBER-$TOPICS_MADE
	mkdir "$T"
	cd "$T"
	if [ "${1:-1}" != 1 ]; then
		echo "$1" >config/partitions
	fi
}

group() {
	G=$T/groups/${1:-g}
	mkdir "$G"
}

# each_shell CHECK [ARG...]
each_shell() {
	local shell
	for shell in $SHELLS; do
		topic
		SHELL_NAME=$shell
		echo "in $shell:"
		"$@"
	done
}

# queue - a new queue, named after the test's number; goes there. $Q is its directory.
queue() {
	QUEUES_MADE=$((QUEUES_MADE + 1))
	Q=$M/queues/test-$BATS_TEST_NUMBER-$QUEUES_MADE
	T=$Q
	mkdir "$Q"
	cd "$Q"
}

# each_shell_queue CHECK - once for bash and once for dash.
each_shell_queue() {
	for SHELL_NAME in $SHELLS; do
		queue
		echo "in $SHELL_NAME:"
		"$@"
	done
}

# exchange [TYPE] - a new exchange, named after the test's number; goes there. $X is its directory.
exchange() {
	EXCHANGES_MADE=$((EXCHANGES_MADE + 1))
	X=$M/exchanges/test-$BATS_TEST_NUMBER-$EXCHANGES_MADE
	T=$X
	mkdir "$X"
	cd "$X"
	if [ $# != 0 ]; then
		echo "$1" >type
	fi
}

# bind PATTERN KIND/NAME [LINK] - makes the target of KIND topics, queues or exchanges if it is not there.
bind() {
	mkdir -p "$M/$2" "bindings/$1"
	ln -s "../../../../$2" "bindings/$1/${3:-${2##*/}}"
}

# got KIND/NAME - all messages there, in one line; a topic's are of partition 0
got() {
	if [ -d "$M/$1/0" ]; then
		tr '\n' ' ' <"$M/$1/0/log"
	else
		payloads "$M/$1/ready"
	fi
}

# info NAME - of the queue
info() {
	awk -v name="$1" '$1 == name { print $2 }' "$Q/info"
}

# id_of WORD - of the message with this payload, wherever it is in the queue
id_of() {
	local file
	for file in "$Q"/ready/* "$Q"/unacked/* "$Q"/delayed/* "$Q"/dlq/ready/* "$Q"/dlq/unacked/*; do
		if [ -f "$file" ] && [ "$(cat "$file")" = "$1" ]; then
			basename "$file"
			return
		fi
	done
	return 1
}

# payloads DIRECTORY - in order of delivery
payloads() {
	local name
	while read -r name; do
		printf '%s ' "$(cat "$1/$name")"
	done < <(ls -U "$1")
}

ready_is() {
	[ "$(payloads ready)" = "$1" ]
}

in_shell() {
	timeout "$LIMIT_S" "$SHELL_NAME" -c "$@" 3>&-
}

# t COMMAND... - with a time limit, and without the descriptor that bats waits for.
t() {
	timeout "$LIMIT_S" "$@" 3>&-
}

# ------------------------------------------------------------------------------------------ checks

is() {
	if [ "$1" != "$2" ]; then
		if [ $((${#1} + ${#2})) -gt 1000 ]; then
			diff -a <(echo "$1") <(echo "$2") | head -n 20
		else
			printf 'is:        %q\nshould be: %q\n' "$1" "$2"
		fi
		return 1
	fi
}

# log_is LINE... - the messages of partition 0, none of which has a newline.
log_is() {
	is "$(od -c <"$T/0/log")" "$({ [ $# = 0 ] || printf '%s\n' "$@"; } | od -c)"
}

# messages - how many the topic holds.
messages() {
	stat -c %s "$T"
}

# fails ERRNO COMMAND... - the command fails and says so in the words of the errno.
fails() {
	local errno=$1 words
	shift
	words=$(errno_text "$errno") || return
	run t "$@"
	if [ "$status" = 0 ] || [[ $output != *"$words"* ]]; then
		printf '%s: not "%s" but status %s: %s\n' "$*" "$words" "$status" "$output"
		return 1
	fi
}

errno_text() {
	case $1 in
	EPERM) echo 'Operation not permitted' ;;
	EIO) echo 'Input/output error' ;;
	ENOENT) echo 'No such file or directory' ;;
	EACCES) echo 'Permission denied' ;;
	EBUSY) echo 'Device or resource busy' ;;
	EEXIST) echo 'File exists' ;;
	EINVAL) echo 'Invalid argument' ;;
	ENOSPC) echo 'No space left on device' ;;
	EROFS) echo 'Read-only file system' ;;
	ERANGE) echo 'Numerical result out of range' ;;
	ENAMETOOLONG) echo 'File name too long' ;;
	ENOTEMPTY) echo 'Directory not empty' ;;
	ECANCELED) echo 'Operation canceled' ;;
	ETIMEDOUT) echo 'Connection timed out' ;;
	EIDRM) echo 'Identifier removed' ;;
	EMSGSIZE) echo 'Message too long' ;;
	EALREADY) echo 'Operation already in progress' ;;
	EHOSTUNREACH) echo 'No route to host' ;;
	ELOOP) echo 'Too many levels of symbolic links' ;;
	EDQUOT) echo 'Disk quota exceeded' ;;
	ESTALE) echo 'Stale file handle' ;;
	*) echo "unknown errno $1" >&2; return 1 ;;
	esac
}

# told ERRNO WORD - status/errors ends with this error, and its sentence has that word.
told() {
	local last
	last=$(tail -n 1 "$M/status/errors")
	if [[ $last != *" $1 "*": "*"$2"* ]]; then
		printf 'status/errors ends with: %s\nwithout %s and "%s"\n' "$last" "$1" "$2"
		return 1
	fi
}

# All that a refused or a harmless command must not change, of the topic of this test or, without one, of the whole mount:
# names, owners, modes, settings, offsets, what was given to whom, and messages.
state() {
	local dirs=("$T")
	[ -n "$T" ] || dirs=("$M/topics" "$M/config")
	find "${dirs[@]}" -printf '%p %m %U %G %l\n'
	# Not what goes on by itself, or is of the moment.
	grep -r '' "${dirs[@]}" --include=offset --include=info --include='*.*' --exclude-dir=at --exclude-dir=put | grep -v -e synced -e readers
	find "${dirs[@]}" -name log -exec md5sum {} +
}

# refused ERRNO WORD SCRIPT - the script, which ends with the refused command, fails in bash with the errno's words and in
# dash with a status (dash's own words say little); status/errors has the reason; and nothing has changed.
refused() {
	local before
	before=$(state)
	fails "$1" bash -c "$3"
	told "$1" "$2"
	run t dash -c "$3"
	if [ "$status" = 0 ]; then
		echo "dash succeeds: $3"
		return 1
	fi
	told "$1" "$2"
	is "$(state)" "$before"
}

# blocked PID - waits until the process sleeps in a read.
blocked() {
	local i now
	for ((i = 0; i < 6000; i++)); do
		read -r now _ <"/proc/$1/syscall" || return
		[ "$now" != 0 ] || return 0
		sleep 0.01
	done
	echo "process $1 does not wait in read but in system call $now"
	return 1
}

# eventually COMMAND... - within half a minute; for what happens some time after a command, and tells nobody.
eventually() {
	local i
	for ((i = 0; i < 1500; i++)); do
		not "$@" >/dev/null 2>&1 || return 0
		sleep 0.02
	done
	echo "never: $*"
	"$@"
}

# The command fails. A bare `! command` never fails a test of bats.
not() {
	if "$@"; then
		return 1
	fi
}
