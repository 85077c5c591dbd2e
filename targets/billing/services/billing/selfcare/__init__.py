"""What customers can reach whatever else is down: the status page, the catalogue, balance and tariff by USSD.

It stands outside the core: no database, no broker. It asks the core, keeps what it heard, and says how old
that is. What must outlast its own restart is in files of its own.
"""
