"""What edge tells others, and whether they have heard it."""

from __future__ import annotations

from billing.common import Service
from billing.common.reconciliation import Reconciliation

CONSUMERS = {"ops.outage.ended": ("invoicing",)}


def reconciliation(service: Service) -> Reconciliation:
    """All comparisons of edge, ready to run."""
    return Reconciliation(service, CONSUMERS)
