#!/usr/bin/env bats
# mount(8), fstab and umount(8) with the helpers and the real program. The helpers lie in /sbin of a mount namespace of
# this file's own, with a /run/mount of its own, so that nothing on the machine that runs the tests is changed.

# Why mounts cannot be tried here; nothing if they can.
obstacle() {
	if [ "$(id -u)" != 0 ]; then
		echo "needs root"
	elif [ ! -c /dev/fuse ]; then
		echo "no /dev/fuse"
	elif ! unshare -m true 2>/dev/null; then
		echo "no mount namespace can be made here"
	fi
}

setup_file() {
	[ -z "$(obstacle)" ] || return 0
	cd "$BATS_FILE_TMPDIR" || return
	mkfifo ready
	sbin=$(readlink -f /sbin)
	export sbin MQFS_BUILD
	# shellcheck disable=SC2016 # expanded by the inner shell
	unshare -m sh -ec 'mkdir -p /run/mount
		mount -t tmpfs none /run/mount
		mount -t tmpfs none "$sbin"
		for name in mount.mqfs mount.fuse.mqfs umount.mqfs umount.fuse.mqfs; do
			cp "$MQFS_BUILD/mount.mqfs" "$sbin/$name"
		done
		echo >ready
		exec sleep 600' 3>&- &
	export namespace=$!
	timeout 10 cat ready
}

teardown_file() {
	[ -z "${namespace:-}" ] || kill "$namespace"
}

setup() {
	[ -n "${namespace:-}" ] || skip "$(obstacle)"
	cd "$BATS_TEST_TMPDIR" || return
	mkdir mq
	store=$PWD/store mq=$PWD/mq
}

teardown() {
	[ -n "${namespace:-}" ] || return 0
	inside umount -l "$mq" 2>/dev/null || true
	inside umount -l "$PWD/other" 2>/dev/null || true
}

# The directory is entered from within: a working directory brought along is one of the outer namespace.
inside() {
	# shellcheck disable=SC2016 # expanded by the inner shell
	nsenter -t "$namespace" -m -- sh -c 'cd "$0" && exec "$@"' "$PWD" "$@" 3>&-
}

# Runs a shell line in the namespace.
inside_sh() {
	inside sh -c "$1"
}

daemon() {
	cat "$store/lock"
}

is_gone() {
	! is_alive "$1"
}

is_alive() {
	kill -0 "$1" 2>/dev/null && ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null
}

@test "mount -t mqfs mounts, and umount returns when the daemon has ended" {
	run inside mount -t mqfs "$store" "$mq"
	[ "$status" = 0 ]
	[ -z "$output" ]
	[ "$(inside findmnt -n -o FSTYPE,SOURCE --raw "$mq")" = "fuse.mqfs $store" ]
	inside test -d mq/topics
	pid=$(daemon)
	is_alive "$pid"
	run inside umount "$mq"
	[ "$status" = 0 ]
	[ -z "$output" ]
	is_gone "$pid"
	run inside findmnt "$mq"
	[ "$status" != 0 ]
}

@test "mount -t fuse.mqfs and umount of the store work too" {
	inside mount -t fuse.mqfs "$store" "$mq"
	inside test -d mq/topics
	run inside umount.mqfs "$store"
	[ "$status" = 0 ]
	run inside findmnt "$mq"
	[ "$status" != 0 ]
}

@test "a line in fstab is enough, with the options others put there" {
	echo "$store $mq mqfs defaults,nofail,_netdev,user,x-systemd.automount 0 0" >fstab
	run inside mount -T fstab "$mq"
	[ "$status" = 0 ]
	inside test -d mq/topics
	run inside mount -T fstab -a
	[ "$status" = 0 ]
}

@test "what was produced is there after umount and mount" {
	inside mount -t mqfs "$store" "$mq"
	inside_sh 'mkdir mq/topics/t mq/topics/t/groups/g && echo hello >>mq/topics/t/in'
	inside umount "$mq"
	inside mount -t mqfs "$store" "$mq"
	[ "$(inside cat mq/topics/t/groups/g/next)" = hello ]
}

