"""One keeper per service: the parent of its main process, and the end of everything below it.

A keeper is a fork of the supervisor. It is a child subreaper, so whatever its service starts, however
often that forks, stays below it: the service's process tree is what the kernel says it is. As in a
container, the end of the main process is the end of the rest. When the supervisor is gone, the keeper
kills its tree too: the second line of defence.

Standard library only; single-threaded, so that forking is safe and the parent-death signal holds.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NoReturn

from harness.target import proctree

_PASS_S = 0.02


def keep(link: socket.socket, order: Mapping[str, Any]) -> NoReturn:
    """Run in the forked child: start the service, see it to its end, report both over ``link``.

    ``link`` keeps packets apart (SOCK_SEQPACKET): ``{"pid"}`` or ``{"error"}``, then ``{"code", "at_ns"}``.
    """
    try:
        _Keeper(link, order).run()
    except BaseException as problem:
        _tell(link, {"error": f"{type(problem).__name__}: {problem}"})
        _kill_below()
    finally:
        os._exit(0)


class _Keeper:
    def __init__(self, link: socket.socket, order: Mapping[str, Any]) -> None:
        self._link = link
        self._order = order
        self._code: int | None = None
        self._ended_ns = 0
        _close_all_but({0, 1, 2, link.fileno()})
        self._wake = _wake_on_child()
        proctree.become_subreaper()
        proctree.set_name(f"lq {order['name']}")

    def run(self) -> None:
        self._process = self._start()
        _tell(self._link, {"pid": self._process.pid})
        watched: list[int] = [self._wake, self._link.fileno()]
        while self._reap():
            ending = len(watched) == 1 or self._code is not None
            if ending:
                _kill_pass()
            ready, _, _ = select.select(watched, [], [], _PASS_S if ending else None)
            if self._wake in ready:
                os.read(self._wake, 512)
            if self._link.fileno() in ready and not self._link.recv(1):
                watched.remove(self._link.fileno())  # the supervisor is gone, so this service ends too
        _tell(self._link, {"code": self._code, "at_ns": self._ended_ns})

    def _start(self) -> subprocess.Popen[bytes]:
        keeper = os.getpid()

        def in_child() -> None:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            proctree.die_with_parent(keeper)

        with open(self._order["log"], "ab") as sink:
            return subprocess.Popen(
                self._order["argv"],
                env=self._order["env"],
                cwd=self._order["cwd"],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=in_child,
            )

    def _reap(self) -> bool:
        """Collect whoever has ended; False when nobody is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._process.pid:
                self._code = os.waitstatus_to_exitcode(status)
                self._ended_ns = time.time_ns()


def _kill_pass() -> None:
    for process in proctree.descendants(os.getpid()):
        proctree.send(process, signal.SIGKILL)


def _kill_below() -> None:
    """Kill and collect everything below this process."""
    while True:
        _kill_pass()
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(_PASS_S)


def _tell(link: socket.socket, message: Mapping[str, Any]) -> None:
    with suppress(OSError):  # the supervisor is gone; what had to be done has been done
        link.sendall(json.dumps(message).encode())


def _close_all_but(kept: set[int]) -> None:
    """Let go of the supervisor's own descriptors: held here, they would hide its end from others."""
    for number in [int(name) for name in os.listdir("/proc/self/fd")]:
        if number not in kept:
            with suppress(OSError):  # the descriptor of the listing itself
                os.close(number)


def _wake_on_child() -> int:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return reading
