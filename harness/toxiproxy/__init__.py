"""The link layer: what stands between two parts of a target and can be broken on purpose.

Every dependency edge of a target is one proxy of a Toxiproxy engine. The rooms inside:

    find.py      which engine this machine has: the real server, or the one built in here
    engine.py    that engine as a child process, known to be ours
    client.py    toxiproxy-python bound to one engine, with deadlines and errors that are errors
    toxics.py    every toxic as validated frozen data
    links.py     ``LinkLayer``: each change read back; a hung engine replaced
    canary.py    one harmless request through a link, timed
    proofs.py    what canaries and byte counters can prove about a fault on a link
    builtin/     an engine for machines that have nothing but Python

Nothing here knows faults, targets or services: links have names, ends and toxics, no more.
This file stays empty of imports: the built-in engine starts through it and must start fast.
"""
