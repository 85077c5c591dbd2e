"""What every runtime must do. Each test leaves the shared deployment whole."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.errors import EnvironmentBroken, InputError, NotReady
from harness.target.docker.sweep import things_of
from harness.toxiproxy.toxics import Stream, Timeout
from tests.docker_here import docker_here

SERVICES = ("store", "front", "back")
STILL = {psutil.STATUS_STOPPED, psutil.STATUS_DISK_SLEEP}  # how a stopped, how a frozen process shows
BASE = {
    "process": {"PATH", "PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONHASHSEED", "HOME", "TMPDIR", "LANG", "TZ"},
    "docker": {"PATH", "HOSTNAME", "HOME", "LANG", "GPG_KEY", "PYTHON_VERSION", "PYTHON_SHA256"},
}


def tree(tiny: Any, service: str) -> list[psutil.Process]:
    """Every process of a service, found by the mark in its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except psutil.Error:
            continue
        if (
            environment.get("LEDGERQUAKE_RUN") == tiny.supervisor.run_id
            and environment.get("LEDGERQUAKE_SERVICE") == service
        ):
            found.append(process)
    return found


def test_all_services_run_and_answer_past_the_proxies(tiny: Any) -> None:
    for service in SERVICES:
        state = tiny.runtime.state(service)
        assert (state.status, state.incarnation, state.exit_code) == ("running", 1, None)
        assert state.pid and psutil.pid_exists(state.pid)
        assert tiny.get(service, "ready") == (200, "ready")
    assert tiny.runtime.deaths() == ()


def test_a_service_sees_its_proxies_and_nothing_of_the_caller(tiny: Any) -> None:
    environment = json.loads(tiny.get("front", "env")[1])
    store = environment["STORE_URL"].removeprefix("http://")
    proxies = [str(tiny.runtime.link(link).listen) for link in ("front->store", "back->store")]
    assert tiny.get("front", f"resolve/{store}") == (200, proxies[0])
    assert proxies[0] != proxies[1]
    own = {"LISTEN", "STORE_URL", "CHILDREN", "LEDGERQUAKE_RUN", "LEDGERQUAKE_SERVICE", "LC_CTYPE"}
    assert set(environment) - own - BASE[tiny.runtime.name] == set()


def test_a_process_gets_folders_of_its_own_and_the_targets_python_path(tiny: Any) -> None:
    if tiny.runtime.name != "process":
        pytest.skip("an image brings its own")
    environment = json.loads(tiny.get("front", "env")[1])
    assert environment["HOME"] != os.environ.get("HOME")
    assert environment["PYTHONPATH"] == str(Path(__file__).parent / "target" / ".").rstrip("/.")


def test_one_edge_is_cut_and_its_neighbour_flows(tiny: Any) -> None:
    assert tiny.get("front", "relay")[0] == 200
    tiny.links.set_enabled("front->store", False)
    try:
        assert tiny.get("front", "relay")[0] == 502
        assert tiny.get("back", "relay")[0] == 200
        assert tiny.get("store", "ready")[0] == 200
    finally:
        tiny.links.set_enabled("front->store", True)
    assert tiny.get("front", "relay")[0] == 200


@pytest.mark.parametrize("streams", [("upstream",), ("downstream",), ("upstream", "downstream")])
def test_one_edge_falls_silent_one_way_or_both_while_its_neighbour_flows(
    tiny: Any, streams: tuple[Stream, ...]
) -> None:
    """What arrives is seen at the store: a request whose answer is lost was served all the same."""
    served = len(tiny.get("store", "note/")[1])
    for stream in streams:
        tiny.links.add_toxic("front->store", f"silent-{stream}", Timeout(stream=stream, timeout=0))
    try:
        assert tiny.get("front", "write/x")[0] == 502
        assert tiny.get("back", "relay")[0] == 200
    finally:
        for stream in streams:
            tiny.links.remove_toxic("front->store", f"silent-{stream}")
    arrived = len(tiny.get("store", "note/")[1]) - served
    assert arrived == (1 if streams == ("downstream",) else 0)
    assert tiny.get("front", "relay")[0] == 200


def test_connections_show_whom_a_service_talks_to(tiny: Any) -> None:
    proxy = tiny.runtime.link("back->store").listen
    assert proxy not in tiny.runtime.connections("back")
    assert tiny.get("back", "hold")[0] == 200
    assert proxy in tiny.runtime.connections("back")
    assert tiny.runtime.address("store", 8080) not in tiny.runtime.connections("back")


def test_a_role_is_held_by_exactly_one(tiny: Any) -> None:
    assert tiny.runtime.role("leader") is None
    tiny.get("back", "be/yes")
    assert tiny.runtime.role("leader") == "back"
    tiny.get("front", "be/yes")
    assert tiny.runtime.role("leader") is None
    tiny.get("back", "be/no")
    assert tiny.runtime.role("leader") == "front"
    tiny.get("front", "be/no")


