#!/usr/bin/env python3
"""Kills the daemon, again and again, and looks whether what it had answered is so.

    tests/long/kills.py syscalls [--points N] [--seconds S] [--operations N] BUILD    at the n-th call of every system call that
                                                                    changes files, while a script runs (strace -e inject)
    tests/long/kills.py random [--kills N] [--seconds S] [--seed N] BUILD    at any moment, under the load of producers (a topic
                                                                    that lingers, and one that does not), consumers and leases

After each kill the store is mounted again. What a write had accepted is there, once, in order; nothing is there that was not sent;
what an ack had accepted does not come back; a group stands where it was acked. What was being done when the daemon died may
be either. Root, /dev/fuse; syscalls: strace. The last line is: kills-MODE KILLS MESSAGES ACKS VIOLATIONS SEED.
"""
import argparse
import collections
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

CALLS = ["pwrite64", "pwritev", "write", "fdatasync", "fsync", "ftruncate", "fallocate", "renameat", "renameat2", "unlinkat", "openat",
         "mkdirat"]
LIMIT_S = 20


class Violation(Exception):
    pass


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

    def kill(self):
        with open(self.store + "/lock", encoding="ascii") as file:
            os.kill(int(file.read()), signal.SIGKILL)
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


class Told:
    """What the clients were told. Each message is text; in `sent` before the call, in `accepted` when it has returned."""

    def __init__(self):
        self.sent, self.accepted, self.acking, self.acked = {}, {}, set(), set()
        self.group_acking = self.group_acked = 0
        for name in ("direct", "lingers", "jobs"):
            self.sent[name], self.accepted[name] = set(), []


def make_objects(mount):
    for name in ("direct", "lingers"):
        os.mkdir(f"{mount.dir}/topics/{name}")
        put(f"{mount.dir}/topics/{name}/config/segment.bytes", "16384")
    put(f"{mount.dir}/topics/direct/config/linger.ms", "0")
    put(f"{mount.dir}/topics/lingers/config/linger.ms", "50")
    os.mkdir(f"{mount.dir}/topics/direct/groups/g")
    os.mkdir(f"{mount.dir}/queues/jobs")
    for worker in ("w0", "w1"):
        os.mkdir(f"{mount.dir}/queues/jobs/consumers/{worker}")


def put(path, text):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(fd, text.encode() + b"\n")
    finally:
        os.close(fd)


