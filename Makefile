# mqfs. Targets: all, mount, check, check-long, coverage, fuzz, tests, install, uninstall, clean.
# Variables: SECONDS= BUILD= SAN=address,undefined|thread GCOV=1 FUSE=system CFLAGS= DESTDIR= PREFIX= HELPERDIR= MQ= STORE= RUN=
BUILD ?= build
CFLAGS ?= -O2 -g
PREFIX ?= /usr/local
HELPERDIR ?= /sbin# the only place where mount(8) and umount(8) look for helpers
MQ ?= /mq
STORE ?= /var/lib/mqfs

# libfuse: what .ci/fuse3 built, if it did, or the system's; FUSE=system takes the system's in any case.
own_fuse := $(if $(filter system,$(FUSE)),,$(wildcard $(CURDIR)/build/fuse3/lib/pkgconfig))
pkg_config := PKG_CONFIG_PATH=$(own_fuse):$(PKG_CONFIG_PATH) pkg-config
FUSE_CFLAGS := $(patsubst -I%,-isystem %,$(shell $(pkg_config) --cflags fuse3 2>/dev/null))
FUSE_LIBS := $(shell $(pkg_config) $(if $(own_fuse),--static) --libs fuse3 2>/dev/null)

# What the code needs, whatever CFLAGS the user gives.
required = -std=c17 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -I. -pthread -MMD -MP -Wall -Wextra -Werror -Wshadow -Wconversion \
	-Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wvla -Wundef -fno-strict-aliasing \
	$(if $(SAN),-fsanitize=$(SAN) -DMQFS_DEBUG -fno-sanitize-recover=all -fno-omit-frame-pointer -Wno-error)
of_dir = $(if $(filter fs/% tests/fs/% tests/fuzz/% tests/bench/floor.c,$<),$(FUSE_CFLAGS)) $(if $(filter tests/%,$<),-Wno-missing-prototypes) \
	$(if $(filter mount-helpers/%,$<),-DMQFS_PROGRAM='"$(PREFIX)/sbin/mqfs"') $(gcov)
gcov = $(if $(GCOV),$(if $(filter tests/%,$<),-O2,--coverage -O0 -fprofile-update=atomic))# GCOV=1: .ci/coverage
# Most tests are compiled in half the time and run once; not those that are measured, and not what makes crashes.
of_test = $(if $(filter tests/%,$(filter-out tests/bench/% tests/stress/% tests/long/% tests/lib/powercut.c,$<)),$(if $(SAN)$(FUZZ),,-O0))
libs = -llmdb -ljansson -lm -pthread
link = $(CC) $(required) $(if $(GCOV),--coverage) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.o %.a,$^)

