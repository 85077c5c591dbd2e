"""Carrying out a healing: data in, the system put right. Each action may be done twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import requests

from harness.errors import EnvironmentBroken
from harness.evidence.healing import Healing
from harness.target.runtime import Runtime
from harness.toxiproxy.links import LinkLayer

PATIENCE_S = 20.0


def heal(healing: Healing, runtime: Runtime, links: LinkLayer) -> None:
    """Undo one thing. Raises LinkError or EnvironmentBroken when it cannot be undone."""
    _ACTIONS[healing.action](healing.args, runtime, links)


Args = Mapping[str, str | int | float]


def _enable_link(args: Args, runtime: Runtime, links: LinkLayer) -> None:
    links.set_enabled(str(args["link"]), True)


def _remove_toxic(args: Args, runtime: Runtime, links: LinkLayer) -> None:
    links.remove_toxic(str(args["link"]), str(args["toxic"]))


def _start_service(args: Args, runtime: Runtime, links: LinkLayer) -> None:
    service = str(args["service"])
    if runtime.state(service).status not in ("running", "paused"):
        runtime.start(service)


def _resume_service(args: Args, runtime: Runtime, links: LinkLayer) -> None:
    service = str(args["service"])
    if runtime.state(service).status == "paused":
        runtime.resume(service)


def _set_mode(args: Args, runtime: Runtime, links: LinkLayer) -> None:
    body = {"mode": args["mode"], "reason": args["reason"]}
    answer = requests.put(str(args["url"]), json=body, timeout=PATIENCE_S)
    if not answer.ok:
        raise EnvironmentBroken(f"mode {args['mode']} was refused: {answer.status_code} {answer.text[:200]}")


_ACTIONS: Mapping[str, Callable[[Args, Runtime, LinkLayer], None]] = {
    "enable_link": _enable_link,
    "remove_toxic": _remove_toxic,
    "start_service": _start_service,
    "resume_service": _resume_service,
    "set_mode": _set_mode,
}