def test_unknown_names_are_errors_with_the_right_spelling(tiny: Any) -> None:
    for ask in (
        lambda: tiny.runtime.state("frount"),
        lambda: tiny.runtime.kill("frount"),
        lambda: tiny.runtime.link("frount->store"),
        lambda: tiny.runtime.role("leadr"),
    ):
        with pytest.raises(InputError, match=r"did you mean '(front|front->store|leader)'"):
            ask()
    with pytest.raises(InputError, match="no port 9"):
        tiny.runtime.address("front", 9)


def test_kill_takes_the_whole_tree_and_is_no_death(tiny: Any) -> None:
    before = tiny.runtime.state("front")
    assert len(tree(tiny, "front")) == 3, "the main process and two orphans that ignore SIGTERM"
    tiny.runtime.kill("front")
    assert tree(tiny, "front") == []
    assert (tiny.runtime.state("front").status, tiny.runtime.state("front").exit_code) == ("dead", -9)
    tiny.runtime.kill("front")
    tiny.restart("front")
    after = tiny.runtime.state("front")
    assert after.incarnation == before.incarnation + 1
    assert after.pid != before.pid and after.started_ns > before.started_ns
    assert tiny.runtime.deaths() == ()


def test_ports_volumes_and_logs_outlive_a_restart(tiny: Any) -> None:
    address = tiny.runtime.address("store", 8080)
    before = tiny.get("store", "note/a")[1]
    lives = tiny.runtime.log("store").read_text().count("listening")
    tiny.runtime.kill("store")
    tiny.restart("store")
    assert tiny.runtime.address("store", 8080) == address
    assert tiny.get("store", "note/b") == (200, f"{before}b")
    assert tiny.runtime.log("store").read_text().count("listening") == lives + 1
    assert tiny.get("front", "relay")[0] == 200


def test_stop_asks_first_and_kills_after_the_grace(tiny: Any) -> None:
    assert tiny.runtime.stop("back", 5) == 0
    assert tiny.runtime.state("back").status == "stopped"
    assert tiny.runtime.log("back").read_text().rstrip().endswith("ended in good order")
    assert tiny.runtime.stop("back", 5) is None
    tiny.restart("back")
    tiny.get("back", "deaf/")
    assert tiny.runtime.stop("back", 0.3) == -signal.SIGKILL
    tiny.restart("back")
    assert tiny.runtime.deaths() == ()


def test_a_running_service_is_not_started_twice(tiny: Any) -> None:
    with pytest.raises(EnvironmentBroken, match="runs already"):
        tiny.runtime.start("back")


def test_pause_silences_every_process_and_resume_goes_on_with_the_same(tiny: Any) -> None:
    pid = tiny.runtime.state("front").pid
    tiny.runtime.pause("front")
    tiny.runtime.pause("front")
    assert tiny.runtime.state("front").status == "paused"
    assert tiny.runtime.stands_still("front") and not tiny.runtime.stands_still("back")
    assert {process.status() for process in tree(tiny, "front")} <= STILL
    with socket.create_connection(
        (tiny.runtime.address("front", 8080).host, tiny.runtime.address("front", 8080).port)
    ):
        pass  # the kernel still accepts for it
    assert tiny.get("front", "ready", 0.3)[0] is None
    tiny.runtime.resume("front")
    assert tiny.get("front", "ready")[0] == 200
    assert (tiny.runtime.state("front").status, tiny.runtime.state("front").pid) == ("running", pid)
    assert not tiny.runtime.stands_still("front")


def test_a_paused_service_goes_on_to_hear_that_it_is_stopped(tiny: Any) -> None:
    tiny.runtime.pause("back")
    assert tiny.runtime.stop("back", 5) == 0
    assert tiny.runtime.log("back").read_text().rstrip().endswith("ended in good order")
    tiny.restart("back")


def test_a_paused_service_can_be_killed_and_started(tiny: Any) -> None:
    tiny.runtime.pause("front")
    tiny.runtime.kill("front")
    assert tiny.runtime.state("front").status == "dead"
    with pytest.raises(EnvironmentBroken, match="does not run"):
        tiny.runtime.resume("front")
    tiny.restart("front")
    assert tiny.runtime.state("front").status == "running"


