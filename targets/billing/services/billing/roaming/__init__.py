"""Settles with roaming partners: TAP files out and in, one settlement per partner, period and direction."""
