"""The ledger, balances, event charging and credit control sessions.

Everything that moves money here is a ``Transfer``, posted in batches by the database's function
``charging.post``: accounts are locked in the order of their names, balances computed under those locks.
So accounts that all traffic shares (``psp_a:cash``, ``revenue:usage``) cost one lock a batch, not an event.

Events of other services come by ``events`` and ``ledger.post``. What clients ask comes by ``till``, which has
``credit`` and ``sessions`` decide a batch of ``requests`` in memory, on ``books``; ``batches`` reads these,
and writes what was decided if they still stand. ``expiry`` ends sessions that were given up.

Seams for mutants (replace one, then call ``billing.charging.service.main``): ``ledger.post``;
``events.transfer_of`` turns an event into its transfer; ``till.Till.serve_batch`` is the transaction behind
``POST /credit-control``; ``batches.batch_of`` says what is written, and what must still stand (``written``,
``accounts``) or be asked (``epoch``) for that; ``books.Books.end`` charges a grant; ``expiry.Expiry.sweep``
ends what was given up.
"""
