"""Tells subscribers what became of their payments, each event once."""
