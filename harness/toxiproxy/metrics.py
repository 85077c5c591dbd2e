"""The byte counters of an engine: reading its ``/metrics`` page (Prometheus text format).

Only the two counters that Toxiproxy keeps per proxy are read; everything else on the page is passed
over. Label values may hold any character, quoted by a backslash.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE = re.compile(r"^toxiproxy_proxy_(received|sent)_bytes_total\{(.*)\}\s+(\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True)
class LinkBytes:
    """Bytes on one link. ``up``: client to server; ``received``: read from a socket, ``sent``: written.

    The engine adds a connection's bytes when that connection closes, not before.
    """

    received_up: int = 0
    sent_up: int = 0
    received_down: int = 0
    sent_down: int = 0

    def __sub__(self, other: LinkBytes) -> LinkBytes:
        return LinkBytes(
            self.received_up - other.received_up,
            self.sent_up - other.sent_up,
            self.received_down - other.received_down,
            self.sent_down - other.sent_down,
        )


def read(page: str) -> dict[str, LinkBytes]:
    """Bytes by proxy name, summed over the addresses that a proxy has had."""
    sums: dict[str, dict[str, int]] = {}
    for line in page.splitlines():
        if match := _LINE.match(line):
            labels = {key: _ESCAPED.sub(_unescape, value) for key, value in _LABEL.findall(match[2])}
            field = f"{match[1]}_{'up' if labels['direction'] == 'upstream' else 'down'}"
            row = sums.setdefault(labels["proxy"], {})
            row[field] = row.get(field, 0) + round(float(match[3]))
    return {name: LinkBytes(**row) for name, row in sums.items()}


def _unescape(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]
