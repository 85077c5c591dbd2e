"""Running out of files looks just like a system that is down, and is nobody's failure but ours."""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
import urllib.request
from contextlib import ExitStack

import pytest

from harness.spawn import FEWEST_OPEN_FILES
from harness.toxiproxy.builtin.proxy import EXIT_OUT_OF_FILES

ASK = "from harness.spawn import allow_open_files as a; import resource as r; a(); print(r.getrlimit(7))"


def limited(soft: int, hard: int) -> list[str]:
    """What to put before a command, so that it may have so many files open."""
    return ["prlimit", f"--nofile={soft}:{hard}"]


@pytest.mark.parametrize(("hard", "allowed"), [(FEWEST_OPEN_FILES, True), (FEWEST_OPEN_FILES - 1, False)])
def test_a_run_asks_for_all_the_files_it_may_have(hard: int, allowed: bool) -> None:
    assert resource.RLIMIT_NOFILE == 7
    asked = subprocess.run(
        [*limited(1024, hard), sys.executable, "-c", ASK], capture_output=True, text=True, timeout=20
    )
    if allowed:
        assert asked.stdout.strip() == f"({hard}, {hard})"
    else:
        assert f"at most {hard} files here (hard limit), {FEWEST_OPEN_FILES} are needed" in asked.stderr


def test_a_built_in_engine_that_is_out_of_files_ends() -> None:
    with ExitStack() as open_until_the_end:
        upstream = open_until_the_end.enter_context(socket.create_server(("127.0.0.1", 0)))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        argv = [*limited(64, 64), sys.executable, "-m", "harness.toxiproxy.builtin", "--port", str(port)]
        engine = open_until_the_end.enter_context(subprocess.Popen(argv, stderr=subprocess.PIPE, text=True))
        open_until_the_end.callback(engine.kill)
        assert engine.stderr is not None
        while "engine" not in (line := engine.stderr.readline()):
            assert line, "it ended before it was up"
        proxy = {"name": "p", "listen": "127.0.0.1:0", "upstream": f"127.0.0.1:{upstream.getsockname()[1]}"}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/proxies", data=json.dumps(proxy).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            host, _, link = json.load(answer)["listen"].rpartition(":")
        for _ in range(64):
            try:
                open_until_the_end.enter_context(socket.create_connection((host, int(link)), timeout=2))
            except OSError:
                break
        assert engine.wait(10) == EXIT_OUT_OF_FILES
