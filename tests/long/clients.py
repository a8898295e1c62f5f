"""The clients of kills.py: what each does in a step, what all of them were told, and what must be so after a kill.

Producers of topics: past the daemon through a staging file where the kernel can (a topic that lingers), and through the daemon
(O_SYNC, in.json, and a topic with linger.ms 0). Producers of a queue; workers, which lease and ack; a reader, which acks for a group; a
transactor, which leases, and in one transaction acks that, moves a group and produces to a topic and to the queue: and commits it, or not.
"""
import collections
import json
import os
import re


class Violation(Exception):
    pass


class Told:
    """What the clients were told. Each message is text; in `sent` before the call, in `accepted` when it has returned."""

    def __init__(self):
        self.sent, self.accepted, self.acking, self.acked = {}, {}, set(), set()
        self.groups = {name: [0, 0] for name in ("g", "h")}  # acked, and being acked
        self.commits, self.counts, self.committing = [], collections.Counter(), None
        for name in ("direct", "lingers", "results", "jobs"):
            self.sent[name], self.accepted[name] = set(), []


def make_objects(mount):
    for name in ("direct", "lingers", "results"):
        os.mkdir(f"{mount.dir}/topics/{name}")
        put(f"{mount.dir}/topics/{name}/config/segment.bytes", "16384")
    put(f"{mount.dir}/topics/direct/config/linger.ms", "0")
    put(f"{mount.dir}/topics/lingers/config/linger.ms", "50")
    for group in ("g", "h"):
        os.mkdir(f"{mount.dir}/topics/direct/groups/{group}")
    os.mkdir(f"{mount.dir}/queues/jobs")
    for worker in ("w0", "w1", "tx"):
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
    def __init__(self, mount, told, path, who, flags=0):
        self.fd = os.open(f"{mount.dir}/{path}", os.O_WRONLY | os.O_APPEND | flags)
        self.told, self.name, self.who, self.count = told, path.split("/")[1], who, 0
        self.is_json = path.endswith(".json")

    def step(self):
        text = f"{self.who} {self.count} " + "x" * (self.count * 7 % 90)
        self.count += 1
        self.told.sent[self.name].add(text)
        line = (json.dumps({"payload": text}) if self.is_json else text).encode() + b"\n"
        if os.write(self.fd, line) != len(line):
            raise Violation(f"{self.name}: a short write")
        self.told.accepted[self.name].append(text)

    def close(self):
        try:
            os.close(self.fd)
        except OSError:
            pass


def producers(mount, told, number):
    """One of each way."""
    return [Producer(mount, told, "topics/direct/in", f"d{number}"), Producer(mount, told, "topics/lingers/in", f"l{number}"),
            Producer(mount, told, "queues/jobs/in", f"q{number}"), Producer(mount, told, "topics/lingers/in", f"s{number}", os.O_SYNC),
            Producer(mount, told, "topics/lingers/in.json", f"j{number}")]


def give_back(consumer):
    """What it was given, and has not settled."""
    try:
        put(consumer + "/nack", "all")
    except FileNotFoundError:
        pass


class Worker:
    """Leases one message of the queue, and acks it."""

    def __init__(self, mount, told, name):
        self.dir, self.told, self.count = f"{mount.dir}/queues/jobs/consumers/{name}", told, 0
        give_back(self.dir)  # what it was given as the daemon died, and has not seen

    def lease(self):
        text = get(self.dir + "/next").rstrip("\n")
        self.count += 1
        if text and text in self.told.acked:
            raise Violation(f"jobs: {text} was acked, and is delivered again")
        return text

    def step(self):
        text = self.lease()
        if text:
            self.told.acking.add(text)
            put(self.dir + "/ack", "all")
            self.told.acked.add(text)

    def close(self):
        pass


class Reader:
    """Reads what there is for the group, and acks it."""

    def __init__(self, mount, told):
        self.dir, self.state, self.count = f"{mount.dir}/topics/direct/groups/g", told.groups["g"], 0

    def step(self):
        count = get(self.dir + "/out").count("\n")
        self.count += 1
        self.state[1] = self.state[0] + count
        put(self.dir + "/ack", "all")
        self.state[0] = self.state[1]

    def close(self):
        pass


class Commit:
    """A transaction whose commit was asked for."""

    def __init__(self, path, texts, leased, group):
        self.path, self.texts, self.leased, self.group = path, texts, leased, group
        self.returned = self.removed = False


