"""Acts on a real ledger."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from jobs.batches import Batches
from jobs.keys import Keys
from jobs.ledger import Ledger
from tests.ledger_acts import Acts
from tests.ledger_checks import check_ledger


@pytest.fixture
def acts(ledger: Ledger, batches: Batches, redis: Redis, keys: Keys) -> Iterator[Acts]:
    """All that can be done to the ledger; whatever the test did, it must be consistent then."""
    yield Acts(ledger, batches, redis, keys)
    check_ledger(redis, keys)
