"""What only containers can do, and what must hold of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from harness.errors import Aborted, EnvironmentBroken
from harness.experiment.target import Endpoint
from harness.run.cleanup import cleanup
from harness.run.ground import Groundwork
from harness.target.docker.endpoint import asking
from harness.target.docker.labels import RUN, SERVICE
from harness.target.docker.layout import LINK_ENGINE
from harness.target.docker.sweep import things_of
from harness.target.folder import load_target
from harness.target.runtime import Limits
from harness.target.supervisor import Supervisor
from tests.conformance.runtime.conftest import RUNTIMES, TARGET, come_up, new_run_id
from tests.docker_here import docker_here

PERIOD_S = 1.0
pytestmark = pytest.mark.xdist_group("docker")


@pytest.fixture(scope="module")
def tiny() -> Iterator[Any]:
    with ExitStack() as undo:
        yield come_up(undo, "docker", new_run_id())


def test_a_service_has_no_other_way_to_another_one(tiny: Any) -> None:
    """Its own dependency by its real address, a stranger, and the engine's API: all out of reach."""
    for address in (
        tiny.runtime.address("store", 8080),
        tiny.runtime.address("back", 8080),
        tiny.runtime.link("back->store").listen,
        f"{tiny.engine.host}:{tiny.engine.port}",
    ):
        assert tiny.get("front", f"reach/{address}", 3)[0] == 502, address
    assert tiny.get("front", "reach/store:8080", 3)[0] == 200


def test_a_way_to_a_dead_container_is_not_blocked_for_long(tiny: Any) -> None:
    """It answers nothing; whoever came to the link first must not hold up those who come when it is back."""
    assert tiny.get("back", "relay")[0] == 200, (
        "its hardware address is known, so that no error of the network ends a dial"
    )
    tiny.runtime.kill("store")
    try:
        status, seconds = tiny.get("back", "outlast/store:8080", 10)
        assert status == 200, seconds
        assert float(seconds) < 5
    finally:
        tiny.restart("store")
    tiny.eventually(lambda: tiny.get("back", "relay")[0] == 200, "the store is reached again")


def test_containers_are_as_bare_as_can_be(tiny: Any) -> None:
    api = docker_here().api
    run_id = tiny.supervisor.run_id
    found = [thing for thing in things_of(docker_here(), run_id) if thing.kind == "container"]
    assert len(found) == 4
    for thing in found:
        config = api.inspect_container(thing.id)["HostConfig"]
        assert config["CapDrop"] == ["ALL"] and not config["CapAdd"] and not config["Privileged"]
        assert "no-new-privileges:true" in config["SecurityOpt"]
        assert config["ReadonlyRootfs"]
        assert not config["PortBindings"] and not config["PublishAllPorts"]
        assert not any("docker.sock" in bind for bind in config["Binds"] or ())
    networks = [thing for thing in things_of(docker_here(), run_id) if thing.kind == "network"]
    assert all(api.inspect_network(network.id)["Internal"] for network in networks)


def test_unplugged_it_lives_on_alone_and_comes_back_just_as_it_was(tiny: Any) -> None:
    before, state = tiny.runtime.interfaces("front"), tiny.runtime.state("front")
    assert before
    tiny.runtime.unplug("front")
    tiny.runtime.unplug("front")
    try:
        assert tiny.runtime.interfaces("front") == ()
        assert tiny.get("front", "ready", 0.5)[0] is None
        assert tiny.runtime.state("front").pid == state.pid
        assert tiny.get("back", "relay")[0] == 200
    finally:
        tiny.runtime.plug_in("front")
    tiny.runtime.plug_in("front")
    assert len(tiny.runtime.interfaces("front")) == len(before)
    tiny.eventually(lambda: tiny.get("front", "relay")[0] == 200, "front is back at its address")
    assert tiny.runtime.state("front").pid == state.pid and tiny.runtime.deaths() == ()


def test_a_processor_limit_holds_as_the_kernel_counts_it(tiny: Any) -> None:
    assert tiny.runtime.limits("front") == Limits()
    tiny.runtime.set_limits("front", Limits(cpus=0.2))
    try:
        assert tiny.runtime.limits("front") == Limits(cpus=0.2)
        before = tiny.runtime.usage("front")
        assert tiny.get("front", f"burn/{PERIOD_S}", 10)[0] == 200
        after = tiny.runtime.usage("front")
        assert after.throttled > before.throttled
        assert (after.cpu_ns - before.cpu_ns) / 1e9 < 0.35 * PERIOD_S
    finally:
        tiny.runtime.set_limits("front", Limits())
    assert tiny.runtime.limits("front") == Limits()
    before = tiny.runtime.usage("front")
    tiny.get("front", f"burn/{PERIOD_S}", 10)
    assert tiny.runtime.usage("front").throttled == before.throttled