def get(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        parts = []
        while part := os.read(fd, 1 << 20):
            parts.append(part)
        return b"".join(parts).decode()
    finally:
        os.close(fd)


class Producer:
    def __init__(self, mount, told, kind, name, who):
        self.fd = os.open(f"{mount.dir}/{kind}/{name}/in", os.O_WRONLY | os.O_APPEND)
        self.told, self.name, self.who, self.count = told, name, who, 0

    def step(self):
        text = f"{self.who} {self.count} " + "x" * (self.count * 7 % 90)
        self.count += 1
        self.told.sent[self.name].add(text)
        line = text.encode() + b"\n"
        if os.write(self.fd, line) != len(line):
            raise Violation(f"{self.name}: a short write")
        self.told.accepted[self.name].append(text)

    def close(self):
        try:
            os.close(self.fd)
        except OSError:
            pass


class Worker:
    """Leases one message of the queue, and acks it most of the time."""

    def __init__(self, mount, told, name):
        self.dir, self.told, self.count = f"{mount.dir}/queues/jobs/consumers/{name}", told, 0
        try:
            put(self.dir + "/nack", "all")  # what it was given as the daemon died, and has not seen
        except FileNotFoundError:
            pass

    def step(self):
        text = get(self.dir + "/next").rstrip("\n")
        self.count += 1
        if text and text in self.told.acked:
            raise Violation(f"jobs: {text} was acked, and is delivered again")
        if not text:
            return
        self.told.acking.add(text)
        put(self.dir + "/ack", "all")
        self.told.acked.add(text)

    def close(self):
        pass


class Reader:
    """Reads what there is for the group, and acks it."""

    def __init__(self, mount, told):
        self.dir, self.told, self.lines = f"{mount.dir}/topics/direct/groups/g", told, told.group_acked

    def step(self):
        count = get(self.dir + "/out").count("\n")
        self.told.group_acking = self.told.group_acked + count
        put(self.dir + "/ack", "all")
        self.told.group_acked = self.told.group_acking

    def close(self):
        pass


# ---- what must be so afterwards


def check_topic(mount, told, name):
    there = get(f"{mount.dir}/topics/{name}/0/log").splitlines()
    counts = collections.Counter(there)
    for text in told.accepted[name]:
        if counts[text] != 1:
            raise Violation(f"{name}: {text[:40]} was accepted and is there {counts[text]} times")
    last = {}
    for text in there:
        who, number = text.split(" ")[:2]
        if text not in told.sent[name]:
            raise Violation(f"{name}: {text[:40]} was never sent")
        if last.get(who, -1) >= int(number):
            raise Violation(f"{name}: {text[:40]} comes after {last[who]}")
        last[who] = int(number)


def check_queue(mount, told):
    queue, counts = f"{mount.dir}/queues/jobs", collections.Counter()
    for state in ("ready", "unacked"):
        for entry in os.scandir(f"{queue}/{state}"):
            if re.fullmatch(r"[0-9]+", entry.name):
                counts[get(entry.path).rstrip("\n")] += 1
    for text in told.accepted["jobs"]:
        if text not in told.acking and counts[text] != 1:
            raise Violation(f"jobs: {text[:40]} was accepted and is there {counts[text]} times")
    for text, count in counts.items():
        if text in told.acked:
            raise Violation(f"jobs: {text[:40]} was acked and is back")
        if text not in told.sent["jobs"]:
            raise Violation(f"jobs: {text[:40]} was never sent")
        if count != 1:
            raise Violation(f"jobs: {text[:40]} is there {count} times")


def check(mount, told):
    check_topic(mount, told, "direct")
    check_topic(mount, told, "lingers")
    check_queue(mount, told)
    offset = int(get(f"{mount.dir}/topics/direct/groups/g/0/offset"))
    if not told.group_acked <= offset <= told.group_acking:
        raise Violation(f"the group is at {offset}, acked were {told.group_acked} to {told.group_acking}")
    told.group_acked = told.group_acking = offset
    told.acked |= {text for text in told.acking if text not in told.acked and text not in listing(mount)}
    told.acking &= told.acked


def listing(mount):
    found = set()
    for state in ("ready", "unacked"):
        for entry in os.scandir(f"{mount.dir}/queues/jobs/{state}"):
            if entry.name.isdigit():
                found.add(get(entry.path).rstrip("\n"))
    return found


# ---- syscalls


def run_script(mount, told, operations):
    """Some operations of each kind in turn, until all are done or the daemon has died."""
    actors = []
    try:
        make_objects(mount)
        actors = [Producer(mount, told, "topics", "direct", "d"), Producer(mount, told, "topics", "lingers", "l"),
                  Producer(mount, told, "queues", "jobs", "q"), Worker(mount, told, "w0")]
        reader = Reader(mount, told)
        for i in range(operations):
            actors[i % 4].step()
            if i % 97 == 96:
                reader.step()
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
        if os.path.isdir(mount.dir + "/queues/jobs/consumers/w1"):
            check(mount, told)
        totals["kills"] += 1
        totals["messages"] += sum(map(len, told.accepted.values()))
        totals["acks"] += len(told.acked)
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


def load(actor, stop, problems):
    try:
        while not stop.is_set():
            actor.step()
            if actor.__class__ is Worker:
                time.sleep(0.001)
            elif actor.count % 16 == 0:
                time.sleep(0.002)
    except OSError:
        pass
    except Violation as violation:
        problems.append(str(violation))
    finally:
        actor.close()


class SlowReader(Reader):
    count = 1

    def step(self):
        time.sleep(0.02)
        super().step()


def one_kill(mount, told, rng, number):
    stop, problems = threading.Event(), []
    actors = [Producer(mount, told, "topics", "direct", f"d{number}"), Producer(mount, told, "topics", "direct", f"e{number}"),
              Producer(mount, told, "topics", "lingers", f"l{number}"), Producer(mount, told, "queues", "jobs", f"q{number}"),
              Worker(mount, told, "w0"), Worker(mount, told, "w1"), SlowReader(mount, told)]
    threads = [threading.Thread(target=load, args=(actor, stop, problems)) for actor in actors]
    for thread in threads:
        thread.start()
    time.sleep(rng.uniform(0.02, 0.5))
    mount.kill()
    stop.set()
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
        try:
            one_kill(mount, told, rng, totals["kills"])
        except Violation as violation:
            totals["violations"] += 1
            print(f"kill {totals['kills']}: {violation}", file=sys.stderr)
        totals["kills"] += 1
        if totals["kills"] % 10 == 0 or totals["violations"]:
            totals["messages"] += sum(map(len, told.accepted.values()))
            totals["acks"] += len(told.acked)
            mount.close()
            mount = None
    if mount is not None:
        totals["messages"] += sum(map(len, told.accepted.values()))
        totals["acks"] += len(told.acked)
        mount.close()


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
    print(f"kills-{args.mode} {totals['kills']} {totals['messages']} {totals['acks']} {totals['violations']} {args.seed}")
    return 1 if totals["violations"] or not totals["kills"] else 0


sys.exit(main())
