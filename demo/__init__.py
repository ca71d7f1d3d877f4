"""The whole system on one machine: for the demo, benchmarks, fault harness and tests.

`story.py` is what `sendcode demo` shows, in order; `world.py` has the servers and the process
runner that they share. May import everything except tests; only benchmarks and tests import it.
"""
