#!/usr/bin/env python3
"""report.py - tables, targets and pictures of what peers.sh and scale.sh measured.

    tests/bench/report.py peers|scale DIR

DIR/raw has a figure a line, WORK|METRIC|CONTESTANT|VALUE or CURVE|POINT|COLUMN|VALUE; DIR/about has NAME|TEXT. The report is
printed and written to DIR/report.md or DIR/scale.md, the picture to DIR/peers.svg or DIR/scale.svg. Figures are medians; a ratio is
that of two medians."""
import collections
import html
import math
import os
import statistics
import sys

RATE, P50, P99 = 'rate', 'p50', 'p99'
UNITS = {RATE: 'messages/s', P50: 'p50, µs', P99: 'p99, µs', 'first': 'messages/s, first time', 'again': 'messages/s, second time'}
FAST_IS_LOW = (P50, P99)
BUSY_LOAD = 0.7  # at the start, of which what was built or installed just before leaves a little
OURS = 'mqfs'
WORKS = {
    'produce': ('W1: one write(2) a message, one producer', 'One at a time, not answered one by one where a peer can have more on their way: '
                'a thousand LPUSH, 500 put, 2000 unconfirmed messages.'),
    'batch': ('W1: in bulk, one producer', 'Writes of 64 KiB; LPUSH of a hundred values, pipelined; Kafka makes batches by itself.'),
    'producers': ('W1: four producers at once', 'As the first, in four processes on one topic or queue.'),
    'answered': ('W2: each message answered', 'The next is sent when the one before was taken. mqfs: `linger.ms` 0.'),
    'durable': ('W3: each message durable, one producer', 'On the disk before the answer: O_DSYNC, appendfsync always, -f0, a confirm.'),
    'durable-producers': ('W3: each message durable, eight producers', 'The same, in eight processes.'),
    'consume': ('W4: consume in bulk', '`out` of a group in reads of 1 MiB; RPOP of a thousand; no acknowledgement where there is a choice.'),
    'log': ('W4: read a whole log', '`log` of a new topic in reads of 1 MiB, twice.'),
    'settle': ('W5: deliver and acknowledge one by one', 'Over open files: a read of `stream` and a write of `ack`; LMOVE and LREM; reserve '
               'and delete; prefetch 1; fetch 1 and an ack that is awaited; poll and commit; a file: a read, and the offset to another.'),
    'settle-all': ('W5: deliver and acknowledge in bulk', 'A read of 1 MiB, and one ack of all or of a range; XREADGROUP and XACK of a thousand; '
                   '500 reserve and delete on their way; ack of 500 with `multiple`; NATS: fetch a thousand, acks not awaited.'),
    'wait': ('W6: from a producer to a consumer that waits', 'In read(2) of `stream`, `linger.ms` 0 (lingering: 5, where inotify tells of a message; a queue: each is acknowledged, by who takes it or by `auto.ack`); BRPOP; reserve; a file: inotify.'),
    'shell': ('W7: from a loop of a shell', '`echo >>` in bash, and what a shell would call for the others: redis-cli, amqp-publish, a client '
              'of NATS, the protocol of beanstalkd through /dev/tcp.'),
    'lifecycle': ('A life: produce, deliver, acknowledge, all in bulk', 'A queue; for Redis a stream with a group.'),
}


def medians(rows):
    """{(first, second): {third: [values]}} in the order of the file."""
    found = collections.OrderedDict()
    for first, second, third, value in rows:
        found.setdefault((first, second), collections.OrderedDict()).setdefault(third, []).append(float(value))
    return found


def short(value):
    for limit, unit in ((1e6, ' M'), (1e3, ' k')):
        if value >= limit:
            return f'{value / limit:.3g}{unit}' if value < 100 * limit else f'{value / limit:.0f}{unit}'
    return f'{value:.3g}' if value < 100 else f'{value:.0f}'


def plain(ratio):
    """Two digits that count, without an exponent."""
    return f'{ratio:.0f}' if ratio >= 10 else f'{ratio:.1f}' if ratio >= 1 else f'{ratio:.2g}'


class Figures:
    def __init__(self, rows):
        self.rows = medians(rows)

    def median(self, work, metric, contestant):
        values = self.rows.get((work, metric), {}).get(contestant)
        return statistics.median(values) if values else None

    def ratio(self, work, metric, over, ours=OURS, over_work=None):
        mine, other = self.median(work, metric, ours), self.median(over_work or work, metric, over)
        return None if mine is None or other is None else mine / other


