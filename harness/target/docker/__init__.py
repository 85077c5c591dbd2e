"""The Docker runtime: a target's services as containers, its links as proxies in a container of their own.

Everything made carries the run's label (``labels``); nothing else is ever touched. The harness reaches
containers at their own addresses, so it runs on the engine's machine; no port is published.
"""
