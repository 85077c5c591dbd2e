"""What all services of the stack share. The public API; everything else is a detail.

A service, from ``billing/NAME/__main__.py`` (calls ``main()`` of ``billing.NAME.service``)::

    service = Service("notify", limits=Limits(size=10))   # reads the environment
    service.app.add_routes([...])                  # aiohttp handlers; raise Problem to say no
    service.consume(["payment.settled"], handle)   # durable "notify"; handle(session, events)
    service.background("delivery", delivery.run)   # coroutine function, restarted when it fails
    service.run()                                  # until SIGTERM; drains

``Service``: ``.settings .log .metrics .database .broker .outbox .relay .app``;
``.client(name, "GATEWAY", timeout_s=1.0, attempts=3) -> HttpClient``; ``.open_database("REPLICA", limits)``;
``.on_close(async_fn)``. It serves ``/live /ready /metrics`` and ``POST /dlq/replay`` and runs the relay.

``Database``: ``await .fetch/.fetchrow/.fetchval/.execute(sql, *args, attempts=1)``, each its own
transaction (``attempts=2`` only for what may run twice); ``async with .transaction() as session``;
``await .run(work)`` calls ``work(session)`` in a transaction and repeats it when the database failed before
the commit. ``Session``: ``fetch fetchrow fetchval execute executemany after_commit(fn)``; PostgreSQL
placeholders ``$1``; ``jsonb`` goes in and comes out as text. Do no other I/O inside a transaction.
Errors: ``Unavailable`` (nothing was sent; answered as 503 with Retry-After), ``CommitInDoubt`` (504),
``is_infrastructure(error)``: the database's fault rather than the data's. ``with after_a_write()``: what
follows a write must not promise, by ``Unavailable``, that nothing was done. Retries keep to a budget.

``await admit(session) -> epoch`` in each transaction that moves a subscriber's money; ``is_lockdown(error)``:
the gate refused, which leaves a handler as 503 with Retry-After (only where nothing was done before).

``Outbox.add(session, subject, payload, event_id=None) -> UUID`` in the transaction of the effect; the relay
is woken at the commit; ``add_all(session, subject, [(event_id, payload), ...])`` in one statement.
``event_json(event_id, payload)`` and ``outbox.wake()`` serve those who insert by SQL.

``Consumer``: ``handle(session, events)`` gets the *new* events of a batch, in the transaction that also has
their inbox rows. ``Event``: ``id subject payload``. Raise to fail an event: after 8 attempts it is parked;
database failures count as none.

``HttpClient.call(method, path, body=None, headers=None, attempts=None, timeout_s=None)`` gives
``Answer(status, body, headers)``; retries 5xx, 429 and silence with full jitter within a budget;
``CallFailed.may_have_arrived``. Counters ``<name>.attempts``, ``<name>.retries``.

``await all_ended(calls)``: the results of many at once, of which none is left running when one fails.

``Problem(status, title, detail, retry_after_s=None, **more)``, ``refused(title, detail)`` = 503 with
Retry-After; ``json_object(request)``, ``whole_number(body, name, at_least=)``, ``text_field(body, name)``;
``instant_field(body, name)``, ``query_number(request, name)``, ``path_period(request)``;
``require_key(request)``, ``fingerprint(operation, payload)``, ``key_reused(key)``, ``key_in_progress(key)``.

Seams for mutants (replace from outside, then run the service's ``main``): ``Outbox.add``,
``Relay.relay_batch``, ``Consumer.work`` and ``.apply``, ``HttpClient._once``, ``database.is_spoiled``,
``Database._suspect_all``, ``http_client.backoff_s``, ``RetryBudget.take``.
"""

from billing.common.admission import admit, is_lockdown
from billing.common.app import Service
from billing.common.asked import (
    PERIOD,
    instant_field,
    json_object,
    path_period,
    query_number,
    read_instant,
    text_field,
    whole_number,
)
from billing.common.backoff import RetryBudget, backoff_s
from billing.common.bell import Bell
from billing.common.consumer import UNHURRIED_S, Consumer, Event
from billing.common.database import (
    CommitInDoubt,
    Database,
    Limits,
    Record,
    Session,
    Unavailable,
    after_a_write,
    is_infrastructure,
)
from billing.common.http_client import Answer, CallFailed, HttpClient
from billing.common.idempotency import fingerprint, key_in_progress, key_reused, require_key
from billing.common.log import Log, describe
from billing.common.metrics import Metrics
from billing.common.outbox import Outbox, event_json
from billing.common.problems import Problem, refused
from billing.common.settings import Settings
from billing.common.together import all_ended

__all__ = [
    "PERIOD",
    "UNHURRIED_S",
    "Answer",
    "Bell",
    "CallFailed",
    "CommitInDoubt",
    "Consumer",
    "Database",
    "Event",
    "HttpClient",
    "Limits",
    "Log",
    "Metrics",
    "Outbox",
    "Problem",
    "Record",
    "RetryBudget",
    "Service",
    "Session",
    "Settings",
    "Unavailable",
    "admit",
    "after_a_write",
    "all_ended",
    "backoff_s",
    "describe",
    "event_json",
    "fingerprint",
    "instant_field",
    "is_infrastructure",
    "is_lockdown",
    "json_object",
    "key_in_progress",
    "key_reused",
    "path_period",
    "query_number",
    "read_instant",
    "refused",
    "require_key",
    "text_field",
    "whole_number",
]
