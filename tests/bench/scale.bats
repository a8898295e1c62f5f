#!/usr/bin/env bats
# A smoke run of the benchmark: two small points of each curve, and a mount after kill -9. No figure of it is checked.

@test "scale prints its curves, and draws them" {
	[ "$(id -u)" = 0 ] && [ -r /dev/fuse ] || skip 'cannot mount'
	run timeout 120 tests/bench/scale.sh --smoke --out "$BATS_TEST_TMPDIR/out"
	echo "$output"
	[ "$status" = 0 ]
	[ "$(grep -c '^### ' <<<"$output")" = 7 ]
	[ "$(grep -cE '^\| [0-9]+ \| [0-9.e+-]+ \|' <<<"$output")" = 12 ]
	[ "$(grep -cE '^\| [0-9]+ (GiB|messages) in a (topic|queue) \| [0-9.e+-]+ \| [0-9.e+-]+ \|' <<<"$output")" = 2 ]
	[ "$output" = "$(cat "$BATS_TEST_TMPDIR/out/scale.md")" ]
	[ "$(grep -o '>By [a-z ]*<\|>A mount<' "$BATS_TEST_TMPDIR/out/scale.svg" | sort -u | wc -l)" = 7 ]
	python3 -c 'import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])' "$BATS_TEST_TMPDIR/out/scale.svg"
}
