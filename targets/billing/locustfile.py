"""The load on the reference billing stack: what subscribers, switches and roaming partners send.

The contract, and what is recorded of each kind, is in INTERFACES.md beside this file. The kinds are those
that ``compose.yaml`` groups into functions; ``traffic/`` has one module for each sort of them.
"""

from __future__ import annotations

from traffic.charging import ChargingTraffic
from traffic.payments import PaymentTraffic
from traffic.roaming import RoamingTraffic
from traffic.selfcare import SelfcareTraffic
from traffic.usage import UsageTraffic


class BillingWorkload(PaymentTraffic, ChargingTraffic, UsageTraffic, RoamingTraffic, SelfcareTraffic):
    """All of it, in one Locust user."""
