"""One question to an image: a container that prints its answer and is gone."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from harness.errors import EnvironmentBroken
from harness.target.docker.endpoint import Docker, asking

MOST_BYTES = 10_000
LONGEST_S = 30.0


def output_of(
    docker: Docker, ref: str, command: Sequence[str], entrypoint: Sequence[str] | None = None
) -> str:
    """What it prints, without a network; the engine removes the container when it ends, even if nobody
    waits for it any more. Raises EnvironmentBroken when it cannot be started, says too much or does not
    end."""
    api = docker.api
    question = " ".join(command)
    with asking(f"ask image {ref} with {question!r}"):
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
        with _gone_afterwards(docker, container) as late:
            answer = api.attach(container, stdout=True, stderr=True, stream=True)
            api.start(container)
            said = b""
            for part in answer:
                said += part
                if len(said) > MOST_BYTES:
                    raise EnvironmentBroken(f"image {ref} answers {question!r} without an end")
        if late.is_set():
            raise EnvironmentBroken(f"image {ref} has not answered {question!r} within {LONGEST_S:.0f} s")
        return said.decode(errors="replace").strip()


@contextmanager
def _gone_afterwards(docker: Docker, container: str) -> Iterator[threading.Event]:
    """Remove the container at the end, or after LONGEST_S: then the event is set, and what it prints ends."""
    late = threading.Event()

    def remove() -> None:
        with suppress(EnvironmentBroken), asking("remove it"):  # gone already, or going
            docker.api.remove_container(container, force=True)

    def remove_late() -> None:
        late.set()
        remove()

    limit = threading.Timer(LONGEST_S, remove_late)
    limit.daemon = True
    limit.start()
    try:
        yield late
    finally:
        limit.cancel()
        limit.join()  # it may be at it
        remove()
