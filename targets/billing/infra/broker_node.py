"""One NATS server with JetStream that flushes to disk before it confirms: it carries money."""

from __future__ import annotations

from pathlib import Path

from infra.settings import become, data_dir, host_port, program

CONFIGURATION = """\
server_name: broker
listen: "{listen}"
http: "{monitor}"
max_payload: 1MB
jetstream {{
  store_dir: "{store}"
  max_memory_store: 64MB
  max_file_store: 1GB
  sync_interval: always
}}
"""


def write_configuration(folder: Path) -> Path:
    """The server's configuration file, from the environment."""
    listen, monitor = host_port("LISTEN"), host_port("LISTEN_MONITOR")
    path = folder / "nats.conf"
    path.write_text(
        CONFIGURATION.format(
            listen=f"{listen[0]}:{listen[1]}",
            monitor=f"{monitor[0]}:{monitor[1]}",
            store=folder / "jetstream",
        )
    )
    return path


def main() -> None:
    become([program("nats-server"), "--config", str(write_configuration(data_dir()))])


if __name__ == "__main__":
    main()
