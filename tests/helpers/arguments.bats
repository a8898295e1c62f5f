#!/usr/bin/env bats
# What the mount helpers do with their arguments, on a program that only writes down how it was called.

setup() {
	cd "$BATS_TEST_TMPDIR" || return
	helper=$MQFS_BUILD/mount.mqfs
	for name in mount.fuse.mqfs umount.mqfs umount.fuse.mqfs; do
		ln -s "$helper" $name
	done
	umount=$PWD/umount.fuse.mqfs
	mkdir dir
	cat >program <<-'END'
		#!/bin/sh
		printf '%s\n' "$@" >called
		[ ! -e behave ] || . ./behave
	END
	chmod +x program
	export MQFS_PROGRAM=$PWD/program
}

called() {
	[ "$(tr '\n' '|' <called)" = "$1" ]
}

@test "operands first, flags and options after them, as mount(8) calls it" {
	run "$helper" "$PWD/store" "$PWD/dir" -s -n -v -o rw,nosuid,sync
	[ "$status" = 0 ]
	called "-o|rw,nosuid,sync|$PWD/store|$PWD/dir|"
}

@test "without options the program gets none" {
	run "$helper" "$PWD/store" "$PWD/dir"
	[ "$status" = 0 ]
	[ -z "$output" ]
	called "$PWD/store|$PWD/dir|"
}

@test "each of the names mounts or unmounts" {
	run ./mount.fuse.mqfs "$PWD/store" "$PWD/dir"
	[ "$status" = 0 ]
	called "$PWD/store|$PWD/dir|"
	for name in umount.mqfs umount.fuse.mqfs; do
		run ./$name "$PWD/dir"
		[ "$status" = 32 ]
		[[ $output == *"dir: not mounted" ]]
	done
}

@test "options meant for others do not reach the program" {
	run "$helper" store dir -o defaults,auto,noauto,_netdev,nofail,user=joe,users,owner,group,nouser,x-systemd.automount,allow_other
	[ "$status" = 0 ]
	called "-o|allow_other|$PWD/store|$PWD/dir|"
}

@test "an unknown option is named with the nearest known one, exit 1" {
	run "$helper" store dir -o rw,allow_othr
	[ "$status" = 1 ]
	[[ $output == *"unknown option allow_othr; the nearest known one is allow_other" ]]
	[ ! -e called ]
}

@test "-s ignores an unknown option, wherever it stands" {
	run "$helper" store dir -o allow_othr,rw -s
	[ "$status" = 0 ]
	called "-o|rw|$PWD/store|$PWD/dir|"
}

@test "-f checks and does not mount" {
	run "$helper" store dir -f -v
	[ "$status" = 0 ]
	[[ $output == *"all checks passed"* ]]
	[ ! -e called ]
	run "$helper" store no-such-dir -f
	[ "$status" = 32 ]
	run "$helper" store dir -f -o frobnicate
	[ "$status" = 1 ]
	MQFS_PROGRAM=$PWD/none run "$helper" store dir -f
	[ "$status" = 2 ]
}

@test "-v prints each step" {
	run "$helper" store dir -v -o ro
	[ "$status" = 0 ]
	[[ $output == *"mount point $PWD/dir: a directory"*"store $PWD/store: will be made"*"starting"*"-o ro"*"is mounted on $PWD/dir"* ]]
}

@test "-r and -w are ro and rw" {
	run "$helper" store dir -r
	called "-o|ro|$PWD/store|$PWD/dir|"
	run "$helper" store dir -w
	called "-o|rw|$PWD/store|$PWD/dir|"
}

@test "a relative store becomes absolute, other sources stay" {
	mkdir deep
	run "$helper" deep/../store dir
	called "$PWD/store|$PWD/dir|"
	for source in memory: kafka://h1:9092,h2/ "amqp://h/v host"; do
		run "$helper" "$source" dir
		[ "$status" = 0 ]
		called "$source|$PWD/dir|"
	done
}

@test "names with blanks, commas and newlines arrive whole" {
	strange=$'a, b\n\\c'
	mkdir "$strange"
	run "$helper" "$strange" "$strange"
	[ "$status" = 0 ]
	called "$PWD/a, b|\\c|$PWD/a, b|\\c|"
}

