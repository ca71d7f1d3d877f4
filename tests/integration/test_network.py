"""The network that delays, reorders and drops packets, as programs on both of its sides see it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import pytest

from tests.network import FAR, NEAR, Network, reason_against
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.skipif(reason_against() is not None, reason=str(reason_against()))

MANY = 200


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
def far(network: Network) -> Iterator[socket.socket]:
    with network.far_side():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.bind((FAR, 0))
        sock.settimeout(PATIENCE_S)
        yield sock


@pytest.fixture
def near(network: Network) -> Iterator[socket.socket]:  # noqa: ARG001 - we are on its near side
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        yield sock


def test_packets_go_both_ways(far: socket.socket, near: socket.socket) -> None:
    near.sendto(b"there", far.getsockname())
    _, back = far.recvfrom(100)
    far.sendto(b"and back", back)

    assert near.recv(100) == b"and back"
    assert back[0] == NEAR


def test_a_packet_is_delayed(network: Network, far: socket.socket, near: socket.socket) -> None:
    network.set(delay_ms=100)
    sent_at = time.monotonic()

    near.sendto(b"late", far.getsockname())
    far.recv(100)

    assert time.monotonic() - sent_at >= 0.1


def test_packets_overtake_each_other(
    network: Network, far: socket.socket, near: socket.socket
) -> None:
    network.set(jitter_ms=20)
    sent = list(range(MANY))

    for number in sent:
        near.sendto(bytes([number]), far.getsockname())
    received = [far.recv(100)[0] for _ in sent]

    assert sorted(received) == sent
    assert received != sent


def test_a_share_of_the_packets_is_lost(
    network: Network, far: socket.socket, near: socket.socket
) -> None:
    network.set(loss=0.5)
    for _ in range(MANY):
        near.sendto(b"perhaps", far.getsockname())
    network.set()
    near.sendto(b"the last", far.getsockname())

    received = 0
    while far.recv(100) != b"the last":
        received += 1

    assert 0 < received < MANY


def test_the_two_sides_can_be_divided_and_joined_again(
    network: Network, far: socket.socket, near: socket.socket
) -> None:
    network.set(loss=1)
    near.sendto(b"lost", far.getsockname())
    network.set()
    near.sendto(b"arrives", far.getsockname())

    assert far.recv(100) == b"arrives"


def test_the_caller_is_back_where_it_was_when_the_block_ends() -> None:
    before = os.readlink("/proc/thread-self/ns/net")

    with Network():
        assert os.readlink("/proc/thread-self/ns/net") != before

    assert os.readlink("/proc/thread-self/ns/net") == before
