#!/usr/bin/env python3
"""format_reader.py STORE FILE - what is in a store, to FILE as JSON, read by mqfs-format(5) and nothing else; what else it saw, to stdout.
format_reader.py --flips STORE - reads it once for each of its files, with one bit of that flipped, and names those where that passes.

It shares no line with the engine and knows none: every number here is one of that page, and every checksum is verified. The
catalog is read with LMDB's own library, and once more from catalog.copy. What is not as the page says ends it with a word.

The store may have been unmounted, or its daemon killed: then what the journal says comes on top of the catalog, and what is in the
staging files is told of by itself. The shape of the answer is that of format_seen.py, which asks a mount for the same.
"""
import ctypes
import ctypes.util
import functools
import json
import os
import re
import struct
import sys

NEVER = (1 << 63) - 1
NONE = (1 << 64) - 1
STORE, TOPIC, GROUP, QUEUE, CONSUMER, MEMBER, EXCHANGE, TX = range(8)
READY, LEASED, DELAYED, SETTLED = range(4)


class Wrong(Exception):
    pass


def expect(right, *what):
    if not right:
        raise Wrong(' '.join(str(w) for w in what))


# ---- bytes ----

def make_table():
    table = []
    for i in range(256):
        for _ in range(8):
            i = i >> 1 ^ (0x82F63B78 if i & 1 else 0)
        table.append(i)
    return table


TABLE = make_table()


@functools.lru_cache(maxsize=None)
def crc(*pieces):
    value = 0xFFFFFFFF
    for piece in pieces:
        for byte in piece:
            value = TABLE[(value ^ byte) & 255] ^ value >> 8
    return value ^ 0xFFFFFFFF


def u16(b, at):
    return struct.unpack_from('<H', b, at)[0]


def u32(b, at):
    return struct.unpack_from('<I', b, at)[0]


def u64(b, at):
    return struct.unpack_from('<Q', b, at)[0]


def i64(b, at):
    return struct.unpack_from('<q', b, at)[0]


def big(b):
    return int.from_bytes(b, 'big')


def zero(b):
    return not any(b)


def sealed(b):
    return len(b) >= 64 and crc(b[:60]) == u32(b, 60)