def test_another_command_counts_from_the_next_start(tiny: Any) -> None:
    original = tiny.runtime.spec.services["back"].process
    tiny.runtime.replace("back", "python3 -c 'raise SystemExit(\"not today\")'")
    assert tiny.get("back", "ready")[0] == 200
    tiny.runtime.kill("back")
    tiny.runtime.start("back")
    with pytest.raises(NotReady) as caught:
        tiny.runtime.wait_ready(["front", "back"], 10)
    text = str(caught.value)
    assert "back" in text and "/ready" in text and "ended with code 1" in text and "not today" in text
    tiny.runtime.replace("back", original)
    tiny.restart("back")


def test_other_values_count_from_the_next_start_and_an_undeclared_address_leads_nowhere(tiny: Any) -> None:
    before = tiny.runtime.environment("back")
    given = tiny.runtime.reconfigure("back", {"STORE_URL": "http://store:9"})
    try:
        assert tiny.runtime.environment("back") == before
        assert tiny.get("back", "relay")[0] == 200
        tiny.runtime.stop("back", 5)
        with pytest.raises(EnvironmentBroken, match="back does not run"):
            tiny.runtime.environment("back")
        tiny.restart("back")
        held = tiny.runtime.environment("back")
        assert held == {**before, "STORE_URL": given["STORE_URL"]} != before
        status, said = tiny.get("back", "relay")
        assert status == 502 and "refused" in said
    finally:
        tiny.runtime.reconfigure("back", {})
        tiny.runtime.stop("back", 5)
        tiny.restart("back")
    assert tiny.runtime.environment("back") == before
    assert tiny.get("back", "relay")[0] == 200


def test_waiting_in_vain_says_what_for_how_long_and_what_came(tiny: Any) -> None:
    tiny.runtime.pause("back")
    try:
        with pytest.raises(NotReady, match=r"awaited GET /ready .* for 1\.\d s; last answer: no answer"):
            tiny.runtime.wait_ready(["back"], 0.5)
    finally:
        tiny.runtime.resume("back")


def test_a_death_is_what_nobody_asked_for(fresh: Callable[[], Any]) -> None:
    tiny = fresh()
    tiny.get("back", "die/3")
    tiny.eventually(lambda: tiny.runtime.state("back").status == "dead", "back is dead")
    tiny.runtime.kill("back")
    assert tiny.runtime.stop("back", 1) is None
    tiny.restart("back")
    tiny.runtime.kill("back")
    tiny.restart("back")
    os.kill(tiny.runtime.state("front").pid, signal.SIGKILL)
    tiny.eventually(lambda: tiny.runtime.state("front").status == "dead", "front is dead")
    first, second = tiny.runtime.deaths()
    assert (first.service, first.exit_code, second.service, second.exit_code) == ("back", 3, "front", -9)
    assert first.last_log.rstrip().endswith("dying with 3, as told")
    assert tree(tiny, "front") == [], "as in a container, the main process takes the rest with it"


def test_whoever_looks_first_at_a_death_sees_its_last_words_and_may_start_it(
    fresh: Callable[[], Any],
) -> None:
    tiny = fresh()
    tiny.get("back", "die/3")
    tiny.eventually(tiny.runtime.deaths, "the death of back is known")
    assert tiny.runtime.deaths()[0].last_log.rstrip().endswith("dying with 3, as told")
    os.kill(tiny.runtime.state("front").pid, signal.SIGKILL)
    tiny.eventually(lambda: tiny.runtime.state("front").status == "dead", "front is dead")
    tiny.restart("front")
    assert len(tiny.runtime.deaths()) == 2


def test_teardown_leaves_nothing_and_may_be_repeated(fresh: Callable[[], Any]) -> None:
    tiny = fresh()
    addresses = [tiny.runtime.address(service, 8080) for service in SERVICES]
    tiny.runtime.teardown()
    tiny.runtime.teardown()
    assert [process for service in SERVICES for process in tree(tiny, service)] == []
    if tiny.runtime.name == "docker":  # with its network gone, an address here is one of the world outside
        assert list(things_of(docker_here(), tiny.supervisor.run_id)) == []
    else:
        for address in addresses:
            with socket.socket() as probe:
                assert probe.connect_ex((address.host, address.port)) != 0
    assert not (tiny.supervisor.scratch / "volumes").exists()
    assert tiny.runtime.deaths() == ()
    tiny.supervisor.close()
    assert not tiny.supervisor.scratch.exists()


def test_two_runs_at_once_share_nothing(fresh: Callable[[], Any]) -> None:
    one, other = fresh(), fresh()

    def addresses(tiny: Any) -> set[str]:
        links = [tiny.runtime.link(name).listen for name in tiny.runtime.spec.links]
        return {str(end) for end in [*links, *(tiny.runtime.address(name, 8080) for name in SERVICES)]}

    assert not addresses(one) & addresses(other)
    one.get("store", "note/mine")
    assert other.get("store", "note/x") == (200, "x")
    one.runtime.teardown()
    assert other.get("front", "relay")[0] == 200