def test_a_memory_limit_is_refused_out_loud_or_holds(tiny: Any) -> None:
    limit = 48 << 20
    tiny.runtime.set_limits("back", Limits(memory_bytes=limit))
    try:
        assert tiny.runtime.limits("back") == Limits(memory_bytes=limit)
        before = tiny.runtime.usage("back")
        assert 0 < before.memory_bytes <= limit
        assert tiny.get("back", "hog/100", 10)[0] is None, "killed for want of memory"
        tiny.eventually(lambda: tiny.runtime.state("back").status == "dead", "back is dead")
        assert tiny.runtime.out_of_memory("back") and tiny.runtime.deaths() == (), "it was asked for"
    finally:
        tiny.runtime.set_limits("back", Limits())
    tiny.restart("back")
    assert tiny.runtime.limits("back") == Limits() and tiny.runtime.deaths() == ()


def test_an_end_by_a_limit_was_asked_for_even_when_it_shows_after_the_lifting(tiny: Any) -> None:
    """The engine tells of the end a little late; meanwhile the limit is lifted."""
    tiny.runtime.set_limits("back", Limits(memory_bytes=48 << 20))
    tiny.get("back", "hog/100", 10)
    tiny.runtime.set_limits("back", Limits())
    tiny.eventually(lambda: tiny.runtime.state("back").status == "dead", "back is dead")
    assert tiny.runtime.deaths() == () and tiny.runtime.out_of_memory("back")
    tiny.restart("back")
    assert not tiny.runtime.out_of_memory("back")


def test_only_its_child_is_killed_for_want_of_memory_and_the_kernel_counts_it(tiny: Any) -> None:
    tiny.runtime.set_limits("back", Limits(memory_bytes=48 << 20))
    try:
        before, pid = tiny.runtime.usage("back"), tiny.runtime.state("back").pid
        assert tiny.get("back", "fork-hog/100", 10) == (200, "-9")
        after = tiny.runtime.usage("back")
        assert after.oom_kills > before.oom_kills
        assert tiny.runtime.state("back").pid == pid and not tiny.runtime.out_of_memory("back")
    finally:
        tiny.runtime.set_limits("back", Limits())


def test_made_anew_while_unplugged_it_stays_unplugged(tiny: Any) -> None:
    tiny.runtime.unplug("back")
    try:
        tiny.runtime.replace("back", "python3 -u service.py")
        tiny.runtime.kill("back")
        tiny.runtime.start("back")
        assert tiny.runtime.interfaces("back") == ()
    finally:
        tiny.runtime.plug_in("back")
        tiny.runtime.replace("back", "python3 service.py")
    tiny.eventually(lambda: tiny.get("back", "relay")[0] == 200, "back is back at its address")


def test_limits_hold_over_a_restart_and_over_another_command(tiny: Any) -> None:
    tiny.runtime.set_limits("back", Limits(cpus=0.5))
    try:
        tiny.runtime.kill("back")
        tiny.restart("back")
        assert tiny.runtime.limits("back") == Limits(cpus=0.5)
        tiny.runtime.replace("back", "python3 -u service.py")
        tiny.runtime.kill("back")
        tiny.restart("back")
        assert tiny.runtime.limits("back") == Limits(cpus=0.5)
    finally:
        tiny.runtime.set_limits("back", Limits())
        tiny.runtime.replace("back", "python3 service.py")
        tiny.runtime.kill("back")
        tiny.restart("back")


def test_a_stop_is_heard_while_the_first_services_are_awaited() -> None:
    """The store runs and is never ready; whoever holds the role waits for it."""
    spec = load_target(TARGET)
    never_ready = spec.services["store"].model_copy(update={"ready": Endpoint(port=8080, path="/none")})
    spec = spec.model_copy(
        update={"ready_when": ("leader",), "services": {**spec.services, "store": never_ready}}
    )
    asked_s: list[float] = []

    def stopping() -> bool:
        if not asked_s and "store" in running(supervisor.run_id):
            asked_s.append(time.monotonic())
        return bool(asked_s)

    with Supervisor.start(new_run_id()) as supervisor, ExitStack() as undo:
        work = Groundwork(spec, supervisor, 1, None, print, undo.callback, stopping=stopping)
        with pytest.raises(Aborted):
            RUNTIMES["docker"]().break_ground(work)
        assert time.monotonic() - asked_s[0] < 5
        assert running(supervisor.run_id) == {"store", LINK_ENGINE}, "nothing else was started"


def running(run_id: str) -> set[str]:
    """The services of a run that are up now."""
    found = docker_here().api.containers(filters={"label": f"{RUN}={run_id}"})
    return {str(one["Labels"][SERVICE]) for one in found}


def test_a_link_engine_that_is_replaced_keeps_its_addresses(tiny: Any) -> None:
    tiny.links.recover("a test")
    assert tiny.get("front", "relay")[0] == 200
    assert tiny.engine.alive() and tiny.engine.fallen() is None


def test_a_container_of_somebody_else_is_not_touched(bystander: str) -> None:
    with ExitStack() as undo:
        come_up(undo, "docker", new_run_id())
    cleanup()
    assert docker_here().api.inspect_container(bystander)["State"]["Running"]


def test_a_name_that_is_taken_is_told(tiny: Any) -> None:
    with (
        pytest.raises(EnvironmentBroken, match=r"cannot make a name: .*already in use"),
        asking("make a name"),
    ):
        docker_here().api.create_container("ledgerquake/tiny:test", name=f"lq-{tiny.supervisor.run_id}-front")