def targets(figures):
    """(work, what, value, bound, whether more is better) of each target of mqfs; the value is None where nothing was measured."""
    def ratio(work, over, bound, metric=RATE, ours=OURS):
        return work, f'{ours} / {over}' + ('' if metric == RATE else f', {UNITS[metric]}'), figures.ratio(work, metric, over, ours), bound, \
            metric not in FAST_IS_LOW

    def bulk(work, rate):
        """A rate, or a third of the plain file's: the value is how far the nearer of both is reached."""
        mine, third = figures.median(work, RATE, OURS), figures.ratio(work, RATE, 'plain file')
        reached = None if mine is None or third is None else max(mine / rate, third * 3)
        return work, f'of {rate / 1e6:.0f} M/s or a third of the plain file, the nearer', reached, 1, True

    yield ratio('produce', 'plain file', 0.6)
    yield ratio('produce', 'redis', 1)
    yield bulk('batch', 7e6)
    yield ratio('batch', 'kafka', 2)
    yield 'producers', 'four producers / one', figures.ratio('producers', RATE, OURS, over_work='produce'), 1, True
    yield ratio('answered', 'redis', 2.5)
    yield 'answered', 'mqfs, p50, µs', figures.median('answered', P50, OURS), 25, False
    yield ratio('durable', 'beanstalkd', 1.1)
    yield ratio('durable', 'redis', 1.4)
    yield ratio('durable-producers', 'redis', 1.1)
    yield 'durable-producers', 'eight producers / one', figures.ratio('durable-producers', RATE, OURS, over_work='durable'), 3, True
    yield bulk('consume', 15e6)
    yield ratio('log', 'plain file', 0.9, 'again')
    yield ratio('settle', 'redis', 1.8)
    yield ratio('settle', 'beanstalkd', 2.5)
    yield ratio('settle', 'rabbitmq', 2.5)
    yield ratio('settle-all', 'nats', 10, ours='mqfs, ranges of ids (stream.json)')
    for ours in (OURS, 'mqfs, queue', 'mqfs, queue, auto.ack'):
        yield ratio('wait', 'redis', 0.5, P50, ours)
        yield ratio('wait', 'redis', 1, P99, ours)
    yield ratio('shell', 'plain file', 1 / 3)
    yield ratio('shell', 'redis', 40)
    yield ratio('lifecycle', 'rabbitmq', 5)
    yield ratio('lifecycle', 'beanstalkd', 2)


def verdict(value, bound, more):
    if value is None:
        return 'not measured'
    if value >= bound if more else value <= bound:
        return 'met'
    return f'missed by {abs(value / bound - 1) * 100:.0f} %'


def header(about):
    named = collections.OrderedDict()
    for name, text in about:
        named.setdefault(name, []).append(text)
    yield f"Measured {named['date'][0]} on {named['machine'][0]}; load at the start {named['load'][0]}; rounds: {named['rounds'][0]}."
    if float(named['load'][0]) > BUSY_LOAD:
        yield '**Something else was running: these figures are not to be quoted.**'
    yield ''
    for name, texts in named.items():
        if name in ('left out', 'failed'):
            yield f"- **{name}:** {'; '.join(collections.OrderedDict.fromkeys(texts))}"
        elif name not in ('date', 'machine', 'load', 'rounds'):
            yield f'- {texts[0]}' if name.split()[0] in texts[0].lower() else f'- {name}: {texts[0]}'
    yield ''


def summary(figures):
    """The table that the README quotes: a line a work, with how many times as fast mqfs is as each contestant."""
    others = list(collections.OrderedDict.fromkeys(who for row in figures.rows.values() for who in row if not who.startswith(OURS)))
    yield '| | mqfs | ' + ' | '.join(f'× {who}' for who in others) + ' |'
    yield '|---|---:|' + '---:|' * len(others)
    for (work, metric), row in figures.rows.items():
        if OURS not in row or metric == P99 and work != 'wait':
            continue
        cells = []
        for who in others:
            ratio = figures.ratio(work, metric, who)
            cells.append('' if ratio is None else plain(1 / ratio if metric in FAST_IS_LOW else ratio))
        what = '' if metric == RATE else f' ({UNITS[metric]})'
        yield f'| {WORKS[work][0]}{what} | {short(figures.median(work, metric, OURS))} | ' + ' | '.join(cells) + ' |'
    yield ''


def target_table(figures):
    yield '| target | | wanted | measured | |'
    yield '|---|---|---:|---:|---|'
    for work, what, value, bound, more in targets(figures):
        if any(key[0] == work for key in figures.rows):
            measured = '' if value is None else plain(value)
            yield f"| {WORKS[work][0]} | {what} | {'≥' if more else '≤'} {bound:.3g} | {measured} | {verdict(value, bound, more)} |"
    yield ''


