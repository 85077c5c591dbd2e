"""Taking money: a payment's intent is stored before a PSP hears of it, and nothing in doubt is guessed.

The life of a top-up: key, intent and attempt in one statement; the charge under the payment's id; the
payment's state, the stored answer and the event in one statement; then the answer. No answer from the PSP
means UNKNOWN: the client gets 202, and the resolver asks the PSP to void what was not captured, until it
says either. The second PSP is tried only once the first attempt is proved void, or never left this machine.

Other channels need no PSP: ``vouchers`` and ``agents`` settle in one transaction. ``refunds`` gives back what
a PSP took; ``callbacks`` hears what PSPs say unasked. Whatever begins something asks the gate in its own
transaction and keeps the epoch; what completes something does not.

Seams for mutants (replace one, then call ``billing.payments.service.main``):
``psp.Psp.charge`` asks for the money; ``cashier.Cashier.conclude_settled`` stands between the settling commit
and the answer; ``cashier.may_fail_over`` says when the other PSP may be tried; ``store.PaymentStore.open``,
``.settle``, ``.fail`` are the transactions; ``cashier.Cashier.take`` the flow.
"""
