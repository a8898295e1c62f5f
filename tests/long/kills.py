#!/usr/bin/env python3
"""Kills the daemon, again and again, and looks whether what it had answered is so.

    tests/long/kills.py syscalls [--points N] [--seconds S] [--operations N] BUILD    at the n-th call of every system call that
                                                                    changes files, while a script runs (strace -e inject)
    tests/long/kills.py random [--kills N] [--seconds S] [--seed N] BUILD    at any moment, under the load of producers (by every
                                                                    way), consumers, leases and transactions: clients.py

After each kill the store is mounted again. What a write had accepted is there, once, in order; nothing is there that was not sent;
what an ack had accepted does not come back; a group stands where it was acked. What was being done when the daemon died may
be either; a transaction is there whole, with what it settled, or not at all, and once its commit has returned, it is. Root, /dev/fuse;
syscalls: strace. The last line is: kills-MODE KILLS MESSAGES ACKS COMMITS VIOLATIONS SEED.
"""
import argparse
import collections
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from clients import Producer, Reader, Told, Transactor, Violation, Worker, check, get, make_objects, producers

CALLS = ["pwrite64", "pwritev", "write", "fdatasync", "fsync", "ftruncate", "fallocate", "renameat", "renameat2", "unlinkat", "openat",
         "mkdirat"]
LIMIT_S = 20


def wait_until(check, what):
    end = time.monotonic() + LIMIT_S
    while not check():
        if time.monotonic() > end:
            raise Violation(f"{what}: it did not happen")
        time.sleep(0.005)


