"""The services of the reference billing stack; each is a package started with ``python -m billing.NAME``.

They share ``billing.common`` and nothing else: a service never imports another one.
"""
