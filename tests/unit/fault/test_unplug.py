"""A pulled plug, on a runtime that pulls it only in memory: what is seen, refused and put back."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import EnvironmentBroken
from harness.evidence.model import Proof
from harness.experiment.target import Endpoint
from harness.fault import unplug as module
from harness.fault.base import Context
from harness.fault.network import Partition
from harness.fault.unplug import Unplug
from tests.unit.experiment.words import make_spec

SPEC = make_spec().model_copy(
    update={
        "services": {
            name: one.model_copy(update={"ready": Endpoint(port=1) if name == "db-1" else None})
            for name, one in make_spec().services.items()
        }
    }
)


class Runtime:
    """Services with two networks each. ``obeys`` False: takes the order and does nothing."""

    name = "docker"
    abilities = frozenset({"unplug", "limit"})

    def __init__(self, obeys: bool = True, leader: str | None = "db-2") -> None:
        self.off: set[str] = set()
        self.told: list[str] = []
        self.obeys = obeys
        self.leader = leader
        self.incarnation = 1

    def state(self, service: str) -> Any:
        return SimpleNamespace(status="running", pid=7, incarnation=self.incarnation)

    def role(self, name: str) -> str | None:
        return self.leader

    def unplug(self, service: str) -> None:
        self.told.append(service)
        if self.obeys:
            self.off.add(service)

    def plug_in(self, service: str) -> None:
        self.off.discard(service)

    def interfaces(self, service: str) -> tuple[str, ...]:
        return () if service in self.off else ("eth0", "eth1")


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """Whoever has a plug answers; canaries beside the unplugged flow."""
    runtime = Runtime()

    def answers(context: Context, service: str, timeout_s: float) -> bool:
        return service not in runtime.off

    monkeypatch.setattr(module, "answers", answers)
    monkeypatch.setattr(module, "wait_for_answer", answers)
    monkeypatch.setattr(
        module, "canary_through", lambda context, link, timeout_s: SimpleNamespace(replied=True)
    )
    return runtime


def unplug(runtime: Runtime, side: Any) -> Unplug:
    params = Partition.Params.model_validate({"between": [side, "*"], "mode": "disconnect"})
    context = Context(SPEC, runtime, None, print, lambda a, b: None, lambda: False)  # type: ignore[arg-type]
    made = Partition.make("f1", params, context)
    assert isinstance(made, Unplug)
    return made


def carried_out(
    runtime: Runtime, side: Any = "db-1", before_the_end: Callable[[], None] = lambda: None
) -> Proof:
    fault = unplug(runtime, side)
    healings = fault.healings()
    fault.inject()
    fault.observe()
    before_the_end()
    fault.still()
    for healing in healings:
        runtime.plug_in(str(healing.args["service"]))
    fault.recovered()
    return fault.proof()


def test_an_unplugged_service_is_proved_by_the_kernel_and_by_its_silence(runtime: Runtime) -> None:
    proof = carried_out(runtime)
    assert proof.proved, proof.text
    assert proof.text.startswith("db-1 lost all its networks (2), fell silent, and lived on; ")
    assert proof.text.endswith("; payments->db-2, payments->psp-a flowed on")


def test_several_at_once_are_each_proved(runtime: Runtime) -> None:
    proof = carried_out(runtime, ["payments", "db-1"])
    assert proof.proved and "payments lost all its networks (2)" in proof.text
    assert proof.observed["services"]["payments"]["can_be_asked"] is False


def test_an_order_without_effect_is_not_proved(runtime: Runtime) -> None:
    runtime.obeys = False
    proof = carried_out(runtime)
    assert not proof.proved and proof.text == "db-1 had 2 interfaces when it was unplugged"


def test_one_that_is_plugged_in_early_is_not_proved(runtime: Runtime) -> None:
    proof = carried_out(runtime, before_the_end=lambda: runtime.plug_in("db-1"))
    assert not proof.proved and proof.text == "db-1 had 2 interfaces before it was healed"


def test_one_that_began_another_life_is_not_proved(runtime: Runtime) -> None:
    proof = carried_out(runtime, before_the_end=lambda: setattr(runtime, "incarnation", 2))
    assert not proof.proved and "not the same process" in proof.text


def test_one_that_does_not_get_all_its_networks_back_is_not_proved(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(service: str) -> tuple[str, ...]:
        return ("eth0", "eth1") if not runtime.told else ("eth0",) * (service not in runtime.off)

    monkeypatch.setattr(runtime, "interfaces", half)
    proof = carried_out(runtime)
    assert not proof.proved and proof.text == "db-1 had 2 interfaces, and 1 after the healing"


def test_when_nothing_flows_it_is_not_this_service_alone(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "canary_through", lambda *_: SimpleNamespace(replied=False))
    proof = carried_out(runtime)
    assert not proof.proved and "did not flow either" in proof.text


def test_a_late_look_is_still_a_look(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """However little time is left: to wait no time at all is an error, not an answer."""
    waited: list[float] = []

    def answers(context: Context, service: str, timeout_s: float) -> bool:
        waited.append(timeout_s)
        return service not in runtime.off

    def canary(context: Context, link: str, timeout_s: float) -> Any:
        waited.append(timeout_s)
        return SimpleNamespace(replied=True)

    monkeypatch.setattr(module, "answers", answers)
    monkeypatch.setattr(module, "canary_through", canary)
    fault = unplug(runtime, "db-1")
    fault.healings()
    fault.inject()
    fault.until_ns = 1
    fault.observe()
    assert min(waited) >= 0.1 and len(waited) == 4  # before, during, and two neighbours


LIFE = [1, 7]
SEEN = {
    **{f"status_{when}": "running" for when in ("before", "during", "at_end", "after")},
    **{f"life_{when}": LIFE for when in ("before", "during", "at_end", "after")},
    **{"interfaces_before": 2, "interfaces_during": 0, "interfaces_at_end": 0, "interfaces_after": 2},
    **{"can_be_asked": True, "answered_before": True, "silent": True, "answers_after": True},
}


@pytest.mark.parametrize(
    ("row", "why_not"),
    [
        ({"status_before": "paused"}, "was paused before, with 2 interfaces"),
        ({"interfaces_before": 0}, "was running before, with 0 interfaces"),
        ({"can_be_asked": None}, "was not looked at while it lasted"),
        ({"answered_before": False}, "did not answer before either"),
        ({"status_during": "dead"}, "was dead when it was unplugged, not the same process as before"),
        ({"life_during": [2, 9]}, "was running when it was unplugged, not the same process as before"),
        ({"interfaces_during": 1}, "had 1 interfaces when it was unplugged"),
        ({"status_at_end": "paused"}, "was paused before it was healed, not the same process as before"),
        ({"life_at_end": [2, 9]}, "was running before it was healed, not the same process as before"),
        ({"interfaces_at_end": 2}, "had 2 interfaces before it was healed"),
        ({"silent": False}, "still answered"),
        ({"status_after": "dead"}, "was dead after the healing, not the same process as before"),
        ({"life_after": [2, 9]}, "was running after the healing, not the same process as before"),
        ({"interfaces_after": 1}, "had 2 interfaces, and 1 after the healing"),
        ({"answers_after": False}, "did not answer after the healing"),
    ],
)
def test_whatever_is_missing_is_said_and_nothing_else_is(
    row: dict[str, Any], why_not: str, runtime: Runtime
) -> None:
    fault = unplug(runtime, "db-1")
    fault.seen.update(services={"db-1": SEEN}, neighbours={"payments->db-2": True})
    assert fault.proof().proved, fault.proof().text
    fault.seen["services"] = {"db-1": {**SEEN, **row}}
    assert (fault.proof().proved, fault.proof().text) == (False, f"db-1 {why_not}")


def test_a_role_is_whoever_holds_it(runtime: Runtime) -> None:
    fault = unplug(runtime, "db-primary")
    assert [healing.args["service"] for healing in fault.healings()] == ["db-2"]
    assert fault.touched() == ("db-2", "payments->db-2")


def test_a_role_that_nobody_holds_is_an_error(runtime: Runtime) -> None:
    runtime.leader = None
    with pytest.raises(EnvironmentBroken, match="nobody holds the role 'db-primary'"):
        unplug(runtime, "db-primary").healings()


def test_what_is_unplugged_already_is_left_to_whoever_did_it(runtime: Runtime) -> None:
    runtime.unplug("payments")
    with pytest.raises(EnvironmentBroken, match="payments is off its networks already"):
        unplug(runtime, "payments").healings()


@pytest.mark.parametrize(
    ("side", "touched"),
    [
        ("payments", ("payments", "edge->payments", "payments->db-1", "payments->db-2", "payments->psp-a")),
        ("db-primary", ("db-primary", "payments->db-1", "payments->db-2")),
        (["db-*"], ("db-1", "db-2", "payments->db-1", "payments->db-2")),
    ],
)
def test_all_links_of_a_service_are_touched_either_way_round(side: Any, touched: tuple[str, ...]) -> None:
    for between in ([side, "*"], ["*", side]):
        params = Partition.Params.model_validate({"between": between, "mode": "disconnect"})
        assert Partition.touches(params, SPEC) == touched


@pytest.mark.parametrize(
    ("side", "message"),
    [
        ("psp-a", "'psp-a' is a witness: it stands outside"),
        ("p*", "'psp-a' is a witness"),
        ("client", "'client' is the load itself"),
        ("paymets", "did you mean 'payments'"),
    ],
)
def test_who_cannot_be_unplugged(side: str, message: str) -> None:
    params = Partition.Params.model_validate({"between": [side, "*"], "mode": "disconnect"})
    with pytest.raises(ValueError, match=message):
        Partition.touches(params, SPEC)


def test_links_to_witnesses_can_still_be_cut() -> None:
    params = Partition.Params.model_validate({"between": ["payments", "psp-a"]})
    assert Partition.touches(params, SPEC) == ("payments->psp-a",)