class Mount:
    """A store of its own, and the daemon that has it."""

    def __init__(self, program, top):
        self.program = program
        self.top = tempfile.mkdtemp(prefix="mqfs-kills-", dir=top)
        self.store, self.dir = self.top + "/store", self.top + "/mq"
        os.mkdir(self.dir)
        self.process = None
        self.start()

    def start(self, wrapper=()):
        self.process = subprocess.Popen([*wrapper, self.program, "-f", self.store, self.dir], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
        wait_until(lambda: self.answers() or self.process.poll() is not None, "mounting")
        return self.process.poll() is None

    def answers(self):
        try:
            return os.path.isdir(self.dir + "/topics")
        except OSError:
            return False

    def daemon(self):
        with open(self.store + "/lock", encoding="ascii") as file:
            return int(file.read())

    def kill(self):
        os.kill(self.daemon(), signal.SIGKILL)
        self.gone()

    def gone(self):
        self.process.wait(LIMIT_S)
        self.process.stderr.close()
        subprocess.run(["umount", "-l", self.dir], stderr=subprocess.DEVNULL, check=False)

    def close(self):
        if self.process.poll() is None:
            subprocess.run(["umount", self.dir], stderr=subprocess.DEVNULL, check=False)
            try:
                self.process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
        self.gone()
        shutil.rmtree(self.top, ignore_errors=True)


def add_up(totals, told):
    totals["messages"] += sum(map(len, told.accepted.values()))
    totals["acks"] += len(told.acked)
    totals.update(told.counts)


# ---- syscalls


def run_script(mount, told, operations):
    """Some operations of each kind in turn, until all are done or the daemon has died."""
    actors = []
    try:
        make_objects(mount)
        actors = [*producers(mount, told, 0), Worker(mount, told, "w0")]
        others = {97: Reader(mount, told), 53: Transactor(mount, told, "t", random.Random(operations))}
        for i in range(operations):
            actors[i % len(actors)].step()
            for every, actor in others.items():
                if i % every == every - 1:
                    actor.step()
            if i % 301 == 300:
                os.fsync(actors[i % 3].fd)
            if i % 401 == 400:
                os.mkdir(f"{mount.dir}/topics/t{i}")
                if i % 2 == 0:
                    os.rmdir(f"{mount.dir}/topics/t{i}")
    except OSError:
        pass
    finally:
        for actor in actors:
            actor.close()


def count_calls(args):
    """How often a thread of the daemon makes each call in a run of the script."""
    mount = Mount(args.program, args.top)
    mount.close()
    mount = Mount.__new__(Mount)
    mount.program, mount.top = args.program, tempfile.mkdtemp(prefix="mqfs-kills-", dir=args.top)
    mount.store, mount.dir = mount.top + "/store", mount.top + "/mq"
    os.mkdir(mount.dir)
    trace = mount.top + "/trace"
    mount.start(["strace", "-f", "--seccomp-bpf", "-qq", "-o", trace, "-e", "trace=" + ",".join(CALLS)])
    run_script(mount, Told(), args.operations)
    subprocess.run(["umount", mount.dir], check=False)
    mount.process.wait(60)
    counts = collections.Counter()
    with open(trace, encoding="ascii", errors="replace") as file:
        for line in file:
            if match := re.match(r"(\d+) +(\w+)\(", line):
                counts[match[1], match[2]] += 1
    mount.close()
    most = collections.Counter()
    for (_, call), count in counts.items():
        most[call] = max(most[call], count)
    return most


def kill_at(args, call, n, totals):
    told = Told()
    mount = Mount.__new__(Mount)
    mount.program, mount.top = args.program, tempfile.mkdtemp(prefix="mqfs-kills-", dir=args.top)
    mount.store, mount.dir = mount.top + "/store", mount.top + "/mq"
    os.mkdir(mount.dir)
    try:
        if mount.start(["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=" + call, "-e",
                        f"inject={call}:signal=KILL:when={n}"]):
            run_script(mount, told, args.operations)
            if mount.process.poll() is None and mount.answers():
                subprocess.run(["umount", mount.dir], check=False)  # it dies as it ends, or not at all
        mount.gone()
        mount.start()
        if os.path.isdir(mount.dir + "/queues/jobs/consumers/tx"):
            check(mount, told)
        totals["kills"] += 1
        add_up(totals, told)
    finally:
        mount.close()


def syscalls(args, totals):
    most = count_calls(args)
    print("calls of the busiest thread: " + ", ".join(f"{call} {count}" for call, count in most.items()), file=sys.stderr)
    points = [(call, n) for call, count in most.items() for n in range(1, count + 1)]
    share = max(1, args.points // max(1, len(most)))
    if args.points:
        points = [(call, 1 + i * (count - 1) // max(1, min(count, share) - 1)) for call, count in most.items()
                  for i in range(min(count, share))]
    random.Random(args.seed).shuffle(points)
    for call, n in points:
        if time.monotonic() > args.end:
            break
        try:
            kill_at(args, call, n, totals)
        except Violation as violation:
            totals["violations"] += 1
            print(f"{call} {n}: {violation}", file=sys.stderr)


# ---- random


def load(actor, dying, dead, problems):
    """Until the daemon is dead: before it is being killed nothing is refused."""
    try:
        while not dead.is_set():
            actor.step()
            if actor.__class__ is Reader:
                time.sleep(0.02)
            elif actor.__class__ is Worker or getattr(actor, "name", "") == "jobs":
                time.sleep(0.001)
            elif actor.count % 16 == 0:
                time.sleep(0.002)
    except OSError as error:
        if not dying.is_set():
            problems.append(f"{actor.__class__.__name__} {actor.count}: {error}")
    except Violation as violation:
        problems.append(str(violation))
    finally:
        actor.close()


def kill_in_commit(mount, told, rng):
    """Within the first moments of the next commit; by a process of its own, which waits for no thread of this one."""
    reader, writer = os.pipe()
    daemon, delay = mount.daemon(), rng.uniform(0, 0.0015)
    killer = os.fork()
    if killer == 0:
        select.select([reader], [], [], 1)
        time.sleep(delay)
        os.kill(daemon, signal.SIGKILL)
        os._exit(0)
    told.committing = writer
    os.waitpid(killer, 0)
    told.committing = None
    os.close(reader)
    os.close(writer)
    mount.gone()


def one_kill(mount, told, rng, number):
    dying, dead, problems = threading.Event(), threading.Event(), []
    actors = [*producers(mount, told, number), Producer(mount, told, "topics/direct/in", f"e{number}"),
              Worker(mount, told, "w0"), Worker(mount, told, "w1"), Reader(mount, told),
              Transactor(mount, told, f"t{number}", random.Random(rng.random()))]
    threads = [threading.Thread(target=load, args=(actor, dying, dead, problems)) for actor in actors]
    for thread in threads:
        thread.start()
    time.sleep(rng.uniform(0.02, 0.5))
    dying.set()
    if rng.random() < 0.5:
        kill_in_commit(mount, told, rng)
    else:
        mount.kill()
    dead.set()
    for thread in threads:
        thread.join(LIMIT_S)
        if thread.is_alive():
            raise Violation("a client hangs after the daemon's death")
    mount.start()
    check(mount, told)
    if problems:
        raise Violation("; ".join(problems))


def at_random(args, totals):
    rng, mount, told = random.Random(args.seed), None, None
    while totals["kills"] < args.kills and time.monotonic() < args.end:
        if mount is None:
            mount, told = Mount(args.program, args.top), Told()
            make_objects(mount)
            ways = re.search("^producing (.*)", get(mount.dir + "/status/version"), re.M)[1]
        try:
            one_kill(mount, told, rng, totals["kills"])
        except Violation as violation:
            totals["violations"] += 1
            print(f"kill {totals['kills']}: {violation}", file=sys.stderr)
        totals["kills"] += 1
        if totals["kills"] % 10 == 0 or totals["violations"]:
            add_up(totals, told)
            mount.close()
            mount = None
    if mount is not None:
        add_up(totals, told)
        mount.close()
    print("producing: " + ways, file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("mode", choices=["syscalls", "random"])
    parser.add_argument("build", nargs="?", default="build")
    parser.add_argument("--points", type=int, default=0, help="0: all")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--operations", type=int, default=5000)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    args = parser.parse_intermixed_args()
    args.program = os.path.abspath(args.build + "/mqfs")
    args.end = time.monotonic() + args.seconds
    args.top = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    totals = collections.Counter()
    (syscalls if args.mode == "syscalls" else at_random)(args, totals)
    print(f"transactions: {totals['committed']} committed, {totals['rolled back']} rolled back; of those that were being committed as the "
          f"daemon died {totals['undecided, whole']} are there, {totals['undecided, absent']} are not", file=sys.stderr)
    print(f"kills-{args.mode} {totals['kills']} {totals['messages']} {totals['acks']} {totals['committed']} {totals['violations']} {args.seed}")
    return 1 if totals["violations"] or not totals["kills"] else 0


sys.exit(main())
