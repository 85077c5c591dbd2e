"""The built-in engine: Toxiproxy's HTTP API and toxics, in Python's standard library alone.

For machines that have nothing but Python. It is a server of its own (``python -m
harness.toxiproxy.builtin``), spoken to like the real one, and passes the same conformance suite.

    stages.py   one class per toxic: what it does to the chunks of one direction of one connection
    lane.py     one direction of one connection; its end towards each socket
    proxy.py    a listening link and its connections
    engine.py   all proxies, their toxics, the byte counters
    routes.py   the HTTP API
    http.py     as much HTTP as that needs

Differences from the real server, on purpose: values that crash the real one are refused with 400;
removing a toxic never waits for a reader that does not read, and a triggered ``reset_peer`` runs to
its end without holding up the request that removes it; an address already taken ends the process.
"""

VERSION = "2.12.0-builtin"  # of the API it speaks
