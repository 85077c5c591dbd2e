"""Carrying out a healing: data in, the system put right. Each action may be done twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harness.errors import EnvironmentBroken
from harness.evidence.healing import Healing
from harness.fault.abilities import limiting, unplugging
from harness.fault.patience import tell
from harness.target.runtime import Limits, Runtime
from harness.toxiproxy.links import LinkLayer

UP = ("running", "paused")


def heal(healing: Healing, runtime: Runtime, links: LinkLayer) -> None:
    """Undo one thing. Raises LinkError or EnvironmentBroken when it cannot be undone."""
    _ACTIONS[healing.action](healing.args, runtime, links)


Args = Mapping[str, str | int | float]


def _enable_link(args: Args, runtime: Runtime, links: LinkLayer) -> None:
    links.set_enabled(str(args["link"]), True)


def _remove_toxic(args: Args, runtime: Runtime, links: LinkLayer) -> None:
    links.remove_toxic(str(args["link"]), str(args["toxic"]))


def _start_service(args: Args, runtime: Runtime, links: LinkLayer) -> None:
    """Somebody else, another fault's healing, may be starting it at this very moment."""
    service = str(args["service"])
    if runtime.state(service).status in UP:
        return
    try:
        runtime.start(service)
    except EnvironmentBroken:
        if runtime.state(service).status not in UP:
            raise


def _restore_environment(args: Args, runtime: Runtime, links: LinkLayer) -> None:
    service = str(args["service"])
    right = runtime.reconfigure(service, {})
    if runtime.state(service).status in UP:
        if _has(runtime, service, right):
            return
        runtime.stop(service, float(args["grace_s"]))
    _start_service(args, runtime, links)


def _has(runtime: Runtime, service: str, environment: Mapping[str, str]) -> bool:
    try:
        held = runtime.environment(service)
    except EnvironmentBroken:  # it has ended at this very moment
        return False
    return all(held.get(name) == value for name, value in environment.items())


def _resume_service(args: Args, runtime: Runtime, links: LinkLayer) -> None:
    service = str(args["service"])
    if runtime.state(service).status == "paused":
        runtime.resume(service)


def _set_mode(args: Args, runtime: Runtime, links: LinkLayer) -> None:
    body = {"mode": args["mode"], "reason": args["reason"]}
    tell("PUT", str(args["url"]), body, f"set mode {args['mode']}")


def _plug_in(args: Args, runtime: Runtime, links: LinkLayer) -> None:
    unplugging(runtime).plug_in(str(args["service"]))


def _set_limits(args: Args, runtime: Runtime, links: LinkLayer) -> None:
    limits = Limits(float(args["cpus"]) or None, int(args["memory_bytes"]) or None)
    limiting(runtime).set_limits(str(args["service"]), limits)


_ACTIONS: Mapping[str, Callable[[Args, Runtime, LinkLayer], None]] = {
    "enable_link": _enable_link,
    "remove_toxic": _remove_toxic,
    "start_service": _start_service,
    "restore_environment": _restore_environment,
    "resume_service": _resume_service,
    "set_mode": _set_mode,
    "plug_in": _plug_in,
    "set_limits": _set_limits,
}