@test "a mount point or a store that cannot be one is told, exit 32" {
	run "$helper" store no-such
	[ "$status" = 32 ]
	[[ $output == *"mount point $PWD/no-such: No such file or directory" ]]
	touch file
	run "$helper" store file
	[ "$status" = 32 ]
	[[ $output == *"not a directory" ]]
	run "$helper" file dir
	[ "$status" = 32 ]
	[[ $output == *"store $PWD/file: not a directory" ]]
	run "$helper" no/such/store dir
	[ "$status" = 32 ]
	[ ! -e called ]
}

@test "usage errors are exit 1" {
	for arguments in "" "store" "store dir more" "store dir -Z" "store dir -N 5" "store dir -o"; do
		# shellcheck disable=SC2086 # words
		run "$helper" $arguments
		[ "$status" = 1 ]
	done
	for arguments in "" "dir more" "dir -Z" "dir -N 5"; do
		# shellcheck disable=SC2086
		run "$umount" $arguments
		[ "$status" = 1 ]
	done
	[ ! -e called ]
}

@test "the program's exit status is handed on; an odd one becomes 32" {
	for row in "1 1" "2 2" "8 8" "32 32" "3 32" "127 32"; do
		echo "exit ${row% *}" >behave
		run "$helper" store dir
		[ "$status" = "${row#* }" ]
	done
	# shellcheck disable=SC2016 # the program's own
	echo 'kill -9 $$' >behave
	run "$helper" store dir
	[ "$status" = 32 ]
	[[ $output == *"ended with status 137" ]]
}

@test "a program that is not there is exit 2" {
	MQFS_PROGRAM=$PWD/none run "$helper" store dir
	[ "$status" = 2 ]
	[[ $output == *"none: No such file or directory" ]]
}

@test "a program that does not get ready in time is ended, exit 32" {
	# shellcheck disable=SC2016
	echo 'trap "echo ended >ended; exit" TERM; sleep 60 & wait $!' >behave
	run "$helper" store dir -o mount-timeout=1 3>&-
	[ "$status" = 32 ]
	[[ $output == *"did not get ready within 1 s"* ]]
	timeout 5 sh -c 'until [ -e ended ]; do sleep 0.05; done'
}

@test "an interrupted mount is exit 8" {
	# shellcheck disable=SC2016
	echo 'kill -TERM $PPID; sleep 60 & wait $!' >behave
	run "$helper" store dir 3>&-
	[ "$status" = 8 ]
}

@test "a store whose daemon is about to end is waited for" {
	mkdir store
	mkfifo ready
	# A process that has the lock file open and its pid in it, as the daemon does. It ends when told.
	sh -c 'exec 7>store/lock; echo $$ >&7; echo >ready; sleep 0.7; echo >ended' 3>&- &
	read -r _ <ready
	run "$helper" store dir -v
	[ "$status" = 0 ]
	[[ $output == *"waiting for process"* ]]
	[ -e ended ]
	called "$PWD/store|$PWD/dir|"
}

@test "a daemon that does not end in time is named, exit 32" {
	mkdir store
	mkfifo ready
	sh -c 'exec 7>store/lock; echo $$ >&7; echo >ready; exec sleep 30' 3>&- &
	daemon=$!
	read -r _ <ready
	run "$helper" store dir -o mount-timeout=1
	kill $daemon
	[ "$status" = 32 ]
	[[ $output == *"store $PWD/store: process $daemon has not finished with it within 1 s" ]]
	[ ! -e called ]
}

@test "a lock file whose process is another one by now keeps nobody waiting" {
	mkdir store
	for text in $$ 999999999999 0 -1 "" rubbish; do
		rm -f called
		printf '%s' "$text" >store/lock
		run "$helper" store dir -o mount-timeout=1
		[ "$status" = 0 ]
		called "$PWD/store|$PWD/dir|"
	done
}

@test "remount of what is not mounted fails, exit 32" {
	run "$helper" store dir -o remount,ro
	[ "$status" = 32 ]
	[[ $output == *"remount: nothing of type fuse.mqfs is mounted on $PWD/dir" ]]
	[ ! -e called ]
}

@test "a mount of another type is left alone" {
	run "$umount" /proc
	[ "$status" = 1 ]
	[[ $output == *"/proc: a mount of type proc, not fuse.mqfs" ]]
	[ -e /proc/self ]
}
