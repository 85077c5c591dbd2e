"""Records come in, one by one or in files, and each is kept once.

A file is one JSON record a line. It is kept in one transaction under its name, with what became of its
lines: a record that is there already is dropped, a line that is no record is kept aside and holds up none of
the others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from billing.common import CommitInDoubt, Database, Problem, Session, after_a_write
from billing.mediation.cdr import Cdr, Unreadable, read_cdr

LONGEST_LINE_KEPT = 1000
MOST_LINES = 5000

_STORE = """
insert into cdr_raw (record_id, subscriber, service, units, started_at, visitor_of)
select * from unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[], $5::timestamptz[], $6::text[])
on conflict do nothing returning record_id"""
_STORED = """
select record_id, subscriber, service, units, started_at, visitor_of from cdr_raw
where record_id = any($1::text[])"""
_NEW_FILE = """
insert into cdr_file (name, content_hash, records, accepted, duplicates, malformed)
values ($1, $2, 0, 0, 0, 0) on conflict do nothing returning true"""
_FILE = "select content_hash, accepted, duplicates, malformed from cdr_file where name = $1"
_COUNTED = """
update cdr_file set records = $2, accepted = $3, duplicates = $4, malformed = $5 where name = $1"""
_MALFORMED = """
insert into malformed_line (file, line, reason, content)
select $1, * from unnest($2::int[], $3::text[], $4::text[])"""


@dataclass(frozen=True)
class Line:
    """A line of a file, numbered from 1; ``found`` is the record, or why it is none."""

    number: int
    text: str
    found: Cdr | str


@dataclass(frozen=True)
class Outcome:
    """What became of a file's lines: each is one of the three."""

    accepted: int
    duplicates: int
    malformed: int

    @property
    def records(self) -> int:
        return self.accepted + self.duplicates + self.malformed


def read_lines(content: bytes) -> list[Line]:
    """All lines of a file. Raises Unreadable for what is no file at all."""
    texts = content.decode(errors="replace").removesuffix("\n").split("\n")
    if not content or len(texts) > MOST_LINES:
        raise Unreadable(f"a file must have 1 to {MOST_LINES} lines, not {len(texts) if content else 0}")
    return [Line(number, text, _record_in(text)) for number, text in enumerate(texts, 1)]


def _record_in(text: str) -> Cdr | str:
    try:
        body = json.loads(text)
        return read_cdr(body) if isinstance(body, dict) else "a JSON object is expected"
    except Unreadable as error:
        return str(error)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"


async def store(database: Database, cdr: Cdr) -> None:
    """Keep a record; an identical copy changes nothing, other content under its id is a 422.

    One statement is all there is to commit, and may run twice; a record that is kept never changes.
    """
    if await database.fetch(_STORE, *([field] for field in _row(cdr)), attempts=3):
        return
    with after_a_write():
        kept = await database.fetchrow(_STORED, [cdr.record_id], attempts=2)
    if kept is None:
        raise CommitInDoubt(f"record {cdr.record_id!r} was there, and is not: a failover in between")
    if Cdr(**kept) != cdr:
        raise Problem(422, "record id reused", _reused(cdr))


async def store_file(session: Session, name: str, content: bytes) -> Outcome:
    """Keep a file; the same one again changes nothing. Other content under its name is a 422."""
    content_hash = hashlib.sha256(content).hexdigest()
    if not await session.fetchval(_NEW_FILE, name, content_hash):
        return await _kept_before(session, name, content_hash)
    lines = read_lines(content)
    records = [line.found for line in lines if isinstance(line.found, Cdr)]
    accepted, conflicting = await _store_all(session, records)
    malformed = [line for line in lines if not isinstance(line.found, Cdr) or line.found in conflicting]
    await _keep_malformed(session, name, malformed)
    outcome = Outcome(accepted, len(lines) - accepted - len(malformed), len(malformed))
    await session.execute(
        _COUNTED, name, outcome.records, outcome.accepted, outcome.duplicates, outcome.malformed
    )
    return outcome


async def _kept_before(session: Session, name: str, content_hash: str) -> Outcome:
    kept = await session.fetchrow(_FILE, name)
    if kept is None or kept["content_hash"] != content_hash:
        raise Problem(422, "file name reused", f"file {name!r} came before with other content")
    return Outcome(kept["accepted"], kept["duplicates"], kept["malformed"])


async def _store_all(session: Session, cdrs: Sequence[Cdr]) -> tuple[int, set[Cdr]]:
    """How many were new, and those whose id stands for another record, here or among them."""
    kept: dict[str, Cdr] = {}
    for cdr in cdrs:
        kept.setdefault(cdr.record_id, cdr)
    rows = [_row(kept[record_id]) for record_id in sorted(kept)]  # one order of locks for all
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(6)]
    new = await session.fetch(_STORE, *columns)
    if known := kept.keys() - {row["record_id"] for row in new}:
        kept |= {row["record_id"]: Cdr(**row) for row in await session.fetch(_STORED, sorted(known))}
    return len(new), {cdr for cdr in cdrs if kept[cdr.record_id] != cdr}


def _row(cdr: Cdr) -> tuple[object, ...]:
    return cdr.record_id, cdr.subscriber, cdr.service, cdr.units, cdr.started_at, cdr.visitor_of


async def _keep_malformed(session: Session, name: str, lines: Sequence[Line]) -> None:
    if lines:
        await session.execute(
            _MALFORMED,
            name,
            [line.number for line in lines],
            [
                _reused(line.found) if isinstance(line.found, Cdr) else line.found[:LONGEST_LINE_KEPT]
                for line in lines
            ],
            [line.text[:LONGEST_LINE_KEPT].replace("\0", "\N{REPLACEMENT CHARACTER}") for line in lines],
        )


def _reused(cdr: Cdr) -> str:
    return f"record {cdr.record_id!r} came before with other content"
