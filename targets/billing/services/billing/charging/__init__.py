"""The ledger: double entry, balances, and event charging.

Everything that moves money here is a ``Transfer`` posted by ``ledger.post``: whole batches in one database
transaction, accounts locked in the order of their names, running balances computed under those locks. So
accounts that all traffic shares (``psp_a:cash``, ``revenue:usage``) cost one lock per batch, not per event.

Seams for mutants (replace one, then call ``billing.charging.service.main``): ``ledger.lock_accounts`` reads
the balances under their locks; ``ledger.post``; ``events.transfer_of`` turns an event into its transfer;
``credit.Till.charge_batch`` is the transaction behind ``POST /credit-control``.
"""
