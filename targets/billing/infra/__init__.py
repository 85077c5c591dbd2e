"""The machinery under the billing services: the database pair, its consensus store, the broker.

Each ``*_node`` module prepares a configuration from its environment and then *becomes* the server
(exec), so that signals reach it. Nothing here may import ``harness``.
"""
