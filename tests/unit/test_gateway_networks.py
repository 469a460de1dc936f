"""`clients.gateway.networks`: where a peer is, and whether that is allowed."""

from __future__ import annotations

import pytest

from clients.gateway.errors import ConfigError
from clients.gateway.networks import address_of, admits, counted_as, is_local, networks_of


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.1.2.3", True), ("10.1.2.4", False), ("10.2.99.1", True), ("::ffff:10.1.2.3", True), ("fd00::1", True),
        ("127.0.0.1", False), ("nonsense", False), ("", False),
    ],
)  # fmt: skip
def test_who_is_in_a_network(address: str, expected: bool) -> None:
    assert admits(networks_of("x", ("10.1.2.3", "10.2.0.0/16", "fd00::/8")), address) is expected


@pytest.mark.parametrize("entry", ["ten", "10.1.2.0/33", "", "10.1.2.3:104", "example.org"])
def test_what_is_no_network_is_named(entry: str) -> None:
    with pytest.raises(ConfigError, match=r"dicom\.allow_addresses"):
        networks_of("dicom.allow_addresses", ("10.0.0.0/8", entry))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True), ("10.0.0.1", False),
        ("fe80::1%eth0", False), ("", False),
    ],
)  # fmt: skip
def test_what_is_this_machine(address: str, expected: bool) -> None:
    assert is_local(address) is expected


def test_a_machine_is_counted_once() -> None:
    assert counted_as("10.0.0.1") == counted_as("::ffff:10.0.0.1") == "10.0.0.1"
    assert (
        counted_as("2001:db8:1:2:3::4") == counted_as("2001:db8:1:2:ffff::9") != counted_as("2001:db8:1:3::4")
    )
    assert counted_as("fe80::1%eth0") == counted_as("fe80::2%eth0")
    assert counted_as("2001:db8:1:2:3:4:5:6") == "2001:db8:1:2::/64"
    assert (counted_as("no address"), address_of("no address")) == ("no address", None)
