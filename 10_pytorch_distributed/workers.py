"""The workers of a run, before and beside the training: how they meet, how they make
sure that they are at the same work, and how they say who is missing."""

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

from microgpt import InputError

import torch.distributed as dist

# ---------------------------------------------------------------- Meeting


def first(variable):
    """Whether this is worker 0, as far as one can say."""
    return os.environ.get(variable, "0").lstrip("0") == ""


def environment():
    """Who this worker is and where the others are, in the variables of torchrun."""
    number = {"RANK": 0, "WORLD_SIZE": 0, "LOCAL_RANK": 0, "MASTER_PORT": 0}
    for name in [*number, "MASTER_ADDR"]:
        text = os.environ.get(name, "")
        if not text:
            start = "`torchrun --nproc-per-node 2 main.py`"
            raise InputError(f"{name} is not set: start it with {start}")
        if name in number:
            if not text.isdecimal():
                raise InputError(f"{name} is {text!r}: torchrun sets it to a number")
            number[name] = int(text)
    me = SimpleNamespace(rank=number["RANK"], world=number["WORLD_SIZE"])
    if me.rank >= me.world:
        raise InputError(f"RANK is {me.rank}: it must be below WORLD_SIZE, {me.world}")
    me.host, me.port = os.environ["MASTER_ADDR"], number["MASTER_PORT"]
    if me.port > 65535:
        raise InputError(f"MASTER_PORT is {me.port}: it must be at most 65535")
    return me


def meet(me, timeout):
    """A store that all workers of this start reach."""
    where = f"{me.host}:{me.port}"
    silence = f"the workers do not meet at {where}: what is there does not answer"
    # PyTorch waits without end for one who takes the call and says nothing
    alarm = threading.Timer(2 * timeout + 5, leave, (me, None, silence))
    alarm.daemon = True
    alarm.start()
    try:
        limit = timedelta(seconds=timeout)
        kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # by torchrun
        store = dist.TCPStore(
            me.host, me.port, me.world, is_master=me.rank == 0 and not kept,
            timeout=limit, wait_for_workers=False,
        )  # fmt: skip
        return muster(store, me, timeout)
    except (RuntimeError, ValueError, OSError) as e:
        reason = " ".join(str(e).split("\n")[0].split())[:200]
        raise InputError(f"the workers do not meet at {where}: {reason}") from None
    finally:
        alarm.cancel()


def muster(store, me, timeout):
    """The part of a store that belongs to this start. torchrun keeps its store over a
    restart, with all that dead workers have said in it. So each worker shows a token
    that is new, the first one lists them, and a list counts when all in it have
    answered to it."""
    token, listed, answers = uuid.uuid4().hex, None, []
    store.set(f"token/{me.rank}", token)
    keys = [f"token/{rank}" for rank in range(me.world)]
    # the first gives up first, as it knows who is absent
    deadline = time.monotonic() + timeout + 3 * (me.rank > 0)
    while time.monotonic() < deadline:
        if me.rank == 0:
            came = [store.check([key]) for key in keys]
            tokens = [store.get(k).decode() if c else "" for k, c in zip(keys, came)]
            if tokens != listed:
                listed = tokens
                store.set("list", json.dumps(tokens))
        if store.check(["list"]) and token in (now := json.loads(store.get("list"))):
            name = short(now)
            store.set(f"{name}/answer/{me.rank}", "")
            answers = [f"{name}/answer/{rank}" for rank in range(me.world)]
            if me.rank == 0 and store.check(answers):
                store.set(f"{name}/complete", "")
            if store.check([f"{name}/complete"]):
                return dist.PrefixStore(name, store)
        time.sleep(0.02)
    absent = {0}
    if me.rank == 0:
        absent = {r for r, key in enumerate(answers) if not store.check([key])}
    me.speaks = me.rank == (0 if 0 not in absent else 1)
    raise InputError(not_in_time(me, absent, timeout))


def not_in_time(me, absent, timeout):
    who = f"{plural(absent)} of {me.world}"
    return f"{who} did not come within {timeout:g} seconds (--timeout)"


# ---------------------------------------------------------------- Agreeing


