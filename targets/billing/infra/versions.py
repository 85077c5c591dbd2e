"""Prints the versions of the servers as one JSON object: they belong to the evidence of a run."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
from pathlib import Path

from infra.db_node import postgres_bin_dir
from infra.etcd_node import etcd_program
from infra.settings import program


def version_of(command: str) -> str:
    """The first dotted number that ``command --version`` prints."""
    answer = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=10, check=True)
    match = re.search(r"\d+(\.\d+)+", answer.stdout)
    return match[0] if match else answer.stdout.strip()


def main() -> None:
    versions = {
        "postgres": version_of(str(Path(postgres_bin_dir()) / "postgres")),
        "patroni": importlib.metadata.version("patroni"),
        "etcd": version_of(etcd_program()),
        "nats-server": version_of(program("nats-server")),
    }
    print(json.dumps(versions))


if __name__ == "__main__":
    main()
