"""The gate of the committing transaction: no money moves in a lockdown, whoever asks and from wherever.

``public.admit(work)`` in the database is the gate: call it in the transaction that moves money. It gives the
epoch of the mode in force, to be kept with what it admitted, or refuses. Requests and workers ask alike; what
a node knew before it was cut off does not count.
"""

from __future__ import annotations

import asyncpg

from billing.common.database import Session

REFUSED = "LQ503"  # the SQLSTATE that ``public.admit`` raises


async def admit(session: Session, work: str = "money") -> int:
    """The epoch under which this transaction may move money. Raises an error that ``is_lockdown`` knows."""
    epoch: int = await session.fetchval("select public.admit($1)", work)
    return epoch


def is_lockdown(error: BaseException) -> bool:
    """Whether the gate refused: the transaction did nothing, and will not before the lockdown is lifted."""
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate == REFUSED
