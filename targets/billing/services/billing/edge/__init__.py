"""The front door: all client traffic, the operating mode, and the status page.

Edge adds no outcome of its own: what a service says passes through, and a service that does not answer
becomes 502 or 504, which promise nothing. It serves from memory whatever is down: the mode it knew last,
the announcements, the status.

Seams for mutants (replace one, then call ``billing.edge.service.main``): ``mode.Modes.refusal`` decides
what the mode lets through; ``forward.Upstream.send`` carries a request.
"""
