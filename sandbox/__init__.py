"""A stand-in for the SendVerifyCode API that is as strict as the real one.

It verifies the TC3 signature itself, counts every request on arrival, refuses what the API
refuses, and misbehaves on demand: by magic number (`sandbox.numbers`), by chance (`--fault`) or
for the whole account (`POST /_sandbox/settings`). It is a test double: it keeps full numbers in
memory, shows them under `/_sandbox/` only to callers on this machine, and logs nothing.
"""
