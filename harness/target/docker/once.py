"""One question to an image: a container that prints its answer and is gone."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from docker.errors import APIError

from harness.errors import EnvironmentBroken
from harness.target.docker.endpoint import Docker, asking

LONGEST = 10_000


def output_of(
    docker: Docker, ref: str, command: Sequence[str], entrypoint: Sequence[str] | None = None
) -> str:
    """What it prints, without a network; the engine removes the container when it ends, even if nobody
    waits for it any more. Raises EnvironmentBroken when it cannot be started."""
    api = docker.api
    with asking(f"ask image {ref} with {' '.join(command)!r}"):
        container = api.create_container(
            ref,
            command=list(command),
            entrypoint=list(entrypoint) if entrypoint is not None else None,
            host_config=api.create_host_config(
                auto_remove=True,
                network_mode="none",
                read_only=True,
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
            ),
        )["Id"]
        try:
            answer = api.attach(container, stdout=True, stderr=True, stream=True)
            api.start(container)
            said = b""
            for part in answer:
                said += part
                if len(said) > LONGEST:
                    raise EnvironmentBroken(f"image {ref} answers {' '.join(command)!r} without an end")
            return said.decode(errors="replace").strip()
        finally:
            with suppress(APIError):  # gone already, or going
                api.remove_container(container, force=True)