class Bytes:
    """Bytes that are taken from the front."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        expect(self.at + count <= len(self.data), 'bytes end too early')
        self.at += count
        return self.data[self.at - count:self.at]

    def leb(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                return value

    def span(self):
        return self.take(self.leb())

    def rest(self):
        return self.take(len(self.data) - self.at)

    def left(self):
        return self.at < len(self.data)


def text(b):
    return b.decode('utf-8')


flipped = {}  # by path: the byte of which a bit is flipped


def read_file(path):
    with open(path, 'rb') as f:
        b = bytearray(f.read())
    if path in flipped:
        b[flipped[path]] ^= 1
    return bytes(b)


# ---- the store directory ----

KNOWN = {'FORMAT', 'lock', 'catalog', 'catalog-lock', 'catalog.copy', 'journal', 'logs', 'reserve', 'staging', 'spool'}


def read_format(store):
    line = text(read_file(store + '/FORMAT'))
    found = re.fullmatch(r'mqfs store, format 1, ([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\n', line)
    expect(found, 'FORMAT:', repr(line))
    expect(re.fullmatch(r'[0-9]+\n', text(read_file(store + '/lock'))), 'lock')
    for name in os.listdir(store):
        path = store + '/' + name
        expect(name in KNOWN, name, 'is in no list of the page')
        expect(os.stat(path).st_mode & 0o7777 == (0o700 if os.path.isdir(path) else 0o600), name, 'has another mode')
    expect(os.stat(store).st_mode & 0o7777 == 0o700, 'the mode of the store')
    return bytes.fromhex(found[1].replace('-', ''))


# ---- the catalog ----

class Val(ctypes.Structure):
    _fields_ = [('size', ctypes.c_size_t), ('data', ctypes.c_void_p)]


def lmdb_rows(path):
    lmdb = ctypes.CDLL(ctypes.util.find_library('lmdb') or 'liblmdb.so.0')
    env, txn, cursor, dbi = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_uint()
    key, value, rows = Val(), Val(), {}
    lmdb.mdb_env_set_mapsize.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    expect(lmdb.mdb_env_create(ctypes.byref(env)) == 0, 'LMDB')
    expect(lmdb.mdb_env_set_mapsize(env, 1 << 30) == 0, 'LMDB')
    flags = 0x4000 | 0x20000 | 0x400000  # one file, to read, without a lock file
    expect(lmdb.mdb_env_open(env, path.encode(), flags, 0) == 0, 'catalog: LMDB does not open it')
    expect(lmdb.mdb_txn_begin(env, None, 0x20000, ctypes.byref(txn)) == 0, 'LMDB')
    expect(lmdb.mdb_dbi_open(txn, None, 0, ctypes.byref(dbi)) == 0, 'LMDB')
    expect(lmdb.mdb_cursor_open(txn, dbi, ctypes.byref(cursor)) == 0, 'LMDB')
    while lmdb.mdb_cursor_get(cursor, ctypes.byref(key), ctypes.byref(value), 8) == 0:
        rows[ctypes.string_at(key.data, key.size)] = ctypes.string_at(value.data, value.size)
    lmdb.mdb_cursor_close(cursor)
    lmdb.mdb_txn_abort(txn)
    lmdb.mdb_env_close(env)
    return rows


def copied_rows(path, uuid):
    data, rows = read_file(path), {}
    expect(data[:8] == b'MQFSCOPY' and u32(data, 8) == 1 and sealed(data[:64]), 'catalog.copy: its header')
    expect(data[32:48] == uuid and zero(data[12:16]) and zero(data[48:60]), 'catalog.copy: its header')
    base, at, chain, change = u64(data, 16), 64, crc(data[24:32]), 0
    while at < len(data):
        end = at + 32 + u32(data, at + 4)
        expect(end <= len(data) and u32(data, at) == crc(struct.pack('<I', chain), data[at + 4:end]),
               'catalog.copy: a batch')
        expect(u64(data, at + 8) >= change, 'catalog.copy: changes go back')
        chain, change = u32(data, at), u64(data, at + 8)
        row = Bytes(data[at + 32:end])
        while row.left():
            key_size, size = struct.unpack('<HH', row.take(4))
            key = row.take(key_size)
            if size == 0xFFFF:
                rows.pop(key, None)
            else:
                rows[key] = row.take(size)
        at = end
    expect(64 < base <= at, 'catalog.copy: where all rows end')
    return rows


def owner(b, at):
    uid, gid, mode = struct.unpack_from('<III', b, at)
    return [uid, gid, '%o' % mode]


class Catalog:
    def __init__(self, store, uuid):
        rows = lmdb_rows(store + '/catalog')
        expect({k: v for k, v in rows.items() if k[:1] not in (b'k', b'y')} == copied_rows(store + '/catalog.copy', uuid),
               'catalog.copy: it has other rows than the catalog')
        self.facts, self.objects, self.names, self.children = {}, {}, {}, set()
        self.owners, self.settings, self.logs, self.bindings, self.ends = {}, {}, {}, {}, {}
        self.cursors, self.keys, self.keyed = {}, {}, {}
        self.queues, self.lanes, self.spans, self.ended = {}, {}, {}, {}
        for key, value in sorted(rows.items()):
            expect(len(value) >= 4 and crc(key, value[:-4]) == u32(value, len(value) - 4), 'catalog: CRC of', key)
            self.row(key[:1].decode(), big(key[1:9]), key[9:], value[:-4])
        self.check()

    def row(self, table, number, key, value):
        size = {'n': 8, 'c': 0, 'w': 12, 'p': 8, 'e': 24, 'b': 8, 'u': 24, 'k': 17, 'y': 8}.get(table, len(value))
        expect(len(value) == size, 'catalog: size of a row', table)
        if table == 'f':
            expect(number == 0, 'catalog: a fact of', number)
            self.facts[text(key)] = u32(value, 0) if len(value) == 4 else u64(value, 0)
        elif table == 'o':
            expect(key == b'' and value[48] <= TX and zero(value[49:56]) and b'\0' not in value[56:], 'catalog: object', number)
            self.objects[number] = {'parent': u64(value, 0), 'kind': value[48], 'name': text(value[56:]), 'owner': owner(value, 24),
                                    'created': owner(value, 36), 'times': [i64(value, 8), i64(value, 16)]}
        elif table == 'n':
            self.names[number, key[0], text(key[1:])] = u64(value, 0)
        elif table == 'c':
            self.children.add((number, key[0], big(key[1:])))
        elif table == 'w':
            self.owners[number, text(key)] = owner(value, 0)
        elif table == 's':
            expect(number == 0 or key[0] == 0, 'catalog: setting of', number)
            self.settings[number, key[0], text(key[1:])] = text(value)
        elif table == 'p':
            self.logs.setdefault(number, {})[big(key)] = u64(value, 0)
        elif table == 'e':
            expect(len(key) == 4, 'catalog: an end of', number)
            self.ends[number, big(key)] = [u64(value, 0), u64(value, 16)]
        elif table == 'b':
            pattern, name = key.split(b'\0')
            expect((name == b'') == (u64(value, 0) == 0), 'catalog: a binding of', number)
            self.bindings.setdefault(number, {}).setdefault(text(pattern), {})
            if name:
                self.bindings[number][text(pattern)][text(name)] = u64(value, 0)
        elif table == 'u':
            self.cursors[number, big(key)] = list(struct.unpack('<QQQ', value))
        elif table == 'k':
            self.keys[number, key[:-4], big(key[-4:])] = [u64(value, 0), i64(value, 8), value[16]]
        elif table == 'y':
            self.keyed[number, big(key)] = u64(value, 0)
        elif table == 'q':
            self.queue_row(number, key, value)
        else:
            raise Wrong('catalog: a row of the table', table)

    def queue_row(self, number, key, value):
        if len(key) == 0 and len(value) == 16:
            expect(value[0] in (1, 2) and value[1] <= 4 and zero(value[2:8]), 'catalog: transaction', number)
            self.ended[number] = [value[0], value[1]]
        elif len(key) == 0:
            expect(len(value) == 72, 'catalog: queue', number)
            self.queues[number] = list(struct.unpack('<9Q', value))
        elif len(key) == 1:
            expect(len(value) == 16, 'catalog: lane of', number)
            self.lanes[number, key[0]] = list(struct.unpack('<QQ', value))
        else:
            expect(len(key) == 9 and len(value) == 88 and u32(value, 0) > 0 and zero(value[4:8]), 'catalog: span of', number)
            self.spans.setdefault((number, key[0]), []).append((big(key[1:]), u32(value, 0), span(value[8:])))

    def check(self):
        """What belongs together."""
        expect(self.facts['format'] == 1 and {'next_id'} <= set(self.facts) <= {'format', 'next_id', 'next_message_id', 'journal', 'uuid'},
               'catalog: facts', self.facts)
        names = {(o['parent'], o['kind'], o['name']): i for i, o in self.objects.items()}
        children = {(o['parent'], o['kind'], i) for i, o in self.objects.items()}
        expect(names == self.names and children == self.children, 'catalog: names and children are not those of the objects')
        expect(self.objects[1]['kind'] == STORE and self.objects[1]['parent'] == 0, 'catalog: the root')
        given = list(self.objects) + [log for logs in self.logs.values() for log in logs.values()]
        expect(len(set(given)) == len(given) and max(given) < self.facts['next_id'], 'catalog: a number was given twice')

    def find(self, parent, kind):
        return sorted((o['name'], i) for i, o in self.objects.items() if o['parent'] == parent and o['kind'] == kind)


# ---- spans ----

def span(b):
    expect(len(b) == 80 and b[0] <= 3 and b[1] <= 1 and b[2] <= 2 and zero(b[3:8]) and zero(b[12:16]), 'a span')
    return {'state': b[0], 'held': b[1], 'ended': b[2], 'deliveries': u32(b, 8), 'id': u64(b, 16), 'holder': u64(b, 24),
            'place': i64(b, 32), 'due': i64(b, 40), 'expires': i64(b, 48), 'delivery': u64(b, 56), 'began': i64(b, 72)}


# ---- logs ----

def read_meta(record, crc_of_data, count, data):
    """Lengths, or None, and properties of the messages."""
    expect(u32(record, 4) == len(record) and u32(record, 0) == crc(struct.pack('<I', crc_of_data), record[4:]), 'a meta record')
    b, flags = Bytes(record[9:]), record[8]
    expect(flags and flags & ~7 == 0, 'flags of a meta record')
    key = b.span() if flags & 4 else None
    lengths = [b.leb() for _ in range(count)] if flags & 1 else None
    expect(lengths is None or sum(lengths) + count == len(data), 'lengths of messages')
    props = [read_props(Bytes(b.span())) if flags & 2 else {} for _ in range(count)]
    expect(not b.left(), 'a meta record is too long')
    for p in props:
        if key is not None:
            p['key'] = text(key)
    return lengths, props


def read_props(b):
    props = {}
    while b.left():
        kind, value = b.take(1)[0], Bytes(b.span())
        if kind == 1:
            props['key'] = text(value.rest())
        elif kind == 2:
            name = text(value.span())
            props.setdefault('headers', {})[name] = text(value.rest())
        elif kind == 3:
            props['id'] = text(value.rest())
        elif kind == 4:
            props['routing_key'] = text(value.rest())
        elif kind == 9:
            reason, times, ts = value.leb(), value.leb(), value.leb()
            reason = ['rejected', 'expired', 'maxlen', 'delivery_limit'][reason]
            props.setdefault('deaths', []).append({'queue': text(value.rest()), 'reason': reason, 'count': times, 'ts': ts})
        elif kind == 11:
            props['tombstone'] = True
        else:
            expect(kind in (5, 6, 7, 8, 10), 'a property of type', kind)
            props[{5: 'ts', 6: 'ttl_ms', 7: 'delay_ms', 8: 'priority', 10: 'mark'}[kind]] = value.leb()
        expect(not value.left(), 'a property of type', kind, 'is too long')
    return props


def read_entry(entry, segment, offset, data_at, meta_at, gaps):
    """The messages of an entry that goes on at these places, and where the next does."""
    base, first, ts = u64(entry, 0), u64(entry, 8), i64(entry, 16)
    at, size, count, flags = u32(entry, 24), u32(entry, 28), u32(entry, 32) & 0xFFFFFF, entry[35]
    meta_pos, meta_size = u32(entry, 36), u32(entry, 40)
    expect((base == offset or gaps and base > offset) and at == data_at, 'an entry does not go on where the one before it ended')
    data = segment['data'][at:at + size]
    expect(count > 0 and len(data) == size and crc(data) == u32(entry, 56), 'data of an entry')
    expect(size <= 65536 or count == 1, 'an entry is too large')
    expect(flags & ~15 == 0, 'flags of an entry')
    lengths, props = None, [{} for _ in range(count)]
    if meta_size > 0:
        expect(meta_pos == meta_at, 'meta of an entry does not go on')
        lengths, props = read_meta(segment['meta'][meta_pos:meta_pos + meta_size], u32(entry, 56), count, data)
    if lengths is None:
        lengths = [len(line) for line in data.split(b'\n')[:-1]]
        expect(len(lengths) == count, 'lines of an entry')
    messages, b = [], Bytes(data)
    for i in range(count):
        payload = b.take(lengths[i])
        expect(b.take(1) == b'\n', 'a message does not end in a newline')
        messages.append({'offset': base + i, 'ts': props[i].pop('ts', ts), 'number': first + i if first else 0, 'flags': flags,
                         'uid': u32(entry, 44), 'gid': u32(entry, 48), 'pid': u32(entry, 52), 'payload': text(payload), **props[i]})
    expect(not b.left(), 'data of an entry is too long')
    return messages, base + count, data_at + size, meta_at + meta_size


def record64(path, magic, uuid, log):
    b = read_file(path)
    expect(len(b) == 64 and b[:8] == magic and u32(b, 8) == 1 and b[12:28] == uuid and u64(b, 28) == log and sealed(b), path)
    return b


class Log:
    def __init__(self, store, uuid, number):
        self.dir, self.number, self.messages, self.segments = '%s/logs/%016x' % (store, number), number, [], []
        names = set(os.listdir(self.dir))
        bases = sorted(int(n[:20]) for n in names if n.endswith('.index'))
        self.clean = 'clean' in names and u64(record64(self.dir + '/clean', b'MQFSCLEN', uuid, number), 36)
        self.start = bases[0]
        self.ids = {}
        for name in names:
            known = re.fullmatch(r'[0-9]{20}\.(index|data|meta|ids)|start|clean', name)
            expect(known, self.dir, name)
            if name.endswith('.ids'):
                self.ids.update(self.read_ids(name, uuid))
        if 'start' in names:
            b = record64(self.dir + '/start', b'MQFSTART', uuid, number)
            expect(zero(b[52:60]) and u64(b, 36) >= self.start, self.dir, 'start')
            self.start = u64(b, 36)
        self.end = self.pos = None
        for base in bases:
            self.read_segment(base, uuid)
        self.messages = [m for m in self.messages if m['offset'] >= self.start]

    def read_segment(self, base, uuid):
        segment = {'base': base, 'start': base}
        for suffix in ('data', 'index', 'meta'):
            path = '%s/%020d.%s' % (self.dir, base, suffix)
            segment[suffix] = read_file(path) if os.path.exists(path) else b''
        index = segment['index']
        expect(index[:8] == b'MQFSIDX1' and u32(index, 8) in (1, 2) and sealed(index[:64]), self.dir, base, 'header')
        expect(index[12:28] == uuid and u64(index, 28) == self.number and u64(index, 36) == base, self.dir, base, 'header')
        mark, gaps = index[64:128], u32(index, 8) == 2
        expect(mark[:8] == b'MQFSMARK' and sealed(mark) and u64(mark, 16) == u64(index, 44), self.dir, base, 'mark')
        expect(mark[36] == gaps and zero(mark[37:60]), self.dir, base, 'mark')
        if not self.clean and self.end is not None:
            expect(base == self.end and u64(index, 44) == self.pos, self.dir, base, 'does not begin where the one before it ends')
        offset, data_at, meta_at, at, more = base, 0, 0, 128, False
        covered = {base: (128, 0, 0)}
        while at + 64 <= len(index):
            entry = index[at:at + 64]
            expect(sealed(entry), self.dir, base, 'entry at', at)
            messages, offset, data_at, meta_at = read_entry(entry, segment, offset, data_at, meta_at, gaps)
            self.messages += messages
            at, more = at + 64, entry[35] & 1
            covered[offset] = (at, data_at, meta_at)
        expect(not more, self.dir, base, 'the end of an append is missing')
        expect(at == len(index) and data_at == len(segment['data']) and meta_at == len(segment['meta']), self.dir, base, 'sizes')
        if gaps:
            covered[u64(mark, 8)] = (at, data_at, meta_at)
            offset = u64(mark, 8)
        expect(covered.get(u64(mark, 8)) == struct.unpack_from('<III', mark, 24), self.dir, base, 'the mark')
        segment['marked'] = u64(mark, 8)
        self.segments.append(segment)
        self.end, self.pos = offset, u64(index, 44) + data_at

    def read_ids(self, name, uuid):
        b = read_file(self.dir + '/' + name)
        expect(b[:8] == b'MQFSIDS1' and u32(b, 8) == 1 and b[12:28] == uuid and u64(b, 28) == self.number, self.dir, name)
        expect(u64(b, 36) == int(name[:20]) and sealed(b[:64]) and crc(b[64:]) == u32(b, 56), self.dir, name)
        expect(len(b) == 64 + 24 * u32(b, 52), self.dir, name)
        ids = {b[at:at + 16]: i64(b, at + 16) for at in range(64, len(b), 24)}
        expect(max(ids.values()) == i64(b, 44), self.dir, name, 'time of the newest')
        return ids


# ---- the journal ----

def read_journal(store, uuid, least):
    """All records that count, in order."""
    records, names = [], sorted(os.listdir(store + '/journal'))
    expect(names, 'there is no journal')
    for name in names:
        expect(re.fullmatch('[0-9a-f]{16}', name), 'journal/' + name)
        if int(name, 16) < least:
            continue
        b = read_file(store + '/journal/' + name)
        expect(b[:8] == b'mqfsjrnl' and u32(b, 8) == 1 and b[16:32] == uuid and u64(b, 32) == int(name, 16), 'journal', name)
        expect(zero(b[12:16]) and zero(b[40:60]) and sealed(b[:64]), 'journal', name)
        at = 64
        while at + 8 <= len(b) and u16(b, at + 4):
            size = u16(b, at + 6)
            end = at + (8 + size + 7) // 8 * 8
            expect(u32(b, at) == crc(uuid, b[32:40], b[at + 4:end]), 'journal', name, 'record at', at)
            expect(zero(b[at + 8 + size:end]), 'journal', name, 'padding at', at)
            records.append((u16(b, at + 4), b[at + 8:at + 8 + size]))
            at = end
        expect(not b[at:].strip(b'\0'), 'journal', name, 'goes on behind', at)
    return records


class Lane:
    """What is known of the messages of one priority: spans one by one, None: settled."""

    def __init__(self, untouched):
        self.untouched, self.spans = untouched, {}

    def put(self, first, count, what):
        for i in range(count):
            self.spans[first + i] = dict(what, place=what['place'] + i) if what else None

    def cut(self, end):
        self.spans = {offset: s for offset, s in self.spans.items() if offset < end}
        self.untouched = min(self.untouched, end)

    def of(self, message):
        offset = message['offset']
        if offset in self.spans:
            return self.spans[offset]
        if offset < self.untouched:
            return None
        place = -offset - 1 if message['flags'] & 8 else offset
        return {'state': READY, 'deliveries': 0, 'place': place, 'holder': 0, 'began': 0}


class State:
    """The catalog, and the journal on top of it."""

    def __init__(self, catalog, records, logs):
        self.catalog, self.logs = catalog, logs
        self.cursors, self.staged, self.lanes, self.ended = dict(catalog.cursors), {}, {}, dict(catalog.ended)
        self.changes = {i: row[0] for i, row in catalog.queues.items()}
        self.totals = {i: row[1:] for i, row in catalog.queues.items()}
        self.wholes, self.pieces = {}, {}
        for lane, spans in catalog.spans.items():
            for first, count, what in spans:
                self.lane(*lane).put(first, count, what if what['state'] != SETTLED else None)
        self.seen = {}
        for kind, b in records:
            self.seen[kind] = self.seen.get(kind, 0) + 1
            getattr(self, 'type_%d' % kind)(b)

    def lane(self, queue, priority):
        if (queue, priority) not in self.lanes:
            self.lanes[queue, priority] = Lane(self.catalog.lanes.get((queue, priority), [0])[0])
        return self.lanes[queue, priority]

    def is_next(self, queue, change):
        """Whether a change of a queue is news; a gap there is none."""
        known = self.changes.setdefault(queue, 0)
        expect(change <= known + 1, 'journal: changes of queue', queue, 'go from', known, 'to', change)
        self.changes[queue] = max(known, change)
        return change > known

    def count(self, queue, why, by, again=0):
        totals = self.totals.setdefault(queue, [0] * 8)
        for i in {1: [0], 2: [2], 3: [0, 2], 4: [3], 5: [4], 6: [5], 7: [7], 8: [6]}.get(why, []):
            totals[i] += by
        if why in (1, 3) and again:
            totals[1] += by

    def type_1(self, b):
        expect(len(b) == 40 and zero(b[36:]), 'journal: a record of type 1')
        self.cursors[u64(b, 0), u32(b, 32)] = [u64(b, 8), u64(b, 16), u64(b, 24)]

    def type_2(self, b):
        expect(len(b) in (32, 40, 112) and b[29] <= 9 and zero(b[30:32]), 'journal: a record of type 2')
        queue, first, count, why = u64(b, 0), u64(b, 16), u32(b, 24), b[29]
        expect(count > 0, 'journal: a gap, and there was no power cut')
        if not self.is_next(queue, u64(b, 8)) or len(b) == 40:
            return
        what, lane = span(b[32:]) if len(b) == 112 else None, self.lane(queue, b[28])
        before = lane.spans.get(first) or {'deliveries': 0}
        self.count(queue, why, count, (what['deliveries'] if what else before['deliveries'] + 1) > 1)
        lane.put(first, count, what if what and what['state'] != SETTLED else None)

    def type_3(self, b):
        expect(len(b) == 144 and zero(b[29:32]) and b[27] & ~31 == 0 and b[28] <= 4, 'journal: a record of type 3')
        source, to, flags, what = u64(b, 0), u64(b, 32), b[27], span(b[64:])
        expect(not flags & (2 | 16), 'journal: a move that failed or was cut off')
        if self.is_next(source, u64(b, 8)):
            self.count(source, b[26], 1)
            self.lane(source, b[24]).put(u64(b, 16), 1, None)
        if self.is_next(to, u64(b, 40)):
            self.count(to, 0 if b[26] == 9 else 8, 1)
            self.count(to, 1 if flags & 4 else 0, 1, what['deliveries'] > 1)
            if not flags & 1:
                self.lane(to, b[25]).put(u64(b, 48), 1, what)
        message = [m for m in self.logs[self.catalog.logs[to][b[25]]].messages if m['offset'] == u64(b, 48)]
        expect(message and message[0]['number'] == u64(b, 56) and message[0]['flags'] & 4, 'journal: what was moved is not there')

    def type_4(self, b):
        expect(len(b) == 32 and zero(b[25:]), 'journal: a record of type 4')
        if self.is_next(u64(b, 0), u64(b, 8)):
            self.lane(u64(b, 0), b[24]).cut(u64(b, 16))

    def type_5(self, b):
        number, piece, pieces = u64(b, 0), u32(b, 8), u32(b, 12)
        if pieces == 0:
            self.wholes.pop(number, None)
        elif pieces != 0xFFFFFFFF:
            if piece == 0:
                self.pieces[number] = b''
            self.pieces[number] += b[16:]
            if piece + 1 == pieces:
                self.whole(number, Bytes(self.pieces.pop(number)))

    def whole(self, number, b):
        parts, tail = u32(b.take(4), 0), u32(b.take(4), 0)
        self.wholes[number] = [self.part(b) for _ in range(parts)]
        if tail:
            self.tail(b, tail)
        expect(not b.left(), 'journal: a whole is too long')

    def part(self, b):
        head = b.take(56)
        mark, count, targets, flags = u64(head, 0), u32(head, 8), u32(head, 12), u32(head, 36)
        where = []
        for _ in range(targets):
            target = b.take(24)
            expect(u32(target, 8) & ~3 == 0 and zero(target[20:]), 'journal: a target')
            logs = [b.take(16) for _ in range(u32(target, 12))]
            ends = {u32(log, 0): u64(log, 8) for log in logs}
            gets = u32(target, 16)
            which = [u32(b.take(4), 0) for _ in range(gets)] if u32(target, 8) & 2 else list(range(gets))
            places = [u32(b.take(4), 0) for _ in range(gets)]
            where.append((u64(target, 0), ends, which, places))
        meta, size = b.take(u64(head, 40)), u64(head, 48)
        expect(meta[8] == flags, 'journal: flags of properties')
        data = b.take(size)
        lengths, props = read_meta(meta, 0, count, data)
        payloads, rest = [], Bytes(data)
        for length in lengths:
            payloads.append(text(rest.take(length)))
            expect(rest.take(1) == b'\n', 'journal: a payload without its newline')
        # Nothing was lost, so each target has each of its messages, behind where its log ended then.
        for target, ends, which, places in where:
            for i, place in zip(which, places):
                log = self.logs[self.catalog.logs[target][place]]
                there = [m for m in log.messages if m.get('mark') == mark + i]
                expect(len(there) == 1 and there[0]['offset'] >= ends[place] and there[0]['payload'] == payloads[i],
                       'journal: a message for several targets is not in one of them')
        return mark

    def tail(self, b, size):
        head, end = b.take(24), b.at - 24 + size
        for _ in range(u32(head, 16)):
            expect(u32(b.take(40), 36) <= 3, 'journal: how a message was settled')
        for _ in range(u32(head, 20)):
            cursor = b.take(24)
            group, offset, partition, kind = struct.unpack('<QQII', cursor)
            old = self.cursors.get((group, partition), [0, 0, 0])
            self.cursors[group, partition] = [offset, offset if kind else max(offset, old[1] if old[1] != NONE else 0), old[2]]
        if u64(head, 0):
            self.ended[u64(head, 0)] = [1, 0]
        expect(b.at == end, 'journal: the tail of a whole')

    def type_9(self, b):
        log = self.logs[u64(b, 0)]
        segment = [s for s in log.segments if s['base'] == u64(b, 8)][0]
        first, entries, data, data_size, meta, meta_size = struct.unpack_from('<IIIIII', b, 16)
        expect(len(b) == 40 + 64 * entries + meta_size + data_size and entries > 0, 'journal: a record of type 9')
        rest = Bytes(b[40:])
        for name, at, size in (('index', 128 + 64 * first, 64 * entries), ('meta', meta, meta_size), ('data', data, data_size)):
            expect(segment[name][at:at + size] == rest.take(size), 'journal: the end of a log is not what the log has')

    def type_10(self, b):
        expect(len(b) == 24 and u64(b, 8) <= self.logs[u64(b, 0)].end, 'journal: a record of type 10')

    def type_16(self, b):
        expect(len(b) == 56 and u32(b, 52) <= 1, 'journal: a record of type 16')
        taken, to, log, offset = u64(b, 8), u64(b, 16), u64(b, 24), u64(b, 32)
        if to:  # the append was begun: was it done?
            found = [m for m in self.logs[log].messages if m['offset'] >= offset]
            data = b''.join(m['payload'].encode() + b'\n' for m in found)[:u32(b, 40)]
            if found and len(data) == u32(b, 40) and crc(data[:4096]) == u32(b, 44):
                taken = to
        self.staged[u64(b, 0)] = taken


# ---- the staging files ----

def read_staging(store, uuid, catalog, state):
    """By what it is for, what was written and is in no log yet."""
    found = {}
    for name in sorted(os.listdir(store + '/staging')):
        expect(re.fullmatch('[0-9a-f]{16}', name), 'staging/' + name)
        b = read_file(store + '/staging/' + name)
        if not b:
            continue
        expect(b[:8] == b'MQFSSTG1' and b[12:28] == uuid and crc(b[:508]) == u32(b, 508), 'staging', name)
        target = catalog.objects[u64(b, 36)]
        expect(target['kind'] == {1: TOPIC, 2: QUEUE}[u32(b, 8)] and b[60] in b'\n\0' and b[61] <= 1, 'staging', name)
        with open('/proc/sys/kernel/random/boot_id') as f:
            expect(b[320:336] in (bytes(16), bytes.fromhex(f.read().strip().replace('-', ''))), 'staging', name, 'boot_id')
        key = text(b[64:64 + b[62]]) if b[61] else None
        rest = b[state.staged.get(u64(b, 28), 512):].split(b[60:61])
        for payload in rest[:-1]:  # what has no end is dropped
            found.setdefault(target['name'], []).append([key, text(payload)])
    return found


# ---- all of it ----

def record(message, **more):
    fields = {k: v for k, v in message.items() if k not in ('flags', 'number', 'mark', 'tombstone')}
    if message.get('tombstone'):
        fields['payload'] = None
    return {'headers': {}, **fields, **more}


def queue_of(catalog, state, logs, number, is_dlq=False):
    lists = {READY: [], LEASED: [], DELAYED: []}
    names = {i: o['name'] for i, o in catalog.objects.items() if o['kind'] == CONSUMER}
    held = {}
    for priority, log in sorted(catalog.logs.get(number, {}).items(), reverse=True):
        waiting = []
        for message in logs[log].messages:
            what = state.lane(number, priority).of(message)
            if what is None:
                continue
            expect(not what.get('id') or what['id'] == message['number'], 'the id of a span')
            fields = record(message, id=message['number'], priority=priority, deliveries=what['deliveries'],
                            redelivered=what['deliveries'] > (what['state'] == LEASED))
            fields.pop('offset')
            if 'id' in message:
                fields['dedup_id'] = message['id']
            waiting.append((what['place'], fields, what))
            if what['state'] == LEASED and what['holder'] in names:
                held.setdefault(names[what['holder']], []).append(message['number'])
        for _, fields, what in sorted(waiting, key=lambda w: w[0]):
            lists[what['state']].append(fields)
    totals = state.totals.get(number, [0] * 8)
    answer = {'ready': lists[READY], 'unacked': sorted(lists[LEASED], key=lambda m: m['id']),
              'delayed': sorted(lists[DELAYED], key=lambda m: m['id']), 'held': held,
              'totals': dict(zip(('delivered', 'redelivered', 'acked', 'dead_lettered', 'expired', 'dropped', 'moved_in', 'moved_out'),
                                 totals))}
    for _, dlq in [] if is_dlq else catalog.find(number, QUEUE):
        answer['dlq'] = queue_of(catalog, state, logs, dlq, True)
    return answer


def group_of(catalog, state, logs, number, partitions):
    cursors = [state.cursors.get((number, p), [0, 0, 0]) for p in range(partitions)]
    cursors = [[c, c if g == NONE else max(c, g)] for c, g, _ in cursors]
    dlq = catalog.find(number, QUEUE)
    expect([name for name, _ in dlq] == ['dlq'], 'the dead letters of a group')
    return {'cursors': cursors, 'members': [m for m, _ in catalog.find(number, MEMBER)],
            'dlq': queue_of(catalog, state, logs, dlq[0][1], True)}


def path_of(catalog, number):
    dirs = {TOPIC: 'topics', QUEUE: 'queues', EXCHANGE: 'exchanges', GROUP: 'groups', CONSUMER: 'consumers', MEMBER: 'members',
            TX: 'tx'}
    o = catalog.objects[number]
    if o['kind'] == QUEUE and o['parent'] != 1:
        return path_of(catalog, o['parent']) + '/dlq'
    own = dirs[o['kind']] + '/' + o['name']
    return own if o['parent'] == 1 else path_of(catalog, o['parent']) + '/' + own


def read_store(store):
    uuid = read_format(store)
    catalog = Catalog(store, uuid)
    logs = {number: Log(store, uuid, number) for of in catalog.logs.values() for number in of.values()}
    expect(sorted('%016x' % n for n in logs) == sorted(os.listdir(store + '/logs')), 'logs/ has others than the catalog')
    for (number, index), (end, start) in catalog.ends.items():
        log = logs[catalog.logs[number][index]]
        expect(log.end >= end and log.start >= start, 'catalog: a log ends or begins before where it was known to', number, index)
    state = State(catalog, read_journal(store, uuid, catalog.facts.get('journal', 0)), logs)
    answer = {'topics': {}, 'queues': {}, 'exchanges': {}, 'tx': {}, 'settings': {}, 'owners': {}}
    for name, number in catalog.find(1, TOPIC):
        of = catalog.logs[number]
        expect(sorted(of) == list(range(len(of))), 'partitions of', name)
        answer['topics'][name] = {
            'partitions': [{'earliest': logs[of[p]].start, 'end': logs[of[p]].end,
                            'messages': [record(m, partition=p) for m in logs[of[p]].messages]} for p in sorted(of)],
            'groups': {g: group_of(catalog, state, logs, n, len(of)) for g, n in catalog.find(number, GROUP)}}
    for name, number in catalog.find(1, QUEUE):
        answer['queues'][name] = queue_of(catalog, state, logs, number)
    for name, number in catalog.find(1, EXCHANGE):
        bindings = catalog.bindings.get(number, {})
        answer['exchanges'][name] = {
            'type': catalog.settings.get((number, 0, 'type'), 'topic'),
            'bindings': {p: {link: path_of(catalog, to) for link, to in b.items()} for p, b in bindings.items()}}
    for name, number in catalog.find(1, TX):
        answer['tx'][name] = {1: 'committed', 2: 'aborted'}[state.ended.get(number, [2])[0]]
    for (number, kind, name), value in catalog.settings.items():
        if number and name != 'type':
            answer['settings'][path_of(catalog, number) + '/config/' + name] = value
        elif not number:
            dirs = {TOPIC: 'topics', GROUP: 'groups', QUEUE: 'queues', EXCHANGE: 'exchanges', TX: 'tx'}
            answer['settings']['config/%s/%s' % (dirs[kind], name)] = value
    for number, o in catalog.objects.items():
        if number != 1:
            answer['owners'][path_of(catalog, number)] = o['owner']
    for (number, name), of in catalog.owners.items():
        answer['owners'][path_of(catalog, number) + '/' + name] = of
    return answer, {'staged': read_staging(store, uuid, catalog, state), 'records': state.seen, 'ended': sorted(state.ended.values()),
                    'ids': sum(len(log.ids) for log in logs.values()), 'clean': sum(bool(log.clean) for log in logs.values()),
                    'keys': len(catalog.keys), 'wholes': len(state.wholes)}


def flips(store):
    """Files that are read, and read as well with a bit flipped where a checksum is to cover it."""
    files = [store + '/FORMAT', store + '/catalog.copy']
    for above, _, names in os.walk(store):
        files += [above + '/' + n for n in names if os.path.relpath(above, store).split('/')[0] in ('logs', 'journal', 'staging')]
    read_store(store)
    passed, looked = [], 0
    for path in files:
        size = os.path.getsize(path)
        where = {0, size // 2, size - 1}
        if '/staging/' in path:
            where = {0, 511}  # what was written there has none
        elif '/journal/' in path:
            where = {0, 63, 71}  # zeros may follow the last record
        for at in sorted(at for at in where if 0 <= at < size):
            flipped.clear()
            flipped[path] = at
            looked += 1
            try:
                read_store(store)
                passed.append('%s at %d' % (path, at))
            except (Wrong, KeyError, IndexError, ValueError, struct.error):
                pass
    return looked, passed


if __name__ == '__main__':
    try:
        if sys.argv[1] == '--flips':
            print(*flips(sys.argv[2]))
            sys.exit(0)
        shown, more = read_store(sys.argv[1])
    except Wrong as wrong:
        sys.exit('not as mqfs-format(5) says: %s' % wrong)
    with open(sys.argv[2], 'w') as out:
        json.dump(shown, out, indent=1, sort_keys=True)
    print(json.dumps(more, sort_keys=True))
