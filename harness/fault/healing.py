"""Carrying out a healing: data in, the system put right. Each action may be done twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import requests

from harness.errors import EnvironmentBroken
from harness.evidence.healing import Healing
from harness.fault.abilities import limiting, unplugging
from harness.out_of_band import ask
from harness.target.runtime import Limits, Runtime
from harness.toxiproxy.links import LinkLayer

PATIENCE_S = 20.0
TRY_S = 5.0  # for one answer
PAUSE_S = 0.2
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


def _resume_service(args: Args, runtime: Runtime, links: LinkLayer) -> None:
    service = str(args["service"])
    if runtime.state(service).status == "paused":
        runtime.resume(service)


def _set_mode(args: Args, runtime: Runtime, links: LinkLayer) -> None:
    """Asked again while it fails: the service may be just what another fault has taken away."""
    url, body = str(args["url"]), {"mode": args["mode"], "reason": args["reason"]}
    deadline = time.monotonic() + PATIENCE_S
    while (problem := _put(url, body)) is not None:
        if time.monotonic() >= deadline:
            raise EnvironmentBroken(f"mode {args['mode']} could not be set in {PATIENCE_S:g} s: {problem}")
        time.sleep(PAUSE_S)


def _plug_in(args: Args, runtime: Runtime, links: LinkLayer) -> None:
    unplugging(runtime).plug_in(str(args["service"]))


def _set_limits(args: Args, runtime: Runtime, links: LinkLayer) -> None:
    limits = Limits(float(args["cpus"]) or None, int(args["memory_bytes"]) or None)
    limiting(runtime).set_limits(str(args["service"]), limits)


def _put(url: str, body: Args) -> str | None:
    """What went wrong; None when it was done."""
    try:
        answer = ask("PUT", url, json=body, timeout_s=TRY_S)
    except requests.RequestException as error:
        return f"{type(error).__name__}: {error}"
    return None if answer.ok else f"{answer.status_code} {answer.text[:200]}"


_ACTIONS: Mapping[str, Callable[[Args, Runtime, LinkLayer], None]] = {
    "enable_link": _enable_link,
    "remove_toxic": _remove_toxic,
    "start_service": _start_service,
    "resume_service": _resume_service,
    "set_mode": _set_mode,
    "plug_in": _plug_in,
    "set_limits": _set_limits,
}
