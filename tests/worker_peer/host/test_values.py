"""1.x's value syntaxes, to the letter."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_peer.host import values
from worker_peer.host.values import Node


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("20MB", 20 << 20),
        ("20M", 20 << 20),
        ("20m", 20 << 20),
        ("64K", 64 << 10),
        ("64KB", 64 << 10),
        ("64k", 64 << 10),
        ("1G", 1 << 30),
        ("1GB", 1 << 30),
        ("1g", 1 << 30),
        ("512B", 512),
        ("0", 0),
        ("1000", 1000),
        (0, 0),
        (4096, 4096),
    ],
)
def test_rates(text: str | int, rate: int) -> None:
    assert values.parse_rate(text) == rate


@pytest.mark.parametrize(
    "text",
    [
        "20mb",
        "20Kb",
        "20kB",
        "1.5MB",
        "20 MB",
        " 20MB",
        "20MB\n",
        "10MiB",
        "-1",
        -1,
        "",
        "MB",
        "b",
        "1b",
        "٣MB",
        True,
        "9" * 19 + "G",
        "9" * 5000,
    ],
)
def test_no_rates(text: str | int) -> None:
    with pytest.raises(ValueError, match="is no rate: write a whole number"):
        values.parse_rate(text)


@pytest.mark.parametrize(
    ("rate", "text"), [(20 << 20, "20MB"), (64 << 10, "64KB"), (0, "0B"), (1000, "1000B"), (3 << 30, "3GB"), (1536, "1536B")]
)
def test_rates_are_printed_with_the_largest_exact_unit(rate: int, text: str) -> None:
    assert values.format_rate(rate) == text


@given(st.integers(0, (1 << 63) - 1))
def test_a_printed_rate_reads_back(rate: int) -> None:
    assert values.parse_rate(values.format_rate(rate)) == rate


@pytest.mark.parametrize(
    ("text", "size"), [("5G", 5 << 30), ("5GB", 5 << 30), ("100M", 100 << 20), ("1K", 1024), ("10B", 10), (7, 7), ("7", 7)]
)
def test_sizes(text: str | int, size: int) -> None:
    assert values.parse_size(text) == size


@pytest.mark.parametrize("text", ["5g", "5m", "5k", "5gb", "1.5G", "-1", ""])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        values.parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3m0s", 180),
        ("300ms", 0.3),
        ("1h", 3600),
        ("1.5h", 5400),
        ("-1s", -1),
        ("+2s", 2),
        ("0", 0),
        ("0s", 0),
        ("1h2m3.5s", 3723.5),
        ("5us", 5e-06),
        ("5µs", 5e-06),
        ("5μs", 5e-06),
        ("7ns", 7e-09),
        (".5s", 0.5),
        ("1.s", 1),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert values.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "3", "3 s", "s", ".s", "3x", "1d", "--1s", "1m-1s", "3m0", "1e3s", "9" * 30 + "h", "inf", "3S"]
)
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no duration|is too long"):
        values.parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    # What Go's time.Duration.String prints.
    [
        (180, "3m0s"),
        (3600, "1h0m0s"),
        (0.3, "300ms"),
        (1.5, "1.5s"),
        (0, "0s"),
        (-1, "-1s"),
        (1e-06, "1µs"),
        (0.0015, "1.5ms"),
        (5e-09, "5ns"),
        (3723.25, "1h2m3.25s"),
        (59.999, "59.999s"),
        (60, "1m0s"),
        (1e-12, "0s"),
        (-1e-12, "0s"),
    ],
)
def test_durations_are_printed_as_go_does(seconds: float, text: str) -> None:
    assert values.format_duration(seconds) == text


@given(st.integers(-(10**15), 10**15))
def test_a_printed_duration_reads_back(microseconds: int) -> None:
    seconds = microseconds / 1e6
    assert values.parse_duration(values.format_duration(seconds)) == pytest.approx(seconds, rel=1e-12, abs=1e-9)


def test_nodes() -> None:
    assert values.parse_nodes("10.0.0.10=1") == [Node(host="10.0.0.10", port=8002, weight=1)]
    assert values.parse_nodes("a:80=4, b=6,[fd00::1]:9=2,[::1]") == [
        Node(host="a", port=80, weight=4),
        Node(host="b", port=8002, weight=6),
        Node(host="fd00::1", port=9, weight=2),
        Node(host="::1", port=8002, weight=1),
    ]
    assert [node.weight for node in values.parse_nodes("a=4,b=6,c=2")] == [2, 3, 1]
    assert [node.endpoint for node in values.parse_nodes("a,[::1]:7")] == ["a:8002", "[::1]:7"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a,,b",
        ":80",
        "a:",
        "a:=1",
        "a:80:90",
        "a=1=2",
        "a=",
        "a=0",
        "a=-1",
        "a=x",
        "a=1.5",
        "a:0",
        "a:65536",
        "a:http",
        "fd00::1",
        "[]",
        "[a]:1",
        "http://a",
        "a b",
        "a=1000001",
        "=1",
    ],
)
def test_no_nodes(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no node: (write host\[:port\]\[=weight\]|its port must|its weight must|brackets)"):
        values.parse_nodes(text)


def test_expanded_nodes_are_all_of_them_once_and_by_weight() -> None:
    nodes = values.parse_nodes("a=3,b=1,a:8002=2,c=1")
    rng = random.Random(7)
    orders = [values.expand_nodes(nodes, rng) for _ in range(4000)]
    assert {tuple(sorted(order)) for order in orders} == {("a:8002", "b:8002", "c:8002")}
    first = Counter(order[0] for order in orders)
    # a has 5 of 7 parts. A generator with a fixed seed: this is no matter of luck.
    assert first["a:8002"] / 4000 == pytest.approx(5 / 7, abs=0.03)
    assert first["b:8002"] / 4000 == pytest.approx(1 / 7, abs=0.03)
    assert values.expand_nodes(nodes, random.Random(3)) == values.expand_nodes(nodes, random.Random(3))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("0", None),
        ("0B", None),
        ("0mbit", None),
        ("auto", 0),
        ("1gbit", 125_000_000),
        ("100Mbit", 12_500_000),
        ("64kbit", 8000),
        ("120MB", 120 << 20),
        ("125000000", 125_000_000),
    ],
)
def test_a_links_rate_is_a_rate_or_bits_or_learned(text: str, expected: int | None) -> None:
    assert values.parse_link_rate(text) == expected


@pytest.mark.parametrize("text", ["fast", "1 gbit", "-1mbit", "1.5gbit", "100mb", "1gbit/s"])
def test_a_links_rate_that_is_none_says_what_may_be_written(text: str) -> None:
    with pytest.raises(ValueError, match="1gbit, 100mbit, a rate as 120MB, or auto"):
        values.parse_link_rate(text)
