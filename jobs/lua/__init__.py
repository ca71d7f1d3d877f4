"""The ledger's Lua scripts. Each opens with what it does, its arguments and its reply.

`shared/` has what they share, by what it is about.
"""
