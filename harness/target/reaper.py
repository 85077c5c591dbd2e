"""The supervisor process: it starts every process of a run and outlives the harness to end them.

It is up before anything else, in a session of its own, a child subreaper, deaf to Ctrl-C. It holds
one end of a socket pair to the harness. When the other end closes, for whatever reason, it kills all
its descendants (by descent and start time, never by name), removes the scratch folder, and ends.

Requests and answers are JSON lines::

    {"id", "op": "spawn", "name", "argv", "env", "cwd", "log"}     -> {"id", "child", "pid"}
    {"id", "op": "signal", "child", "number"}                      -> {"id", "sent"}
    {"id", "op": "kill" | "pause" | "resume", "child"}             -> {"id", "processes"}
    {"id", "op": "will", "argv", "env", "patience_s": {"ended", "died"}} -> {"id"}
    {"id", "op": "revoke", "will"}                                 -> {"id"}      the id of a will
    {"id", "op": "end"}                                            -> {"id", "left"}
    any of them that fails                                         -> {"id", "error"}
    {"event": "exit", "child", "code", "at_ns"}                    when a service and its tree are gone

A will is a command that removes what is not a process (containers). It is run last, with one word more,
``ended`` or ``died``: how the harness went. It prints a JSON list of what it could not remove.

Standard library only, single-threaded.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import LedgerquakeError
from harness.target import proctree
from harness.target.keeper import keep
from harness.target.scratch import Owner, create_scratch, remove_scratch

KILL_PATIENCE_S = 20.0
PAUSE_PATIENCE_S = 2.0
_PASS_S = 0.01

Message = dict[str, Any]


class HarnessGone(Exception):
    """The other end of the channel is closed."""


@dataclass
class _Kept:
    """A service's keeper and its main process."""

    keeper_pid: int
    link: socket.socket
    main: proctree.Process | None


class Lines:
    """JSON lines over a stream socket."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._buffer = b""

    def read(self) -> list[Message]:
        """What has come; waits for something. Raises HarnessGone at the end of the stream."""
        try:
            data = self._link.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            raise HarnessGone
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def write(self, message: Message) -> None:
        try:
            self._link.sendall(json.dumps(message).encode() + b"\n")
        except (BrokenPipeError, ConnectionResetError):
            raise HarnessGone from None


class Reaper:
    """The supervisor's state: who is kept, and the channel to the harness."""

    def __init__(self, channel: socket.socket, scratch: Path) -> None:
        self._channel_socket = channel
        self._channel = Lines(channel)
        self._scratch = scratch
        self._selector = selectors.DefaultSelector()
        self._selector.register(channel, selectors.EVENT_READ, self._serve)
        self._kept: dict[int, _Kept] = {}
        self._last_child = 0
        self._wills: dict[int, Message] = {}
        self._ops: dict[str, Callable[[Message], Message]] = {
            "spawn": self._spawn,
            "signal": self._signal,
            "kill": self._kill,
            "pause": self._pause,
            "resume": self._resume,
            "will": self._note_will,
            "revoke": self._revoke_will,
        }

    def run(self) -> None:
        """Serve until told to end or until the harness is gone; then leave nothing behind."""
        end_id: int | None = None
        try:
            self._channel.write({"event": "ready"})
            while end_id is None:
                for key, _ in self._selector.select():
                    end_id = key.data() if end_id is None else end_id
        except HarnessGone:
            pass  # nobody asked for the end, and nobody waits for an answer
        left = self._leave_nothing("died" if end_id is None else "ended")
        if end_id is not None:
            with suppress(HarnessGone):  # it did not wait for the answer; everything is done
                self._channel.write({"id": end_id, "left": left})

    def _serve(self) -> int | None:
        """Answer what the harness asks; the id of an ``end`` request is returned instead."""
        for request in self._channel.read():
            if request["op"] == "end":
                return int(request["id"])
            try:
                answer = self._ops[request["op"]](request)
            except (OSError, LookupError, RuntimeError) as problem:
                answer = {"error": f"{type(problem).__name__}: {problem}"}
            self._channel.write({"id": request["id"], **answer})
        return None

    def _spawn(self, request: Message) -> Message:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        keeper_pid = os.fork()
        if keeper_pid == 0:
            keep(theirs, request)
        theirs.close()
        first = _packet(ours)
        if "pid" not in first:
            ours.close()
            os.waitpid(keeper_pid, 0)
            raise RuntimeError(first.get("error", "its keeper died"))
        self._last_child += 1
        child = self._last_child
        self._kept[child] = _Kept(keeper_pid, ours, proctree.look(first["pid"]))
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._hear(child))
        return {"child": child, "pid": first["pid"]}

    def _hear(self, child: int) -> None:
        """A keeper reports the end of its service, or has ended without a report."""
        kept = self._kept.pop(child)
        report = _packet(kept.link)
        self._selector.unregister(kept.link)
        kept.link.close()
        if "code" not in report:
            self._kill_strays()
        os.waitpid(kept.keeper_pid, 0)
        code, at_ns = report.get("code"), report.get("at_ns", time.time_ns())
        self._channel.write({"event": "exit", "child": child, "code": code, "at_ns": at_ns})

    def _kill_strays(self) -> None:
        """A keeper was killed by somebody: its orphans came to us. No keeper, no service."""
        keepers = {kept.keeper_pid for kept in self._kept.values()}
        for stray in proctree.descendants(os.getpid()):
            if stray.parent == os.getpid() and stray.pid not in keepers:
                for process in [stray, *proctree.descendants(stray.pid)]:
                    proctree.send(process, signal.SIGKILL)

    def _signal(self, request: Message) -> Message:
        kept = self._kept.get(request["child"])
        sent = kept is not None and kept.main is not None and proctree.send(kept.main, request["number"])
        return {"sent": sent}

    def _kill(self, request: Message) -> Message:
        """Main process first, or it would notice; the keeper ends whoever is born meanwhile."""
        return {"processes": len(self._signal_tree(request["child"], signal.SIGKILL))}

    def _pause(self, request: Message) -> Message:
        """Stop again and again until a look finds everybody stopped: they may fork meanwhile."""
        deadline = time.monotonic() + PAUSE_PATIENCE_S
        while True:
            running = [p for p in self._signal_tree(request["child"], signal.SIGSTOP) if p.state not in "Tt"]
            if not running:
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"still running after {PAUSE_PATIENCE_S:g} s: {[p.pid for p in running]}")
            time.sleep(_PASS_S / 10)
        return {"processes": len(self._signal_tree(request["child"], signal.SIGSTOP))}

    def _resume(self, request: Message) -> Message:
        return {"processes": len(self._signal_tree(request["child"], signal.SIGCONT, children_first=True))}

    def _signal_tree(self, child: int, number: int, children_first: bool = False) -> list[proctree.Process]:
        kept = self._kept.get(child)
        tree = proctree.descendants(kept.keeper_pid) if kept is not None else []
        for process in reversed(tree) if children_first else tree:
            proctree.send(process, number)
        return tree

    def _note_will(self, request: Message) -> Message:
        self._wills[request["id"]] = request
        return {}

    def _revoke_will(self, request: Message) -> Message:
        del self._wills[request["will"]]
        return {}

    def _leave_nothing(self, how: str) -> list[str]:
        """Kill every descendant, carry out the wills, remove the scratch folder; returns what is left.

        With processes left over the folder stays, so that ``ledgerquake cleanup`` finds both.
        """
        gone = _kill_all(KILL_PATIENCE_S)
        left = [f"process {process.pid}" for process in proctree.descendants(os.getpid())]
        left += [thing for will in self._wills.values() for thing in _carry_out(will, how)]
        if not gone:
            return left
        try:
            remove_scratch(self._scratch)
        except OSError as problem:
            left.append(f"{self._scratch}: {problem}")
        return left


