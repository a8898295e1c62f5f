#!/usr/bin/env python3
"""session.py - how long after kill -9 of a worker the messages its session held are ready again.

    tests/bench/session.py [BUILD [ROUNDS]]        BUILD: the build directory (build); ROUNDS: 50

A fresh store is mounted. In each round a shell opens the session of a consumer, is given all messages of the queue, starts a
child that keeps the descriptor, and is killed; from the kill on the size of ready/ is asked for until it has all of them. With 1 and
with 1000 messages. Prints median and maximum in milliseconds. Needs root."""
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

BUILD = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else 'build').resolve()
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 50
WORKER = 'exec 9>session; cat out >/dev/null; sleep 60 & echo $!; exec sleep 60'


def round_ms(queue, count):
    worker = subprocess.Popen(['bash', '-c', WORKER], cwd=queue / 'consumers/w', stdout=subprocess.PIPE, text=True)
    child = int(worker.stdout.readline())
    ready = os.path.join(queue, 'ready')
    assert os.stat(ready).st_size == 0
    began = time.perf_counter()
    os.kill(worker.pid, signal.SIGKILL)
    while os.stat(ready).st_size != count:
        pass
    took = (time.perf_counter() - began) * 1000
    os.kill(child, signal.SIGKILL)
    worker.wait()
    worker.stdout.close()
    return took


def measure(mount, count):
    queue = mount / f'queues/q{count}'
    (queue / 'consumers/w').mkdir(parents=True)
    (queue / 'config/prefetch').write_text('0\n')
    (queue / 'config/delivery.limit').write_text('-1\n')
    with open(queue / 'in', 'w') as channel:
        channel.writelines(f'{i}\n' for i in range(count))
    times = [round_ms(queue, count) for _ in range(ROUNDS)]
    print(f'| {count} | {ROUNDS} | {statistics.median(times):.2f} | {max(times):.2f} |', flush=True)


def main():
    with tempfile.TemporaryDirectory(prefix='mqfs-bench.') as directory:
        store, mount = pathlib.Path(directory, 'store'), pathlib.Path(directory, 'mq')
        mount.mkdir()
        subprocess.run([BUILD / 'mqfs', store, mount], check=True)
        daemon = (store / 'lock').read_text().strip()
        try:
            print('| messages held | rounds | median, ms | maximum, ms |\n|---|---|---|---|')
            for count in (1, 1000):
                measure(mount, count)
        finally:
            subprocess.run(['umount', mount], check=True)
            while os.path.exists(f'/proc/{daemon}'):
                time.sleep(0.01)


main()
