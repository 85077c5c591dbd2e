"""What was seen: the run folder, the final state and the witnesses' logs, and all of it as tables.

Nothing here knows what is right or wrong; that is ``harness.check``.
"""
