"""The ledger, balances, event charging and credit control sessions.

Everything that moves money here is a ``Transfer``: whole batches in one database transaction, accounts
locked in the order of their names, running balances computed under those locks. So accounts that all traffic
shares (``psp_a:cash``, ``revenue:usage``) cost one lock per batch, not per event.

Events of other services come by ``events`` and ``ledger.post``. What clients ask comes by ``till``, which
locks ``books`` for a batch of ``requests`` and has ``credit`` and ``sessions`` decide them; ``expiry`` ends
sessions that were given up.

Seams for mutants (replace one, then call ``billing.charging.service.main``): ``ledger.lock_accounts`` reads
the balances under their locks; ``ledger.post``; ``events.transfer_of`` turns an event into its transfer;
``till.Till.serve_batch`` is the transaction behind ``POST /credit-control``; ``till.admit`` asks the gate;
``books.Books.end`` charges a grant; ``expiry.Expiry.sweep`` ends what was given up.
"""
