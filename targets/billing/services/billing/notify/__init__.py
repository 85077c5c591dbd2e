"""Tells subscribers what happened to them, each event once; campaigns when nothing more urgent is due."""
