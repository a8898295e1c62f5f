#!/bin/bash
# programs.sh - real programs walk over a mount and work in it: nothing is consumed, nothing hangs, the daemon lives, and its
# memory does not grow. Prints TAP. Needs root and /dev/fuse; the programs that are not installed are skipped, by name.
#
#   tests/long/programs.sh [BUILD [SECONDS]]     how long each stressor of stress-ng runs; 2 without it
#
# Debian: plocate stress-ng dbench lsof inotify-tools rsync file psmisc acl attr git busybox
set -u
cd "$(dirname "$0")/../.." || exit 1
export LC_ALL=C.UTF-8
program=$(realpath "${1:-build}/mqfs")
seconds=${2:-2}
dir=$(mktemp -d "${TMPDIR:-/tmp}/mqfs-programs.XXXXXX")
M=$dir/mq S=$dir/store
count=0 failed=0
GROWTH_KB=65536 # of private memory: what caches and arenas of malloc may keep

end() {
	cd /
	umount "$M" 2>/dev/null || umount -l "$M" 2>/dev/null
	[ -z "${daemon:-}" ] || timeout 30 tail -f --pid="$daemon" /dev/null || kill -KILL "$daemon"
	rm -rf "$dir"
}

skip_all() {
	echo "1..0 # SKIP $1"
	rm -rf "$dir"
	exit 0
}

[ "$(id -u)" = 0 ] || skip_all 'cannot mount: not root'
[ -r /dev/fuse ] || skip_all 'cannot mount: no /dev/fuse'
[ -x "$program" ] || { echo "1..1"; echo "not ok 1 - there is no $program"; rm -rf "$dir"; exit 1; }

result() {
	count=$((count + 1))
	if [ "$1" = 0 ]; then
		echo "ok $count - $2"
	else
		failed=$((failed + 1))
		echo "not ok $count - $2"
		[ -z "${3:-}" ] || printf '%s\n' "$3" | head -n 20 | sed 's/^/# /'
	fi
}

# All that must not change: names, owners and modes, settings, offsets, what is leased, logs and messages.
state() {
	find "$M/topics/t" "$M/queues/q" "$M/exchanges/x" -printf '%p %m %U %G %l\n' | sort
	grep -r '' "$M/topics/t" "$M/queues/q" "$M/exchanges/x" --include=offset --include='*.*' --exclude-dir=at --exclude-dir=put
	grep -E '^(ready|unacked|delayed|dead|delivered|acked|published) ' "$M/queues/q/info"
	cat "$M/topics/t/groups/g/info" "$M/topics/t/groups/dead/dlq/info" | grep -v -e readers -e oldest
	find "$M/topics/t" -name log -exec md5sum {} + | sort
	find "$M/queues/q/ready" "$M/queues/q/unacked" -type f -exec md5sum {} + | sort
}

private_kb() {
	awk '/^RssAnon:/ { print $2 }' "/proc/$daemon/status"
}

# check WHAT STATUS - after a program: it ended in time, the daemon lives and answers, and nothing has changed
check() {
	local now wrong=
	[ "$2" != 124 ] && [ "$2" != 137 ] || wrong="did not end in time"
	kill -0 "$daemon" 2>/dev/null || wrong="$wrong; the daemon is gone"
	now=$(timeout 60 bash -c "$(declare -f state); M='$M'; state" 2>&1) || wrong="$wrong; the mount does not answer"
	[ "$now" = "$before" ] || wrong="$wrong; it changed: $(diff <(echo "$before") <(echo "$now"))"
	result "$([ -z "$wrong" ] && echo 0 || echo 1)" "$1" "$wrong"
}

# walk COMMAND... - reads only; its status does not matter (tar warns of files that change)
walk() {
	if ! command -v "$1" >/dev/null; then
		count=$((count + 1))
		echo "ok $count - $* # SKIP $1 is not installed"
		return
	fi
	timeout -k 5 120 "$@" >"$dir/out" 2>"$dir/err" </dev/null
	check "${*//"$dir/"/}" $?
}

mkdir "$M"
"$program" "$S" "$M" || { echo '1..1'; echo 'not ok 1 - it mounts'; exit 1; }
daemon=$(cat "$S/lock")
trap end EXIT
trap 'exit 1' INT TERM