@test "mounting twice is refused, and says where it is mounted and by whom" {
	inside mount -t mqfs "$store" "$mq"
	run inside mount -t mqfs "$store" "$mq"
	[ "$status" = 32 ]
	mkdir other
	run inside mount -t mqfs "$store" other
	[ "$status" = 32 ]
	[[ $output == *"in use by process $(daemon), mounted on $mq"* ]]
}

@test "the program's own failures come through mount(8) with their text" {
	mkdir full
	touch full/something
	run inside mount -t mqfs "$PWD/full" "$mq"
	[ "$status" != 0 ]
	[[ $output == *"$PWD/full"*"not empty"* ]]
	run inside mount -t mqfs -o allow_othr "$store" "$mq"
	[ "$status" = 1 ]
	[[ $output == *"allow_other"* ]]
}

@test "a busy mount stays, and its users are named" {
	inside mount -t mqfs "$store" "$mq"
	mkfifo ready
	# shellcheck disable=SC2016 # expanded by the inner shell
	inside sh -c 'cd mq/topics && echo $$ >../../ready && exec sleep 60' &
	read -r holder <ready
	run inside umount "$mq"
	[ "$status" = 32 ]
	[[ $output == *"in use by process $holder (sleep): $mq/topics"* ]]
	inside test -d mq/topics
	kill "$holder"
	wait || true
	inside umount "$mq"
}

@test "the mount of a daemon that was killed is taken away by the next mount" {
	inside mount -t mqfs "$store" "$mq"
	inside_sh 'mkdir mq/topics/t mq/topics/t/groups/g && echo hello >>mq/topics/t/in'
	pid=$(daemon)
	kill -9 "$pid"
	timeout 10 sh -c "while kill -0 $pid 2>/dev/null; do sleep 0.02; done"
	run inside ls mq
	[ "$status" != 0 ]
	run inside mount -t mqfs "$store" "$mq"
	[ "$status" = 0 ]
	[[ $output == *"the mount of a daemon that has died; taking it away" ]]
	[ "$(inside cat mq/topics/t/groups/g/next)" = hello ]
}

@test "remount changes ro and rw" {
	inside mount -t mqfs "$store" "$mq"
	inside_sh 'mkdir mq/topics/t'
	inside mount -o remount,ro "$mq"
	run inside_sh 'echo hello >>mq/topics/t/in'
	[ "$status" != 0 ]
	[[ $output == *"Read-only file system"* ]]
	inside mount -o remount,rw "$mq"
	inside_sh 'echo hello >>mq/topics/t/in'
	[ "$(inside cat mq/topics/t/0/log)" = hello ]
}

@test "a mount that was started read-only cannot be remounted rw" {
	inside mount -t mqfs "$store" "$mq"
	inside_sh 'mkdir mq/topics/t && echo hello >>mq/topics/t/in'
	inside umount "$mq"
	inside mount -r -t mqfs "$store" "$mq"
	[ "$(inside cat mq/topics/t/0/log)" = hello ]
	run inside mount -o remount,rw "$mq"
	[ "$status" = 32 ]
	[[ $output == *"was started read-only"* ]]
	run inside_sh 'echo more >>mq/topics/t/in'
	[ "$status" != 0 ]
}

@test "umount -l detaches a busy mount at once, and the next mount waits for its daemon" {
	inside mount -t mqfs "$store" "$mq"
	mkfifo ready
	inside sh -c 'cd mq/topics && echo >../../ready && exec sleep 1' &
	cat ready
	pid=$(daemon)
	run inside umount -l "$mq"
	[ "$status" = 0 ]
	run inside mount -t mqfs "$store" "$mq"
	[ "$status" = 0 ]
	is_gone "$pid"
	inside test -d mq/topics
	wait
}