def short(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def plural(ranks):
    ranks = sorted(ranks)
    return f"worker{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"


def agree(store, me, mine, timeout):
    """Refuse to start unless all workers have come, with the same data and settings.
    mine: {"error": what is wrong here} or {"data": its digest, "settings": {…}}."""
    store.set(f"came/{me.rank}", json.dumps(mine))
    came, deadline = {me.rank: mine}, time.monotonic() + timeout
    for rank in set(range(me.world)) - {me.rank}:
        left = max(0.01, deadline - time.monotonic())
        try:
            store.wait([f"came/{rank}"], timedelta(seconds=left))
            came[rank] = json.loads(store.get(f"came/{rank}"))
        except RuntimeError:
            pass
    me.speaks = me.rank == min(came)
    if wrong := [rank for rank in came if "error" in came[rank]]:
        about = "" if wrong[0] == 0 else f"worker {wrong[0]}: "
        raise InputError(about + came[wrong[0]]["error"])
    if absent := set(range(me.world)) - set(came):
        raise InputError(not_in_time(me, absent, timeout))
    first = came[0]
    if other := [rank for rank in came if came[rank]["data"] != first["data"]]:
        theirs = came[other[0]]["data"][:12]
        raise InputError(
            f"{plural(other)} came with other data, SHA-256 {theirs}…, than worker 0, "
            f"{first['data'][:12]}…: give all of them the same"
        )
    want = first["settings"]
    if other := [rank for rank in came if came[rank]["settings"] != want]:
        got = came[other[0]]["settings"]
        name = next(name for name in want if got.get(name) != want[name])
        raise InputError(
            f"{plural(other)} came with another recipe, {short(got)} ({name} "
            f"{got.get(name)}), than worker 0, {short(want)} ({name} {want[name]})"
        )


def leave(me, store, error, status=2):
    """End, with one line and one status for all workers. torchrun ends everyone as soon
    as one of them has failed, so the others wait until that line is out."""
    status = say_why(me, store, error, status)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    main = threading.current_thread() is threading.main_thread()
    if main and not dist.is_initialized():
        sys.exit(status)
    os._exit(status)  # threads that talk to a worker that hangs would be waited for


def say_why(me, store, error, status):
    """Say it once, for all. -> the status that all end with"""
    if store is None:  # they have not even met
        if me.speaks:
            print(f"error: {error}", file=sys.stderr, flush=True)
        time.sleep(0 if me.speaks else 2)
        return status
    try:
        if me.speaks and not store.check(["said"]):
            print(f"error: {error}", file=sys.stderr, flush=True)
            store.set("said", str(status))
            others = [f"left/{rank}" for rank in range(me.world) if rank != me.rank]
            store.wait(others, timedelta(seconds=2))  # the store may end with this one
        else:
            with contextlib.suppress(RuntimeError):
                store.wait(["said"], timedelta(seconds=5))
            if not store.check(["said"]) and store.add("speaker", 1) == 1:
                # the first one hangs, or all is well with it
                print(f"error: worker {me.rank}: {error}", file=sys.stderr, flush=True)
                store.set("said", str(status))
            status = int(store.get("said"))
            store.set(f"left/{me.rank}", "")
    except RuntimeError:
        pass  # somebody hangs, or the store has gone, and with it whoever kept it
    return status


kept = []


def part(state):
    """Leave the group. PyTorch waits for gloo's threads where it frees a group, with
    Python's lock held, for which one of them may be waiting: that would be for ever.
    So they get the lock first, and the group and who uses it stay until the end."""
    time.sleep(0.1)
    kept.append((dist.group.WORLD, state))
    dist.destroy_process_group()


# ---------------------------------------------------------------- Watching


class Watch(threading.Thread):
    """A thread in each worker that tells the store how far the worker has come. If it
    has come no further for a while, it looks how far the others are, and ends the run
    with the names of those who are behind or tell nothing any more."""

    def __init__(self, store, me, timeout):
        super().__init__(daemon=True)
        self.store, self.me, self.timeout = store, me, timeout
        self.marks, self.beats, self.where = 0, 0, "the start"
        self.over = threading.Event()
        self.tell()

    def mark(self, where):
        """The worker is about to meet the others."""
        self.marks, self.where = self.marks + 1, where

    def tell(self):
        self.beats += 1
        text = json.dumps([self.marks, self.beats, self.where])
        self.store.set(f"at/{self.me.rank}", text)

    def look(self):
        keys = [f"at/{rank}" for rank in range(self.me.world)]
        return [json.loads(text) for text in self.store.multi_get(keys)]

    def run(self):
        seen, since, pause = -1, 0.0, min(1.0, self.timeout / 10)
        while not self.over.wait(pause):
            if self.marks != seen:
                seen, since = self.marks, time.monotonic()
            try:
                self.tell()
                if time.monotonic() - since > self.timeout:
                    self.call_the_roll(pause)
            except RuntimeError:
                return  # the store has gone: the run is over, or torchrun ends it

    def call_the_roll(self, pause):
        """Who is behind, or says nothing? The first worker that knows speaks."""
        before = self.look()
        for _ in range(4):
            time.sleep(pause)
            self.tell()
        now, mine = self.look(), self.me.rank
        if self.over.is_set() or self.marks != before[mine][0]:
            return
        furthest = max(marks for marks, _, _ in now)
        late = [
            rank
            for rank, (was, (marks, beats, _)) in enumerate(zip(before, now))
            if marks < furthest or beats == was[1]
        ]
        self.me.speaks = mine not in late and self.store.add("speaker", 1) == 1
        what = f"{plural(late)} did not come" if late else "no worker comes further"
        how_long = f"the others have waited for {self.timeout:g} seconds"
        leave(self.me, self.store, f"{what} to {self.where}: {how_long}")


def until_pressed():
    """An event that the first Ctrl-C sets; the next one leaves, as usual."""
    pressed, usual = threading.Event(), signal.getsignal(signal.SIGINT)

    def stop(*_):
        pressed.set()
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, stop)
    return pressed
