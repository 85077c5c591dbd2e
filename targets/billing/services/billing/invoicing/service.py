"""The HTTP side of invoicing, and its start."""

from __future__ import annotations

from billing.common import Limits, Service


def main() -> None:
    service = Service("invoicing", limits=Limits(size=6))
    service.run()
