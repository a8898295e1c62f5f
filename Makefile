# mqfs - make, make check, make mount, make install DESTDIR= PREFIX=, SAN=address,undefined
BUILD ?= build
PREFIX ?= /usr/local
CFLAGS ?= -O2 -g

# libfuse: the one .ci/fuse3 built, or the system's
PKGS = liblmdb jansson inih libxxhash
export PKG_CONFIG_PATH := $(abspath build/fuse3/lib/pkgconfig):$(PKG_CONFIG_PATH)
FUSE_CFLAGS = $(shell pkg-config --cflags fuse3)
FUSE_LIBS = $(shell pkg-config --libs fuse3)

# What the code needs, whatever CFLAGS the user gives
required = -std=c17 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -I. -pthread -MMD -MP -Wall -Wextra -Werror -Wshadow -Wconversion \
	-Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wvla -Wundef -fno-strict-aliasing \
	$(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer)
libs = -llmdb -ljansson -pthread

engine_obj = $(patsubst %.c,$(BUILD)/%.o,$(wildcard engine/*.c))
fs_obj = $(patsubst %.c,$(BUILD)/%.o,$(filter-out fs/main.c,$(wildcard fs/*.c)))
tests_bin = $(patsubst %.c,$(BUILD)/%,$(wildcard tests/engine/test_*.c tests/fs/test_*.c tests/mount/test_*.c))

all: $(BUILD)/mqfs

$(BUILD)/mqfs: $(BUILD)/fs/main.o $(BUILD)/libfs.a $(BUILD)/libengine.a
	$(CC) $(required) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(FUSE_LIBS) $(libs)

$(BUILD)/libengine.a: $(engine_obj)
	rm -f $@ && $(AR) rcs $@ $^
$(BUILD)/libfs.a: $(fs_obj)
	rm -f $@ && $(AR) rcs $@ $^

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(required) $(if $(filter fs/%,$<),$(FUSE_CFLAGS)) $(CFLAGS) -c -o $@ $<

$(BUILD)/tests/engine/%: tests/engine/%.c $(BUILD)/libengine.a
	@mkdir -p $(@D)
	$(CC) $(required) -Wno-missing-prototypes $(CFLAGS) -o $@ $^ -lcriterion $(libs)
$(BUILD)/tests/fs/%: tests/fs/%.c $(BUILD)/libfs.a $(BUILD)/libengine.a
	@mkdir -p $(@D)
	$(CC) $(required) -Wno-missing-prototypes $(FUSE_CFLAGS) $(CFLAGS) -o $@ $^ -lcriterion $(FUSE_LIBS) $(libs)
$(BUILD)/tests/mount/%: tests/mount/%.c
	@mkdir -p $(@D)
	$(CC) $(required) -Wno-missing-prototypes $(CFLAGS) -o $@ $< -lcriterion -pthread

tests: $(tests_bin)
clean:
	rm -rf $(BUILD)
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
.PHONY: all tests clean