objects = $(patsubst %.c,$(BUILD)/%.o,$(filter-out %main.c,$(wildcard $(1)/*.c)))
programs = $(BUILD)/mqfs $(BUILD)/mount.mqfs $(BUILD)/fsck.mqfs $(BUILD)/mkfs.mqfs
fuzzers = $(patsubst %.c,$(BUILD)/%,$(wildcard tests/fuzz/fuzz_*.c))
tests_bin = $(patsubst %.c,$(BUILD)/%,$(wildcard tests/*/test_*.c tests/stress/*.c tests/bench/*.c tests/long/long_*.c)) $(fuzzers)
# Clients of other brokers for tests/bench/peers.sh, each where its library is installed.
library_redis = hiredis
library_amqp = librabbitmq
library_nats = libnats
library_kafka = rdkafka
peers := beanstalkd $(foreach peer,redis amqp nats kafka,$(shell pkg-config --exists $(library_$(peer)) 2>/dev/null && echo $(peer)))
peers_bin = $(peers:%=$(BUILD)/tests/bench/peers/%)

all: $(programs)

$(BUILD)/mqfs: $(BUILD)/fs/main.o $(BUILD)/libfs.a $(BUILD)/libengine.a
	$(link) $(FUSE_LIBS) $(libs)
$(BUILD)/mount.mqfs: $(BUILD)/mount-helpers/main.o $(BUILD)/libhelpers.a $(BUILD)/libengine.a
	$(link)

# One program with two names.
# What it prints of names is escaped by the rule of the mount.
$(BUILD)/fsck.mqfs: $(BUILD)/mount-helpers/store_main.o $(BUILD)/libhelpers.a $(BUILD)/fs/name.o $(BUILD)/fs/utf8.o $(BUILD)/libengine.a
	$(link) $(libs)
$(BUILD)/mkfs.mqfs: $(BUILD)/fsck.mqfs
	ln -sf fsck.mqfs $@

$(BUILD)/libengine.a: $(call objects,engine)
$(BUILD)/libfs.a: $(call objects,fs)
$(BUILD)/libhelpers.a: $(call objects,mount-helpers)
$(BUILD)/libtest.a: $(call objects,tests/lib)
$(BUILD)/liblong.a: $(patsubst %.c,$(BUILD)/%.o,$(filter-out tests/long/long_%,$(wildcard tests/long/*.c)))
%.a: $(BUILD)/flags
	rm -f $@ && $(AR) rcs $@ $(filter %.o,$^)
$(BUILD)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(required) $(of_dir) $(CFLAGS) $(of_test) -c -o $@ $<

# Everything is compiled anew when the flags change (another SAN, another libfuse).
flags = $(CC) $(required) $(GCOV) $(CFLAGS) $(FUSE_CFLAGS) $(FUSE_LIBS)
prefix = $(PREFIX)
$(BUILD)/flags $(BUILD)/prefix: force
	@mkdir -p $(@D); echo '$($(@F))' | cmp -s - $@ || echo '$($(@F))' >$@
$(BUILD)/mount-helpers/mount.o: $(BUILD)/prefix

# Tests of the engine are linked without libfuse. Those in mount/ see the mount alone.
$(BUILD)/tests/fs/%: $(BUILD)/tests/fs/%.o $(BUILD)/libtest.a $(BUILD)/libfs.a $(BUILD)/libengine.a
	$(link) -lcriterion $(FUSE_LIBS) $(libs)
$(BUILD)/tests/fs/test_process: $(BUILD)/tests/fs/test_process.o $(BUILD)/libtest.a $(BUILD)/libfs.a $(BUILD)/libengine.a
	$(link) -Wl,--wrap=open64 -lcriterion $(FUSE_LIBS) $(libs)
$(BUILD)/tests/helpers/%: $(BUILD)/tests/helpers/%.o $(BUILD)/libhelpers.a $(BUILD)/libengine.a
	$(link) -lcriterion $(libs)
$(BUILD)/tests/stress/%: $(BUILD)/tests/stress/%.o $(BUILD)/libtest.a $(BUILD)/libengine.a
	$(link) $(libs)
$(BUILD)/tests/long/%: $(BUILD)/tests/long/%.o $(BUILD)/liblong.a $(BUILD)/libtest.a $(BUILD)/tests/libengine.punching.a
	$(link) -lcriterion $(libs)
# The engine and the tree with allocations, reads and calls of LMDB that a test makes fail: tests/lib/alloc.h.
allocating = malloc calloc realloc strdup asprintf fdopendir pthread_create openat64 pread64 lseek64 readdir64 fstat64 fstatat64 \
	$(addprefix mdb_,env_create env_set_mapsize env_set_maxreaders env_set_flags env_open env_sync txn_begin txn_commit dbi_open get put del cursor_open cursor_get)
$(BUILD)/tests/%.alloc.a: $(BUILD)/%.a
	objcopy $(foreach name,$(allocating),--redefine-sym $(name)=alloc_$(name)) $< $@
with_alloc = local_alloc local_forward local_load local_start local_tx_fault local_tx_stage local_commit_finish plog_states plog_ids plog_compact plog_tail \
	plog_recover local_placed catalog_copy catalog_pages stage_recover store packed journal
$(with_alloc:%=$(BUILD)/tests/engine/test_%): %: %.o $(BUILD)/libtest.a $(BUILD)/tests/libengine.alloc.a
	$(link) -lcriterion $(libs)
$(BUILD)/tests/fs/test_fs_alloc: $(BUILD)/tests/fs/test_fs_alloc.o $(BUILD)/tests/fuzz/world.o $(BUILD)/libtest.a $(BUILD)/tests/libfs.alloc.a $(BUILD)/libengine.a
	$(link) -lcriterion $(FUSE_LIBS) $(libs)
$(BUILD)/tests/fs/test_text: $(BUILD)/tests/fs/test_text.o $(BUILD)/tests/fuzz/world.o $(BUILD)/libtest.a $(BUILD)/libfs.a $(BUILD)/libengine.a
	$(link) -lcriterion $(FUSE_LIBS) $(libs)
$(BUILD)/tests/fs/test_record $(BUILD)/tests/fs/test_frame $(BUILD)/tests/fs/test_command: %: %.o $(BUILD)/libtest.a $(BUILD)/tests/libfs.alloc.a $(BUILD)/libengine.a
	$(link) -lcriterion $(FUSE_LIBS) $(libs)
# The engine with its failpoints: engine/failpoint.h.
with_failpoints := $(shell grep -l "engine/failpoint.h" engine/*.c)
with_failpoints_fs := $(shell grep -lE "CRASHPOINT|FAILPOINT" fs/*.c)
$(BUILD)/failpoints/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(required) -DMQFS_FAILPOINTS $(of_dir) $(CFLAGS) -c -o $@ $<
$(BUILD)/tests/libengine.failpoints.a: $(with_failpoints:%.c=$(BUILD)/failpoints/%.o) $(filter-out $(with_failpoints:%.c=$(BUILD)/%.o),$(call objects,engine))
$(BUILD)/tests/engine/test_failpoints $(BUILD)/tests/engine/test_commit_trim: %: %.o $(BUILD)/libtest.a $(BUILD)/tests/libengine.failpoints.a
	$(link) -lcriterion $(libs)
# The tree with its own, and what the kernel is told of a staging file.
$(BUILD)/tests/libfs.failpoints.a: $(patsubst %.c,$(BUILD)/failpoints/%.o,$(with_failpoints_fs)) $(filter-out $(with_failpoints_fs:%.c=$(BUILD)/%.o),$(call objects,fs))
$(BUILD)/tests/fs/test_fs_failpoints $(BUILD)/tests/fs/test_fs_steps: %: %.o $(BUILD)/tests/fs/ask.o $(BUILD)/tests/fs/steps.o $(BUILD)/tests/fuzz/world.o $(BUILD)/libtest.a $(BUILD)/tests/libfs.failpoints.a $(BUILD)/libengine.a
	$(link) -Wl,--wrap=fuse_passthrough_open -lcriterion $(FUSE_LIBS) $(libs)
# Staging files whose room is given back by the page: tests/long/work_stage.c.
$(BUILD)/punching/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(required) -DSTAGE_PUNCH=4096u $(CFLAGS) -c -o $@ $<
$(BUILD)/tests/libengine.punching.a: $(BUILD)/punching/engine/local_stage_take.o $(filter-out $(BUILD)/engine/local_stage_take.o,$(call objects,engine))
$(BUILD)/tests/fs/test_fs_charges: %: %.o $(BUILD)/tests/fs/ask.o $(BUILD)/tests/fuzz/world.o $(BUILD)/libtest.a $(BUILD)/libfs.a $(BUILD)/libengine.a
	$(link) -Wl,--wrap=fuse_passthrough_open -lcriterion $(FUSE_LIBS) $(libs)
interrupted = openat64 mkdirat fdatasync fsync syncfs ftruncate64 fallocate64 renameat unlinkat pread64 pwritev64
$(BUILD)/tests/engine/test_local_eintr: $(BUILD)/tests/engine/test_local_eintr.o $(BUILD)/libtest.a $(BUILD)/libengine.a
	$(link) $(interrupted:%=-Wl,--wrap=%) -lcriterion $(libs)
$(BUILD)/tests/%: $(BUILD)/tests/%.o $(BUILD)/libtest.a $(BUILD)/libengine.a
	$(link) -lcriterion $(libs)
$(BUILD)/tests/bench/floor: $(BUILD)/tests/bench/floor.o
	$(link) $(FUSE_LIBS)
$(BUILD)/tests/bench/%: $(BUILD)/tests/bench/%.o
	$(link)
$(peers_bin): %: %.o
	$(link) $(if $(library_$(@F)),$(shell pkg-config --libs $(library_$(@F))))
tests: $(tests_bin) $(peers_bin)
# Fuzz targets: with the inputs of the corpus, or (FUZZ=1, by clang) with libFuzzer.
$(BUILD)/tests/fuzz/%: $(BUILD)/tests/fuzz/%.o $(BUILD)/tests/fuzz/world.o $(if $(FUZZ),,$(BUILD)/tests/fuzz/replay.o) $(BUILD)/libtest.a $(BUILD)/libhelpers.a $(BUILD)/libfs.a $(BUILD)/libengine.a
	$(link) $(if $(FUZZ),-fsanitize=fuzzer) -lcriterion $(FUSE_LIBS) $(libs)
fuzzers: $(fuzzers)
fuzz:
	@.ci/fuzz $(or $(SECONDS),60)

# Which lines of the engine the tests reach; a build of its own.
coverage:
	@.ci/coverage

# The long suites, two to three hours or SECONDS for all: see tests/long/run. What they did is in build/long/summary.md.
check-long: build_for_check
	@.ci/packages long
	@$(if $(SECONDS),MQFS_LONG_SECONDS=$(SECONDS)) tests/long/run $(BUILD)

# As root in somebody's checkout: what is built belongs to them.
jobs = $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(shell nproc))
build_for_%:
	@.ci/packages $*
	@BUILD=$(BUILD) .ci/as-owner .ci/fuse3
	@BUILD=$(BUILD) .ci/as-owner $(MAKE) -s $(jobs) --no-print-directory all $(if $(filter check,$*),tests)
mount: build_for_build
	@.ci/mount $(BUILD)/mqfs '$(STORE)' '$(MQ)'
check: build_for_check
	@tests/run $(RUN) $(BUILD)

install: all
	install -D -t $(DESTDIR)$(PREFIX)/sbin $(BUILD)/mqfs
	install -D -t $(DESTDIR)$(HELPERDIR) $(BUILD)/mount.mqfs $(BUILD)/fsck.mqfs
	ln -sf fsck.mqfs $(DESTDIR)$(HELPERDIR)/mkfs.mqfs
	for name in mount.fuse.mqfs umount.mqfs umount.fuse.mqfs; do ln -sf mount.mqfs $(DESTDIR)$(HELPERDIR)/$$name; done
	for page in man/*.[1-8]; do install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man$${page##*.} $$page || exit; done
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/mqfs README.md NEWS.md LICENSE mount-helpers/fstab.sample mount-helpers/mq.conf
	sed 's,@PREFIX@,$(PREFIX),' mount-helpers/mqfs@.service | install -D -m 644 /dev/stdin $(DESTDIR)$(PREFIX)/lib/systemd/system/mqfs@.service
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/sbin/mqfs $(DESTDIR)$(PREFIX)/lib/systemd/system/mqfs@.service
	rm -f $(addprefix $(DESTDIR)$(HELPERDIR)/,mount.mqfs mount.fuse.mqfs umount.mqfs umount.fuse.mqfs fsck.mqfs mkfs.mqfs)
	rm -f $(foreach page,$(notdir $(wildcard man/*.[1-8])),$(DESTDIR)$(PREFIX)/share/man/man$(subst .,,$(suffix $(page)))/$(page))
	rm -rf $(DESTDIR)$(PREFIX)/share/doc/mqfs

clean:
	[ ! -d $(BUILD) ] || find $(BUILD) -mindepth 1 -maxdepth 1 ! -name fuse3 -exec rm -rf {} +
-include $(shell find $(BUILD) -name fuse3* -prune -o -name '*.d' -print 2>/dev/null)
.PHONY: all tests fuzzers fuzz coverage mount check check-long install uninstall clean force
.SECONDARY:
