#!/usr/bin/env bats
# make install and make uninstall.

@test "make install puts each thing in its place, and make uninstall takes all of it away" {
	cd "$BATS_TEST_DIRNAME/../.." || return
	root=$BATS_TEST_TMPDIR/root
	# The build that make would install, whichever is being tested.
	run make -s install DESTDIR="$root"
	[ "$status" = 0 ]
	[ -x "$root/usr/local/sbin/mqfs" ]
	for name in mount.mqfs mount.fuse.mqfs umount.mqfs umount.fuse.mqfs fsck.mqfs mkfs.mqfs; do
		[ -x "$root/sbin/$name" ]
	done
	[ -f "$root/usr/local/share/man/man8/mount.mqfs.8" ]
	grep -q '^ExecStart=/usr/local/sbin/mqfs ' "$root/usr/local/lib/systemd/system/mqfs@.service"
	grep -aq '/usr/local/sbin/mqfs' "$root/sbin/mount.mqfs"
	run make -s uninstall DESTDIR="$root"
	[ "$status" = 0 ]
	[ -z "$(find "$root" ! -type d)" ]
}

@test "packages asks for nothing when nothing is missing, and names what is when it may not install" {
	cd "$BATS_TEST_DIRNAME/../.." || return
	command -v dpkg-query >/dev/null || skip "not a Debian system"
	run .ci/packages check
	[ "$status" = 0 ]
	[ -z "$output" ]
	mkdir "$BATS_TEST_TMPDIR/bin"
	printf '#!/bin/sh\nexit 1\n' >"$BATS_TEST_TMPDIR/bin/dpkg-query"
	printf '#!/bin/sh\necho 1000\n' >"$BATS_TEST_TMPDIR/bin/id"
	chmod +x "$BATS_TEST_TMPDIR"/bin/*
	PATH=$BATS_TEST_TMPDIR/bin:$PATH run .ci/packages build
	[ "$status" = 1 ]
	[[ $output == *"apt-get install -y --no-install-recommends gcc "*"liblmdb-dev"* ]]
}
