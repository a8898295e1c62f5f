#!/usr/bin/env bats
# A smoke run of the benchmark: each work once, of mqfs, a plain file, and the peers that are installed. No figure of it is checked.

@test "peers prints its report, and draws its picture" {
	[ "$(id -u)" = 0 ] && [ -r /dev/fuse ] || skip 'cannot mount'
	run timeout 120 tests/bench/peers.sh --smoke --out "$BATS_TEST_TMPDIR/out"
	echo "$output"
	[ "$status" = 0 ]
	[ "$(grep -c '^### ' <<<"$output")" = 13 ]
	[ "$(grep -c '^| mqfs | messages/s | [0-9]' <<<"$output")" = 11 ]
	[ "$(grep -c '^| plain file | ' <<<"$output")" = 17 ]
	[[ $output == *'left out:** '*'rabbitmq: it starts too slowly'* ]]
	[ "$output" = "$(cat "$BATS_TEST_TMPDIR/out/report.md")" ]
	python3 -c 'import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])' "$BATS_TEST_TMPDIR/out/peers.svg"
}

@test "peers names a work that there is not, and measures nothing" {
	run tests/bench/peers.sh --smoke nothing
	[ "$status" = 2 ]
	[[ $output == *'[WORK...]'* ]]
}
