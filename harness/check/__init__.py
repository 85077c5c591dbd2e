"""Judging: from the evidence of a run folder to its verdict, and nothing else.

Pure over the folder, so a stored run can be judged again without its target; whatever talks to a
target, a proxy or the load generator may not come in. A checker that breaks is inconclusive.
"""
