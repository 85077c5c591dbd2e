"""Broken variants of the stack: each replaces one part of one service, and starts it.

They stand beside the stack, so that the stack itself holds no switches. ``NAME.yaml`` says what is broken,
which invariant must convict it, and by which experiment.
"""
