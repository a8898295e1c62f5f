#!/usr/bin/env python3
"""format_seen.py MOUNT FILE [TOPIC...] - what a mount gives of all that is in it, as JSON; but of these topics nothing.
format_seen.py compare SEEN READ [TOPIC...] - exits with the first difference to what format_reader.py has read, which has these topics, too.

Of settings and owners the reader has those that were set, and the mount shows all.
"""
import json
import os
import sys


def read_file(path):
    with open(path, 'rb') as f:
        return f.read().decode('utf-8')


def records(path, *drop):
    found = [json.loads(line) for line in read_file(path).splitlines()]
    for fields in found:
        for name in drop:
            fields.pop(name, None)
    return found


def info(path):
    return dict(line.split(' ', 1) for line in read_file(path).splitlines())


def messages(path, in_order):
    names = os.listdir(path)
    found = [records(path + '/' + name + '.json', 'queue')[0] for name in (names if in_order else sorted(names))]
    assert [m['id'] for m in found] == [int(n) for n in (names if in_order else sorted(names))]
    return found


def queue(path, is_dlq=False):
    totals = info(path + '/info')
    answer = {'ready': messages(path + '/ready', True), 'unacked': messages(path + '/unacked', False),
              'delayed': messages(path + '/delayed', False), 'held': {}, 'totals': {}}
    for name in ('delivered', 'redelivered', 'acked', 'dead_lettered', 'expired', 'dropped', 'moved_in', 'moved_out'):
        answer['totals'][name] = int(totals[name])
    for name in sorted(os.listdir(path + '/consumers')):
        held = sorted(int(n) for n in os.listdir(path + '/consumers/' + name + '/unacked'))
        if held:
            answer['held'][name] = held
    if not is_dlq:
        answer['dlq'] = queue(path + '/dlq', True)
    return answer


def group(path, partitions):
    of = info(path + '/info')
    cursors = [[int(of['partition.%d.offset' % p]), int(of['partition.%d.given' % p])] for p in range(partitions)]
    return {'cursors': cursors, 'members': sorted(os.listdir(path + '/members')), 'dlq': queue(path + '/dlq', True)}


def topic(path):
    of = info(path + '/info')
    parts = range(int(of['partitions']))
    return {'partitions': [{'earliest': int(of['partition.%d.earliest' % p]), 'end': int(of['partition.%d.end' % p]),
                            'messages': records('%s/%d/log.json' % (path, p), 'topic')} for p in parts],
            'groups': {g: group(path + '/groups/' + g, len(parts)) for g in sorted(os.listdir(path + '/groups'))}}


def exchange(mount, path):
    bindings = {}
    for pattern in os.listdir(path + '/bindings'):
        where = path + '/bindings/' + pattern
        bindings[pattern] = {link: os.path.relpath(os.path.join(where, os.readlink(where + '/' + link)), mount)
                             for link in os.listdir(where)}
    return {'type': read_file(path + '/type').strip(), 'bindings': bindings}


def see(mount, hidden):
    answer = {'topics': {}, 'queues': {}, 'exchanges': {}, 'tx': {}, 'settings': {}, 'owners': {}}
    for name in os.listdir(mount + '/topics'):
        if name not in hidden:
            answer['topics'][name] = topic(mount + '/topics/' + name)
    for name in os.listdir(mount + '/queues'):
        answer['queues'][name] = queue(mount + '/queues/' + name)
    for name in os.listdir(mount + '/exchanges'):
        answer['exchanges'][name] = exchange(mount, mount + '/exchanges/' + name)
    for name in os.listdir(mount + '/tx'):
        state = read_file(mount + '/tx/' + name + '/state').split()[0]
        answer['tx'][name] = 'aborted' if state == 'open' else state  # it is, once the daemon has ended
        of = os.stat(mount + '/tx/' + name)
        answer['owners']['tx/' + name] = [of.st_uid, of.st_gid, '%o' % (of.st_mode & 0o7777)]
    for above, dirs, files in os.walk(mount):
        dirs[:] = [d for d in dirs if not (d in hidden and above == mount + '/topics') and d not in ('ready', 'unacked', 'delayed', 'at', 'tx', 'keys', 'status')]
        for name in dirs + files:  # to look at a file of a topic is to open its log
            path = os.path.relpath(os.path.join(above, name), mount)
            if 'config' in path.split('/') and name in files:
                answer['settings'][path] = read_file(os.path.join(above, name)).strip()
            of = os.lstat(os.path.join(above, name))
            answer['owners'][path] = [of.st_uid, of.st_gid, '%o' % (of.st_mode & 0o7777)]
    return answer


def compare(seen, read, where=''):
    if isinstance(read, dict) and isinstance(seen, dict):
        if where in ('/settings', '/owners'):
            seen = {k: v for k, v in seen.items() if k in read}
        for name in sorted(set(seen) | set(read)):
            if name not in read or name not in seen:
                sys.exit('%s/%s is only %s' % (where, name, 'seen' if name in seen else 'read'))
            compare(seen[name], read[name], where + '/' + name)
    elif isinstance(read, list) and isinstance(seen, list) and len(read) == len(seen):
        for i, (a, b) in enumerate(zip(seen, read)):
            compare(a, b, '%s/%d' % (where, i))
    elif seen != read:
        sys.exit('%s: seen\n  %s\nbut read\n  %s' % (where, seen, read))


if __name__ == '__main__':
    if sys.argv[1] == 'compare':
        with open(sys.argv[2]) as a, open(sys.argv[3]) as b:
            seen, read = json.load(a), json.load(b)
        for name in sys.argv[4:]:
            del read['topics'][name]
            read['owners'] = {k: v for k, v in read['owners'].items() if k != 'topics/' + name}
            read['settings'] = {k: v for k, v in read['settings'].items() if not k.startswith('topics/%s/' % name)}
        compare(seen, read)
    else:
        with open(sys.argv[2], 'w') as out:
            json.dump(see(os.path.realpath(sys.argv[1]), sys.argv[3:]), out, indent=1, sort_keys=True)
