#!/usr/bin/env python3
"""catalog_row.py STORE put KEY VALUE | del KEY | get KEY - changes or shows one row of a store's catalog, as mqfs-format(5) has it.

KEY and VALUE are words joined by colons: one letter for the table; 8=N, 4=N, 2=N or 1=N: a number of so many bytes, big-endian in
keys and little-endian in values; =TEXT; x=HEX. The checksum of a value is put behind it, and get leaves it out. get: hex digits.
"""
import ctypes
import ctypes.util
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'mount'))
from format_reader import Val, crc  # noqa: E402


def encode(words, order):
    out = b''
    for word in words.split(':'):
        how, is_more, what = word.partition('=')
        if not is_more:
            out += how.encode()
        elif how == '':
            out += what.encode()
        elif how == 'x':
            out += bytes.fromhex(what)
        else:
            out += int(what).to_bytes(int(how), order)
    return out


def val(data):
    return Val(len(data), ctypes.cast(ctypes.create_string_buffer(data, len(data)), ctypes.c_void_p))


def main(store, what, key, value=''):
    lmdb = ctypes.CDLL(ctypes.util.find_library('lmdb') or 'liblmdb.so.0')
    lmdb.mdb_env_set_mapsize.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    env, txn, dbi, found = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_uint(), Val()
    key = encode(key, 'big')

    def must(rc):
        if rc != 0:
            sys.exit('%s %s: LMDB says %d' % (what, key, rc))
    must(lmdb.mdb_env_create(ctypes.byref(env)))
    must(lmdb.mdb_env_set_mapsize(env, 64 << 20))
    must(lmdb.mdb_env_open(env, (store + '/catalog').encode(), 0x4000, 0o600))
    must(lmdb.mdb_txn_begin(env, None, 0, ctypes.byref(txn)))
    must(lmdb.mdb_dbi_open(txn, None, 0, ctypes.byref(dbi)))
    k = val(key)
    if what == 'get':
        must(lmdb.mdb_get(txn, dbi, ctypes.byref(k), ctypes.byref(found)))
        print(ctypes.string_at(found.data, found.size - 4).hex())
    elif what == 'del':
        must(lmdb.mdb_del(txn, dbi, ctypes.byref(k), None))
    else:
        data = encode(value, 'little') if value else b''
        data += struct.pack('<I', crc(key, data))
        v = val(data)
        must(lmdb.mdb_put(txn, dbi, ctypes.byref(k), ctypes.byref(v), 0))
    must(lmdb.mdb_txn_commit(txn))
    lmdb.mdb_env_close(env)


main(*sys.argv[1:])
