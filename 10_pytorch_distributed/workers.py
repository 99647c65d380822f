"""The workers of a run: how they find each other, how they check that all of them run
the same, how one of them reports an error for all, and how a worker that hangs is
found. They exchange short messages through a store, a table of keys and values that
one process keeps and all workers can read and write."""

import contextlib
import hashlib
import json
import os
import signal
import sys
import threading
import time
import uuid
from datetime import timedelta
from types import SimpleNamespace

from microgpt import InputError, visible

import torch.distributed as dist

# ---------------------------------------------------------------- Rendezvous


def is_first(variable):
    """Whether this worker is number 0, also where the variable is missing."""
    return os.environ.get(variable, "0").lstrip("0") == ""


def read_environment():
    """The number of this worker, how many there are, and where the store is: from the
    environment variables that torchrun sets."""
    number = {"RANK": 0, "WORLD_SIZE": 0, "LOCAL_RANK": 0, "MASTER_PORT": 0}
    for name in [*number, "MASTER_ADDR"]:
        text = os.environ.get(name, "")
        if not text:
            command = "`torchrun --nproc-per-node 2 main.py`"
            raise InputError(f"{name} is not set: start the program with {command}")
        if name in number:
            if not text.isdecimal():
                raise InputError(f"{name} is {text!r}: it must be a number")
            number[name] = int(text)
    me = SimpleNamespace(rank=number["RANK"], world=number["WORLD_SIZE"])
    if me.rank >= me.world:
        raise InputError(f"RANK is {me.rank}: it must be below WORLD_SIZE, {me.world}")
    me.host, me.port = os.environ["MASTER_ADDR"], number["MASTER_PORT"]
    if me.port > 65535:
        raise InputError(f"MASTER_PORT is {me.port}: it must be at most 65535")
    return me


def rendezvous(me, timeout):
    """Wait until all workers have connected to one store. -> the store"""
    problem = f"cannot use the workers' store at {me.host}:{me.port}"
    # PyTorch has no limit for a server that accepts a connection and never answers
    silent = f"{problem}: it does not answer"
    alarm = threading.Timer(2 * timeout + 5, exit_together, (me, None, silent))
    alarm.daemon = True
    alarm.start()
    try:
        # torchrun may keep the store itself; otherwise worker 0 keeps it
        by_torchrun = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        store = dist.TCPStore(
            me.host, me.port, me.world, is_master=me.rank == 0 and not by_torchrun,
            timeout=timedelta(seconds=timeout), wait_for_workers=False,
        )  # fmt: skip
        return store_of_this_start(store, me, timeout)
    except (RuntimeError, ValueError, OSError) as e:
        reason = " ".join(str(e).split("\n")[0].split())[:200]
        raise InputError(f"{problem}: {reason}") from None
    finally:
        alarm.cancel()


def store_of_this_start(store, me, timeout):
    """The part of the store that belongs to this start of the workers.

    After a restart, torchrun's store still holds what the ended workers wrote. So each
    worker writes a new random token, and worker 0 writes the list of all tokens. Every
    worker that finds its own token in the list confirms that list. The list is valid
    when all workers have confirmed it; its digest is then the prefix of all keys."""
    token, listed, confirmed = uuid.uuid4().hex, None, []
    store.set(f"token/{me.rank}", token)
    keys = [f"token/{rank}" for rank in range(me.world)]
    # worker 0 has the shortest limit, because it knows which workers are missing
    deadline = time.monotonic() + timeout + 3 * (me.rank > 0)
    while time.monotonic() < deadline:
        if me.rank == 0:
            here = [store.check([key]) for key in keys]
            tokens = [store.get(k).decode() if h else "" for k, h in zip(keys, here)]
            if tokens != listed:
                listed = tokens
                store.set("list", json.dumps(tokens))
        if store.check(["list"]) and token in (now := json.loads(store.get("list"))):
            prefix = short_digest(now)
            store.set(f"{prefix}/confirmed/{me.rank}", "")
            confirmed = [f"{prefix}/confirmed/{rank}" for rank in range(me.world)]
            if me.rank == 0 and store.check(confirmed):
                store.set(f"{prefix}/complete", "")
            if store.check([f"{prefix}/complete"]):
                return dist.PrefixStore(prefix, store)
        time.sleep(0.02)
    missing = {0}
    if me.rank == 0:
        missing = {rank for rank, key in enumerate(confirmed) if not store.check([key])}
    me.reports = me.rank == (0 if 0 not in missing else 1)
    raise InputError(not_in_time(me, missing, timeout))


