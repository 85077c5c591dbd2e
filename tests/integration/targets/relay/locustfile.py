"""One kind of operation: a request that goes through two services."""

from __future__ import annotations

from harness.load.workload import Op, Workload, operation


class RelayWorkload(Workload):
    @operation("relay")
    def relay(self, op: Op) -> None:
        op.request("GET", "/relay")
