"""Traffic: open-loop load by Locust in a process of its own, recorded by the client that sends it.

The way of an operation: ``schedule`` (pure) decides from the seed what is due when; ``engine`` hands
it at that instant to an idle Locust user; the target's locustfile (``workload``) performs it;
``recorder`` writes one row. ``driver`` is the harness's end: it starts, watches and stops the child.
Only ``child``, ``engine``, ``workload`` import Locust, which patches the whole process.
"""
