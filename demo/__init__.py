"""The whole system on one machine: for the demo, benchmarks, fault harness and tests.

`story.py` is what `sendcode demo` shows, in order; `world.py` has the servers and the process
runner of all of them. May import everything but the tests; nothing imports it but benchmarks and
tests.
"""