def work_tables(figures):
    for work, (title, text) in WORKS.items():
        metrics = [key[1] for key in figures.rows if key[0] == work]
        if not metrics:
            continue
        yield from (f'### {title}', '', text, '', '| | | min | median | max | mqfs / it |', '|---|---|---:|---:|---:|---:|')
        for metric in metrics:
            for who, values in figures.rows[work, metric].items():
                ratio = figures.ratio(work, metric, who)
                cells = (short(min(values)), short(statistics.median(values)), short(max(values)), '' if ratio is None else plain(ratio))
                yield f'| {who} | {UNITS[metric]} | ' + ' | '.join(cells) + ' |'
        yield ''


STYLE = ('<style>text{font:12px sans-serif;fill:#222}.t{font-weight:bold}.m{font-size:10px;fill:#666}.g{stroke:#ddd}'
         '.o{fill:#2a7ab8}.p{fill:#b9c3cc}</style>')
COLOURS = ('#2a7ab8', '#d9822b', '#3d9950', '#a23b72')


def svg(width, height, body):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">{STYLE}'
            f'<rect width="{width}" height="{height}" fill="#fff"/>' + ''.join(body) + '</svg>\n')


def text(x, y, what, css='', anchor='start'):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{html.escape(what)}</text>'


def bars(x, y, width, title, unit, row, left=130):
    """A panel of horizontal bars on a logarithmic scale, with a line a decade; returns its SVG and its height."""
    named = [(who, statistics.median(values)) for who, values in row.items()]
    low = math.floor(math.log10(min(value for _, value in named)) - 0.3)
    high = math.log10(max(value for _, value in named)) + 0.1
    room, step = width - left - 60, 20
    bottom = y + 40 + step * len(named)

    def at(value):
        return x + left + room * (math.log10(value) - low) / (high - low)

    body = [text(x, y + 14, title, 't'), text(x, y + 29, f'median, {unit}, logarithmic', 'm')]
    for decade in range(low, math.floor(high) + 1):
        body.append(f'<line class="g" x1="{at(10 ** decade):.1f}" x2="{at(10 ** decade):.1f}" y1="{y + 36}" y2="{bottom}"/>')
        body.append(text(at(10 ** decade), bottom + 11, short(10 ** decade), 'm', 'middle'))
    for i, (who, value) in enumerate(named):
        top = y + 40 + step * i
        body.append(text(x + left - 6, top + 12, who.split(' (')[0].replace('ranges of ids', 'ranges'), '', 'end'))
        body.append(f'<rect class="{"o" if who.startswith(OURS) else "p"}" x="{x + left}" y="{top}" width="{at(value) - x - left:.1f}" height="{step - 5}"/>')
        body.append(text(at(value) + 4, top + 12, short(value)))
    return body, bottom + 30 - y


def grid(panels, width):
    """Panels in two columns, each where there is most room."""
    heights, body = [10, 10], []
    for panel in panels:
        column = heights.index(min(heights))
        drawn, height = panel(10 + column * width, heights[column])
        heights[column] += height
        body += drawn
    return svg(2 * width, max(heights), body)


def peers_picture(figures):
    wanted = [(work, metric) for work in WORKS for metric in (RATE, 'again', P50) if (work, metric) in figures.rows
              and (metric != P50 or work == 'wait')]
    return grid([lambda x, y, key=key: bars(x, y, 480, WORKS[key[0]][0], UNITS[key[1]], figures.rows[key]) for key in wanted], 500)


CURVES = {
    'waiting': 'messages that wait in a queue', 'backlog': 'messages that wait in a topic', 'topics': 'topics', 'groups': 'groups of the topic', 'partitions': 'partitions',
    'size': 'bytes a message', 'mount': 'what is in the store',
}
MEMORY, MEMORY_LIMIT_MIB = 'private memory, MiB', 64
RATES = ('MB/s',)
REFERENCE = 'plain files'