cd "$M" || exit 1
mkdir topics/t topics/t/groups/g topics/t/groups/dead topics/scratch queues/q queues/scratch exchanges/x
echo 3 >topics/t/config/partitions
seq 5000 >>topics/t/in
echo needle >topics/t/put/file
cat topics/t/groups/g/next >"$dir/next"
echo all >topics/t/groups/g/ack
cat topics/t/groups/dead/next >"$dir/next"
echo all >topics/t/groups/dead/reject 2>/dev/null || true
mkdir queues/q/consumers/c exchanges/x/bindings/'#'
ln -s ../../../../queues/q exchanges/x/bindings/'#'/q
seq 300 >>queues/q/in
cat queues/q/next >"$dir/next" # stays leased
cat queues/q/next >"$dir/next"
basename "$(find queues/q/unacked -type f | head -n 1)" >queues/q/reject
cd /
echo 3600000 >"$M/queues/q/config/consumer.timeout.ms" 2>/dev/null || true
before=$(state)
walk find "$M" -ls # fills the caches once
memory=$(private_kb)

walk grep -r -a needle "$M"
walk tar -C "$M" -cf "$dir/mq.tar" .
walk rsync -a --checksum "$M/" "$dir/copy/"
walk cp -a "$M" "$dir/copy2"
rm -rf "$dir/copy" "$dir/copy2" "$dir/mq.tar"
walk updatedb -l 0 -U "$M" -o "$dir/db" --prunefs '' --prunepaths ''
walk lsof "$M"
walk lsof +D "$M/topics"
walk fuser -m "$M"
walk du -a "$M"
walk ls -lR "$M"
walk find "$M" -type f -exec file {} +
walk find "$M" -type f -exec md5sum -b {} +
walk find "$M" -xattrname x
walk find "$M" -type f -exec head -c 1000 {} +
walk getfattr -R -d -m - "$M"
walk getfacl -R "$M"
walk lsattr -R "$M"
walk bash -c 'timeout 2 tail -f "$0" || true' "$M/topics/t/0/log"
walk split -l 1000 "$M/topics/t/0/log" "$dir/split."
walk python3 -c 'import shutil, sys; shutil.copytree(sys.argv[1], sys.argv[2], symlinks=True)' "$M" "$dir/copy3"
rm -rf "$dir"/split.* "$dir/copy3"
if command -v git >/dev/null; then
	git init -q --bare "$dir/git"
	walk git --git-dir="$dir/git" --work-tree="$M" add -A
	walk git --git-dir="$dir/git" --work-tree="$M" status --short
fi
# Not its grep -r, which follows links as GNU's grep -R does: that reads `next`, and waits in `wait`.
for applet in "find ." "tar cf $dir/mq.tar ." "du -a ." "ls -lR ."; do
	# shellcheck disable=SC2086 # words
	walk busybox sh -c 'cd "$0" && busybox "$@"' "$M" $applet
done
rm -f "$dir/mq.tar"
if command -v inotifywait >/dev/null; then
	timeout 10 inotifywait -q -m -r "$M" >"$dir/out" 2>&1 </dev/null &
	watcher=$!
	walk find "$M" -type f -exec cat {} +
	wait "$watcher"
	check "inotifywait -m -r" 0
fi

# Those that write: in directories of their own. Most of what they ask for is refused here, which is an answer.
stress() {
	local where=$1
	shift
	for stressor in "$@"; do
		timeout -k 5 $((seconds + 40)) stress-ng --temp-path "$where" --"$stressor" 2 --timeout "${seconds}s" \
			>"$dir/out" 2>"$dir/err" </dev/null
		check "stress-ng --$stressor in ${where#"$M"/}" $?
	done
}
if command -v stress-ng >/dev/null; then
	stress "$M/topics" access chattr chdir chmod chown copy-file dentry dir dirdeep dirmany dnotify dup fallocate fanotify fcntl \
		fiemap file-ioctl filename flock fpunch fsize fstat getdent handle hdd inode-flags inotify io ioprio iomix lease link \
		locka lockf lockofd mknod open rename seek sendfile symlink sync-file touch utime verity xattr
	stress "$M/topics/scratch/put" hdd filename fsize rename dir open seek touch
	stress "$M/queues/scratch/ready" dir filename rename touch
fi
if command -v dbench >/dev/null; then
	for where in topics topics/scratch/put queues; do
		timeout -k 5 60 dbench -D "$M/$where" -t "$((seconds * 2))" 2 >"$dir/out" 2>"$dir/err" </dev/null
		check "dbench in $where" $?
	done
fi

now=$(private_kb)
result "$((now - memory > GROWTH_KB))" "private memory: $memory kB before, $now kB after"
sed -i 's/x/x/' "$M/topics/scratch/in" 2>/dev/null # sed makes a new file, which is refused
check "sed -i" 0
echo "1..$count"
echo "$count programs and stressors, private memory +$((now - memory)) kB"
exit $((failed > 0))
