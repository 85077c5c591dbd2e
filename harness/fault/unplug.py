"""Services taken off all their networks: ``partition`` with ``mode: disconnect``.

What faults on links show by canaries, this one shows by the kernel: a service without an interface has
no neighbours, and no way around a proxy.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from harness.errors import EnvironmentBroken
from harness.evidence.healing import Healing
from harness.evidence.model import Proof
from harness.experiment.target import Frozen, TargetSpec
from harness.experiment.vocabulary import Ability, Lives, Names
from harness.fault.abilities import unplugging
from harness.fault.base import Fault
from harness.fault.link_fault import canary_through, flowed_on, neighbours_worth_asking, not_here_alone
from harness.fault.one_service import answers, can_be_asked, wait_for_answer
from harness.fault.selection import expand_services, holders_of, links_of, refuse_witnesses, service_of

LOOK_S = 1.0  # at most, for one answer that should not come
PULL_S = 0.5  # the engine takes its time for each network
ANSWER_S = 5.0  # after the healing


class UnplugParams(Frozen):
    """``services``: services, roles or patterns."""

    services: Names


class Unplug(Fault[UnplugParams]):
    """Services lose every network interface, and keep running; an edge alone is for links."""

    name = "partition"
    family = "network"
    on_links = "cut"
    Params = UnplugParams

    @classmethod
    def lives(cls, params: UnplugParams) -> Lives | None:
        return "needed"

    @classmethod
    def needs(cls, params: UnplugParams) -> frozenset[Ability]:
        return frozenset({"unplug"})

    @classmethod
    def touches(cls, params: UnplugParams, spec: TargetSpec) -> tuple[str, ...]:
        """The services and roles, then all their links; of a role, those of whoever may hold it."""
        names = expand_services(params.services, spec)
        if "client" in names:
            raise ValueError(
                "'client' is the load itself and has no networks to be taken off; "
                "use mode drop or reject to cut its links"
            )
        refuse_witnesses(names, spec)
        services = [service for name in names for service in holders_of(name, spec)]
        return (*names, *links_of(services, spec))

    @classmethod
    def proof_needed(cls, params: UnplugParams) -> str:
        return (
            f"{', '.join(params.services)} has no network interface left and answers nobody, its process "
            "lives on, and the links between others flow"
        )

    @classmethod
    def shortest_s(cls, params: UnplugParams) -> float:
        return LOOK_S + PULL_S + LOOK_S  # that it answered before, and that it is silent

    def healings(self) -> tuple[Healing, ...]:
        context = self.context
        names = expand_services(self.params.services, context.spec)
        services = tuple(dict.fromkeys(service_of(name, context) for name in names))
        self.seen["touched"] = (*services, *links_of(services, context.spec))
        self.seen["services"] = {service: {} for service in services}
        for service in services:
            self._note(service, "before")
            if self.seen["services"][service]["interfaces_before"] == 0:
                raise EnvironmentBroken(f"{service} is off its networks already, by another fault")
        return tuple(Healing(action="plug_in", args={"service": service}) for service in services)

    def _note(self, service: str, when: str) -> None:
        """How it is now; its interfaces as the kernel has them, where it has a process that can see any."""
        state = self.context.runtime.state(service)
        running = state.status == "running"
        seen = len(unplugging(self.context.runtime).interfaces(service)) if running else None
        self.seen["services"][service].update(
            {
                f"status_{when}": state.status,
                f"life_{when}": [state.incarnation, state.pid],
                f"interfaces_{when}": seen,
            }
        )

    def inject(self) -> None:
        rows = self.seen["services"]
        for service in rows:
            rows[service]["can_be_asked"] = can_be_asked(self.context, service)
            if rows[service]["can_be_asked"]:
                rows[service]["answered_before"] = answers(self.context, service, timeout_s=LOOK_S)
        for service in rows:
            unplugging(self.context.runtime).unplug(service)

    def observe(self) -> None:
        """All at once: what is silent is waited for."""
        context, rows = self.context, self.seen["services"]
        patience_s = self.patience_s(LOOK_S)
        askable = [service for service in rows if rows[service]["can_be_asked"]]
        links = [name for name in self.seen["touched"] if name in context.spec.links]
        beside = neighbours_worth_asking(context, links)
        for service in rows:
            self._note(service, "during")
        with ThreadPoolExecutor(max(1, len(askable) + len(beside))) as pool:
            heard = {one: pool.submit(answers, context, one, patience_s) for one in askable}
            flows = {
                link.name: pool.submit(canary_through, context, link.name, patience_s) for link in beside
            }
        for service, answered in heard.items():
            rows[service]["silent"] = not answered.result()
        self.seen["neighbours"] = {name: canary.result().replied for name, canary in flows.items()}

    def still(self) -> None:
        for service in self.seen["services"]:
            self._note(service, "at_end")

    def recovered(self) -> None:
        for service, row in self.seen["services"].items():
            if row.get("can_be_asked"):
                row["answers_after"] = wait_for_answer(self.context, service, timeout_s=ANSWER_S)
            self._note(service, "after")

    def proof(self) -> Proof:
        rows: dict[str, dict[str, Any]] = self.seen.get("services", {})
        problems = [f"{service} {problem}" for service, row in rows.items() if (problem := _why_not(row))]
        why_not = "; ".join(problems) or not_here_alone(self.seen.get("neighbours", {}))
        if why_not or not rows:
            return Proof(proved=False, text=why_not or "nothing was unplugged", observed=dict(self.seen))
        told = [
            f"{service} lost all its networks ({row['interfaces_before']})" for service, row in rows.items()
        ]
        silent = _silence(rows.values())
        text = f"{', '.join(told)}{silent}, and lived on{flowed_on(self.seen['neighbours'])}"
        return Proof(proved=True, text=text, observed=dict(self.seen))


def _silence(rows: Iterable[dict[str, Any]]) -> str:
    return ", fell silent" if any(row["can_be_asked"] for row in rows) else ""


def _why_not(row: dict[str, Any]) -> str | None:
    """What is missing of one service's proof, said of it."""
    asked = row.get("can_be_asked")
    if row.get("status_before") != "running" or not row.get("interfaces_before"):
        return f"was {row.get('status_before')} before, with {row.get('interfaces_before')} interfaces"
    if asked is None or "status_during" not in row:
        return "was not looked at while it lasted"
    if asked and not row.get("answered_before"):
        return "did not answer before either"
    for when, said in (("during", "when it was unplugged"), ("at_end", "before it was healed")):
        if not _lives_on(row, when):
            return f"was {row.get(f'status_{when}')} {said}, not the same process as before"
        if row.get(f"interfaces_{when}") != 0:
            return f"had {row.get(f'interfaces_{when}')} interfaces {said}"
    if asked and not row.get("silent"):
        return "still answered"
    if not _lives_on(row, "after"):
        return f"was {row.get('status_after')} after the healing, not the same process as before"
    if row.get("interfaces_after") != row["interfaces_before"]:
        return (
            f"had {row['interfaces_before']} interfaces, and {row.get('interfaces_after')} after the healing"
        )
    return "did not answer after the healing" if asked and not row.get("answers_after") else None


def _lives_on(row: dict[str, Any], when: str) -> bool:
    return row.get(f"status_{when}") == "running" and row.get(f"life_{when}") == row.get("life_before")
