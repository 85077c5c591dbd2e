"""The world outside the billing stack: what others saw is the ground truth.

Nothing here may import ``billing`` (judged and judge share no code) or ``harness``. Each witness writes
what it did to an append-only log before it answers, and rebuilds its whole state from that log.
"""
