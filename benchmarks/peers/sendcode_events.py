"""Events, one call of `send_code` each: what `peers.publish` asks of a peer."""

from __future__ import annotations

from producer import send_code

publish = send_code
