#!/usr/bin/env python3
"""openmetrics.py - checks OpenMetrics text 1.0 on stdin, and prints its samples one a line: NAME LABELS VALUE.

Labels are printed as JSON, sorted. What is wrong ends it with a line that says so."""
import json
import re
import sys

NAME = r'[a-zA-Z_:][a-zA-Z0-9_:]*'
SUFFIX = {'gauge': '', 'counter': '_total', 'info': '_info', 'unknown': ''}
UNESCAPED = {'\\\\': '\\', '\\"': '"', '\\n': '\n'}


def check(ok, number, line, what):
    if not ok:
        sys.exit(f'line {number}: {what}: {line!r}')


def labels_of(text, number, line):
    labels, at = {}, 0
    pair = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)')
    while at < len(text):
        found = pair.match(text, at)
        check(found, number, line, 'labels')
        name, value, _ = found.groups()
        check(name not in labels, number, line, 'a label twice')
        labels[name] = re.sub(r'\\["\\n]', lambda m: UNESCAPED[m.group()], value)
        at = found.end()
    return labels


def main():
    text = sys.stdin.buffer.read().decode('utf-8')
    lines = text.split('\n')
    check(lines[-2:] == ['# EOF', ''], len(lines), lines[-1], 'it does not end with # EOF')
    families, seen, family, kind = set(), set(), None, None
    for number, line in enumerate(lines[:-2], 1):
        if line.startswith('# TYPE '):
            _, _, family, kind = line.split(' ')
            check(re.fullmatch(NAME, family) and kind in SUFFIX and family not in families, number, line, 'type')
            families.add(family)
        elif line.startswith('# UNIT '):
            unit = line.split(' ')[3]
            check(line.split(' ')[2] == family and family.endswith('_' + unit), number, line, 'unit')
        elif line.startswith('# HELP '):
            check(line.split(' ')[2] == family, number, line, 'help')
        else:
            found = re.fullmatch('(' + NAME + r')(?:\{(.*)\})? ([-+0-9.eE]+|NaN|[-+]Inf)', line)
            check(found, number, line, 'sample')
            name, labels = found.group(1), labels_of(found.group(2) or '', number, line)
            check(name == family + SUFFIX[kind], number, line, 'not of the family ' + family)
            check(kind != 'counter' or float(found.group(3)) >= 0, number, line, 'a negative counter')
            key = (name, json.dumps(labels, sort_keys=True, ensure_ascii=False))
            check(key not in seen, number, line, 'a sample twice')
            seen.add(key)
            print(*key, found.group(3))


main()