def not_in_time(me, missing, timeout):
    """The message for workers that have not come."""
    who = f"{list_workers(missing)} of {me.world}"
    return f"{who} did not start within {timeout:g} seconds (--timeout)"


# ---------------------------------------------------------------- Data and settings


def short_digest(value):
    """The first 12 digits of the SHA-256 of a value, written as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def list_workers(ranks):
    """{2, 1} -> "workers 1, 2" """
    ranks = sorted(ranks)
    return f"worker{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"


def agree(store, me, mine, timeout):
    """Raise InputError unless all workers are here, without an error of their own, and
    have the same data and settings.
    mine: {"error": message} or {"data": digest, "settings": {name: value}}"""
    store.set(f"mine/{me.rank}", json.dumps(mine))
    found, deadline = {me.rank: mine}, time.monotonic() + timeout
    for rank in set(range(me.world)) - {me.rank}:
        left = max(0.01, deadline - time.monotonic())
        with contextlib.suppress(RuntimeError):  # it was not here in time
            store.wait([f"mine/{rank}"], timedelta(seconds=left))
            found[rank] = json.loads(store.get(f"mine/{rank}"))
    me.reports = me.rank == min(found)
    if wrong := [rank for rank in found if "error" in found[rank]]:
        who = "" if wrong[0] == 0 else f"worker {wrong[0]}: "
        raise InputError(who + found[wrong[0]]["error"])
    if missing := set(range(me.world)) - set(found):
        raise InputError(not_in_time(me, missing, timeout))
    refuse_other_data(found)
    refuse_other_settings(found)


def refuse_other_data(found):
    want = found[0]["data"]
    if other := [rank for rank in found if found[rank]["data"] != want]:
        got = found[other[0]]["data"]
        raise InputError(
            f"{list_workers(other)} found other data (SHA-256 {got[:12]}…) than worker "
            f"0 ({want[:12]}…): give all workers the same documents"
        )


def refuse_other_settings(found):
    want = found[0]["settings"]
    if other := [rank for rank in found if found[rank]["settings"] != want]:
        got = found[other[0]]["settings"]
        name = next(name for name in want if got.get(name) != want[name])
        raise InputError(
            f"{list_workers(other)} got {name} {got.get(name)} (settings "
            f"{short_digest(got)}), worker 0 got {name} {want[name]} (settings "
            f"{short_digest(want)}): give all workers the same options"
        )


# ---------------------------------------------------------------- Ending


def exit_together(me, store, error, status=2):
    """End this worker; all workers end with one message and one status. torchrun stops
    every worker as soon as one has failed, so the others wait for the message."""
    status = report_once(me, store, error, status)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    main = threading.current_thread() is threading.main_thread()
    if main and not dist.is_initialized():
        sys.exit(status)
    # not sys.exit: it would wait for threads that wait for a worker that hangs
    os._exit(status)


def report_once(me, store, error, status):
    """Print the error in one worker only. -> the status that all workers end with"""
    if store is None:  # no rendezvous yet: each machine decides by itself
        if me.reports:
            print(f"error: {visible(error)}", file=sys.stderr, flush=True)
        time.sleep(0 if me.reports else 2)
        return status
    try:
        if me.reports and not store.check(["reported"]):
            print(f"error: {visible(error)}", file=sys.stderr, flush=True)
            store.set("reported", str(status))
            # the store may end with this worker, so the others read from it first
            others = [f"left/{rank}" for rank in range(me.world) if rank != me.rank]
            store.wait(others, timedelta(seconds=2))
        else:
            with contextlib.suppress(RuntimeError):
                store.wait(["reported"], timedelta(seconds=5))
            if not store.check(["reported"]) and store.add("reporter", 1) == 1:
                # the worker that should report hangs, or has met no error
                print(f"error: worker {me.rank}: {error}", file=sys.stderr, flush=True)
                store.set("reported", str(status))
            status = int(store.get("reported"))
            store.set(f"left/{me.rank}", "")
    except RuntimeError:
        pass  # a worker hangs, or the process that keeps the store has ended
    return status


kept_alive = []  # objects that must live until the process ends


def leave_group(state):
    """Leave the process group. When PyTorch frees a group, it waits for gloo's threads
    and holds Python's lock (GIL) meanwhile. One of these threads may need that lock, so
    both would wait for ever. So they get time first, and the group and the state, which
    uses it, are freed only when the process ends."""
    time.sleep(0.1)
    kept_alive.append((dist.group.WORLD, state))
    dist.destroy_process_group()


# ---------------------------------------------------------------- Workers that hang


class Watch(threading.Thread):
    """A thread in each worker that writes the worker's progress into the store. If the
    worker makes no progress for `timeout` seconds, the thread compares it with the
    others, and ends the run with the numbers of the workers that are behind or silent.
    """

    def __init__(self, store, me, timeout):
        super().__init__(daemon=True)
        self.store, self.me, self.timeout = store, me, timeout
        self.marks, self.beats, self.where = 0, 0, "the start"
        self.over = threading.Event()
        self.write()

    def mark(self, where):
        """Count progress: the worker is about to wait for the others at this place."""
        self.marks, self.where = self.marks + 1, where

    def write(self):
        """Write this worker's progress. `beats` grows each time, so the others see that
        this process is alive."""
        self.beats += 1
        text = json.dumps([self.marks, self.beats, self.where])
        self.store.set(f"progress/{self.me.rank}", text)

    def read_all(self):
        """[marks, beats, where] of each worker"""
        keys = [f"progress/{rank}" for rank in range(self.me.world)]
        return [json.loads(text) for text in self.store.multi_get(keys)]

    def run(self):
        seen, since, pause = -1, 0.0, min(1.0, self.timeout / 10)
        while not self.over.wait(pause):
            if self.marks != seen:
                seen, since = self.marks, time.monotonic()
            try:
                self.write()
                if time.monotonic() - since > self.timeout:
                    self.find_late_workers(pause)
            except RuntimeError:
                return  # no store any more: the run has ended, or torchrun ends it

    def find_late_workers(self, pause):
        """Find the workers that are behind or silent. The first worker that notices
        this reports it, and the run ends."""
        before = self.read_all()
        for _ in range(4):
            time.sleep(pause)
            self.write()
        now, mine = self.read_all(), self.me.rank
        if self.over.is_set() or self.marks != before[mine][0]:
            return
        furthest = max(marks for marks, _, _ in now)
        late = [
            rank
            for rank, (was, (marks, beats, _)) in enumerate(zip(before, now))
            if marks < furthest or beats == was[1]
        ]
        self.me.reports = mine not in late and self.store.add("reporter", 1) == 1
        what = f"{list_workers(late)} did not reach" if late else "no worker got past"
        limit = f"{self.timeout:g} seconds (--timeout)"
        exit_together(self.me, self.store, f"{what} {self.where} within {limit}")


def catch_interrupt():
    """An event that the first Ctrl-C or SIGTERM sets, which torchrun passes on. A
    second one ends the program at once, as usual."""
    pressed, usual = threading.Event(), {}

    def stop(number, _):
        pressed.set()
        signal.signal(number, usual[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # it is ignored under nohup
            usual[number] = signal.signal(number, stop)
    return pressed