class Transactor(Worker):
    def __init__(self, mount, told, who, rng):
        super().__init__(mount, told, "tx")
        self.mount, self.who, self.rng = mount, who, rng

    def stage(self, path):
        """Returns what it does once it is committed."""
        texts, leased, group = [f"{self.who} {self.count}.{i}" for i in range(self.rng.randint(1, 3))], [], None
        os.mkdir(path)
        for text in texts:
            put(f"{path}/topics/results/in", text)
            put(f"{path}/queues/jobs/in", text)
        for _ in range(self.rng.randint(0, 3)):
            if text := self.lease():
                leased.append(text)
        if leased:
            put(f"{path}/queues/jobs/consumers/tx/ack", "all")
        if self.rng.random() < 0.3:
            lines = get(f"{self.mount.dir}/topics/direct/groups/h/out").count("\n")
            group = self.told.groups["h"][0] + lines
            put(f"{path}/topics/direct/groups/h/ack", "all")
        return Commit(path, texts, leased, group)

    def commit(self, commit):
        told = self.told
        for name in ("results", "jobs"):
            told.sent[name].update(commit.texts)
        told.acking.update(commit.leased)
        told.commits.append(commit)
        if told.committing is not None:
            os.write(told.committing, b"x")
        put(commit.path + "/state", "commit")
        commit.returned = True
        for name in ("results", "jobs"):
            told.accepted[name].extend(commit.texts)
        told.acked.update(commit.leased)
        if commit.group is not None:
            told.groups["h"] = [commit.group, commit.group]
        told.counts["committed"] += 1

    def step(self):
        self.count += 1
        path = f"{self.mount.dir}/tx/{self.who}-{self.count}"
        commit, end = self.stage(path), self.rng.random()
        if end < 0.7:
            self.commit(commit)
            if end < 0.35:
                commit.removed = True
                os.rmdir(path)
            return
        if end < 0.85:
            put(path + "/state", "rollback")
        os.rmdir(path)
        give_back(self.dir)
        self.told.counts["rolled back"] += 1


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
        number = [int(part) for part in number.split(".")]
        if last.get(who, [-1]) >= number:
            raise Violation(f"{name}: {text[:40]} comes after {last[who]}")
        last[who] = number
    return set(there)


def listing(mount):
    counts = collections.Counter()
    for state in ("ready", "unacked"):
        for entry in os.scandir(f"{mount.dir}/queues/jobs/{state}"):
            if re.fullmatch(r"[0-9]+", entry.name):
                counts[get(entry.path).rstrip("\n")] += 1
    return counts


def check_queue(told, counts):
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


def state_of(commit):
    try:
        return get(commit.path + "/state").strip()
    except FileNotFoundError:
        return "removed"


def check_commit(told, commit, results, jobs, group):
    """Whole or absent; whole if its write has returned; and its state says which."""
    parts = {text in results for text in commit.texts} | {text in jobs or text in told.acking for text in commit.texts}
    parts |= {text not in jobs for text in commit.leased}
    if commit.group is not None and not commit.returned and commit.group > told.groups["h"][0]:
        parts.add(group == commit.group)
    if len(parts) != 1:
        raise Violation(f"{commit.path}: a part of it is there, returned: {commit.returned}, state {state_of(commit)}")
    whole, state = parts.pop(), state_of(commit)
    if commit.returned and not whole:
        raise Violation(f"{commit.path}: its commit had returned, and nothing of it is there")
    if state != ("committed" if whole else "aborted") and not (commit.removed and state == "removed"):
        raise Violation(f"{commit.path}: whole: {whole}, but its state is {state}")
    return whole


def check_commits(told, results, jobs, group):
    for commit in told.commits:
        whole = check_commit(told, commit, results, jobs, group)
        if commit.returned:
            continue
        told.counts["undecided, whole" if whole else "undecided, absent"] += 1
        if whole and commit.group is not None:
            told.groups["h"] = [commit.group, commit.group]
        for name in ("results", "jobs"):
            if whole:
                told.accepted[name].extend(commit.texts)
            else:
                told.sent[name].difference_update(commit.texts)
    told.commits.clear()


def offset_of(mount, group):
    return int(get(f"{mount.dir}/topics/direct/groups/{group}/0/offset"))


def check(mount, told):
    for name in ("direct", "lingers"):
        check_topic(mount, told, name)
    results, jobs = check_topic(mount, told, "results"), listing(mount)
    check_queue(told, jobs)
    check_commits(told, results, jobs, offset_of(mount, "h"))
    for group in ("g", "h"):
        offset, (acked, acking) = offset_of(mount, group), told.groups[group]
        if not acked <= offset <= acking:
            raise Violation(f"group {group} is at {offset}, acked were {acked} to {acking}")
        told.groups[group] = [offset, offset]
    told.acked |= {text for text in told.acking if text not in jobs}
    told.acking &= told.acked
    for entry in os.scandir(mount.dir + "/tx"):
        os.rmdir(entry.path)
