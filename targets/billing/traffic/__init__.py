"""What subscribers, switches, agents and roaming partners send, one module per kind of traffic."""