def scale_table(curve, points):
    columns = list(collections.OrderedDict.fromkeys(column for row in points.values() for column in row))
    yield from (f"### {'A mount, by' if curve == 'mount' else 'By'} {CURVES[curve]}", '', f'| {CURVES[curve]} | ' + ' | '.join(columns) + ' |', '|---:|' + '---:|' * len(columns))
    for point, row in points.items():
        cells = [f'{statistics.median(row[column]):.3g}' if column in row else '' for column in columns]
        yield f'| {point} | ' + ' | '.join(cells) + ' |'
    yield ''
    for column in columns:
        values = [statistics.median(row[column]) for row in points.values() if column in row]
        if column == MEMORY:
            yield f'- {column}: at most {max(values):.1f}; wanted below {MEMORY_LIMIT_MIB}: {verdict(max(values), MEMORY_LIMIT_MIB, False)}'
        elif curve == 'mount':
            limit = 10 if 'kill' in column else 1
            yield f'- {column}: at most {max(values):.3g}; wanted with 10 GiB below {limit}: {verdict(max(values), limit, False)}'
        elif len(values) > 1:
            fast_first = column.endswith(RATES)
            worst = values[0] / min(values) if fast_first else max(values) / values[0]
            if column.startswith(REFERENCE):
                yield f'- {column}: the worst is {worst:.2f} times the first; this is what the file system alone does'
                continue
            yield f'- {column}: the worst is {worst:.2f} times the first; wanted at most 1.2: {verdict(worst, 1.2, False)}'
    yield ''


def curve_panel(x, y, curve, points):
    """Lines over a logarithmic x, from zero; memory has its column in the table only. Of mounts, which are of different stores, bars."""
    if curve == 'mount':
        row = {f'{point}, {column.removesuffix(", s")}': values for point, columns in points.items()
               for column, values in columns.items() if column != MEMORY}
        return bars(x, y, 480, 'A mount', 's', row, 280)
    width, height, left = 480, 190, 45
    xs = [float(point) for point in points]
    lines = collections.OrderedDict()
    for point, row in points.items():
        for column, values in row.items():
            if column != MEMORY:
                lines.setdefault(column, []).append((float(point), statistics.median(values)))
    top = 1.15 * max(value for line in lines.values() for _, value in line)
    low, high = math.log10(min(xs)), math.log10(max(xs))
    base, room = y + 30 + height, width - left - 40

    def px(value):
        return x + left + (room * (math.log10(value) - low) / (high - low) if high > low else room / 2)

    def py(value):
        return base - height * value / top

    body = [text(x, y + 14, f'By {CURVES[curve]}', 't')]
    for i in range(5):
        body.append(f'<line class="g" x1="{x + left}" x2="{x + left + room}" y1="{py(top * i / 4):.1f}" y2="{py(top * i / 4):.1f}"/>')
        body.append(text(x + left - 5, py(top * i / 4) + 4, short(top * i / 4), 'm', 'end'))
    for value in xs:
        body.append(text(px(value), base + 13, short(value), 'm', 'middle'))
    for i, (column, line) in enumerate(lines.items()):
        colour = COLOURS[i % len(COLOURS)]
        path = ' '.join(f'{px(at):.1f},{py(value):.1f}' for at, value in line)
        body.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        body += [f'<circle cx="{px(at):.1f}" cy="{py(value):.1f}" r="3" fill="{colour}"/>' for at, value in line]
        body.append(f'<rect x="{x + left}" y="{base + 21 + 15 * i}" width="10" height="10" fill="{colour}"/>')
        body.append(text(x + left + 15, base + 30 + 15 * i, column))
    return body, height + 60 + 15 * len(lines)


def scale_curves(rows):
    curves = collections.OrderedDict()
    for (curve, point), row in medians(rows).items():
        curves.setdefault(curve, collections.OrderedDict())[point] = row
    return curves


def read_rows(path):
    with open(path, encoding='utf-8') as file:
        return [line.rstrip('\n').split('|') for line in file]


def write(path, what):
    with open(path, 'w', encoding='utf-8') as file:
        file.write(what)


def main():
    kind, directory = sys.argv[1], sys.argv[2]
    rows = read_rows(os.path.join(directory, 'raw'))
    lines = list(header(read_rows(os.path.join(directory, 'about'))))
    if kind == 'peers':
        figures = Figures(rows)
        picture = peers_picture(figures)
        lines += ['How many times as fast as each (of a latency: how many times as short):', '', *summary(figures), *target_table(figures)]
        lines += work_tables(figures)
    else:
        curves = scale_curves(rows)
        picture = grid([lambda x, y, curve=curve: curve_panel(x, y, curve, curves[curve]) for curve in curves], 500)
        for curve, points in curves.items():
            lines += scale_table(curve, points)
    report = '\n'.join(lines).rstrip() + '\n'
    write(os.path.join(directory, f'{kind}.svg'), picture)
    write(os.path.join(directory, 'report.md' if kind == 'peers' else 'scale.md'), report)
    sys.stdout.write(report)


main()
