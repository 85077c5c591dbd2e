"""What charging tells others, and whether they have heard it."""

from __future__ import annotations

from billing.common import Service
from billing.common.reconciliation import Reconciliation

CONSUMERS = {"quota.threshold": ("notify",)}


def reconciliation(service: Service) -> Reconciliation:
    """All comparisons of charging, ready to run."""
    return Reconciliation(service, CONSUMERS)