def _carry_out(will: Message, how: str) -> list[str]:
    """What the will's command says it could not remove."""
    try:
        done = subprocess.run(
            [*will["argv"], how],
            env=will["env"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=will["patience_s"][how],
            check=True,
        )
        return [str(thing) for thing in json.loads(done.stdout)]
    except (OSError, ValueError, subprocess.SubprocessError) as problem:
        return [f"whatever {' '.join(will['argv'])} should have removed: {problem}"]


def _packet(link: socket.socket) -> Message:
    """One message of a keeper; empty when it is gone."""
    try:
        data = link.recv(1 << 16)
    except ConnectionResetError:
        return {}
    message: Message = json.loads(data) if data else {}
    return message


def _kill_all(patience_s: float) -> bool:
    """Kill and collect all descendants; False when some live on after ``patience_s``."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        for process in proctree.descendants(os.getpid()):
            proctree.send(process, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return True
        time.sleep(_PASS_S)
    return False


def main() -> None:
    """``channel descriptor, run id, scratch folder, pid of the harness``."""
    descriptor, run_id, folder, harness_pid = sys.argv[1:5]
    channel = socket.socket(fileno=int(descriptor))
    os.set_inheritable(channel.fileno(), False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    proctree.become_subreaper()
    proctree.set_name("lq supervisor")
    scratch = Path(folder)
    try:
        create_scratch(scratch, _owner(run_id, int(harness_pid)))
    except (OSError, LedgerquakeError) as problem:
        with suppress(HarnessGone):
            Lines(channel).write({"event": "broken", "error": str(problem)})
        return
    with (scratch / "supervisor.log").open("ab") as sink:
        os.dup2(sink.fileno(), 2)
    reaper = Reaper(channel, scratch)
    reaper.run()


def _owner(run_id: str, harness_pid: int) -> Owner:
    harness, own = proctree.look(harness_pid), proctree.look(os.getpid())
    assert own is not None
    return Owner(
        run_id=run_id,
        boot_id=proctree.boot_id(),
        harness_pid=harness_pid,
        harness_start=harness.start_ticks if harness else 0,
        supervisor_pid=own.pid,
        supervisor_start=own.start_ticks,
    )
