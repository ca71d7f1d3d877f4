"""The whole system on one machine: for the demo, benchmarks, fault harness and tests.

`story.py` has what `sendcode demo` tells, in order; `world.py` and `process.py` are the one world
and the one process runner of all of them. May import everything but the tests; nothing imports it
but benchmarks and tests.
"""
