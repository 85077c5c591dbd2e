"""What notify tells others, and whether they have heard it."""

from __future__ import annotations

from billing.common import Service
from billing.common.reconciliation import Reconciliation

CONSUMERS = {"notice.delivered": ("invoicing",)}


def reconciliation(service: Service) -> Reconciliation:
    """All comparisons of notify, ready to run."""
    return Reconciliation(service, CONSUMERS)
