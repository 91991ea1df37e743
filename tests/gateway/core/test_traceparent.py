"""The client's trace id, or a new one."""

import pytest

from gateway.core.traceparent import trace_id

_ID, _PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("value", "is_taken"),
    [
        (f"00-{_ID}-{_PARENT}-01", True),
        (f" 00-{_ID}-{_PARENT}-00 ", True),
        (f"cc-{_ID}-{_PARENT}-01-what-comes", True),
        (f"00-{_ID}-{_PARENT}-01-what-comes", False),
        (f"ff-{_ID}-{_PARENT}-01", False),
        (f"00-{'0' * 32}-{_PARENT}-01", False),
        (f"00-{_ID}-{'0' * 16}-01", False),
        (f"00-{_ID.upper()}-{_PARENT}-01", False),
        (f"00-{_ID[:-1]}-{_PARENT}-01", False),
        ("", False),
        ("x\r\nSet-Cookie: y", False),
    ],
)
def test_a_traceparent_is_taken_if_it_is_one(value: str, is_taken: bool) -> None:
    assert trace_id((("Traceparent", value),), "fresh") == (_ID if is_taken else "fresh")


def test_without_one_it_is_new() -> None:
    assert trace_id((), "fresh") == "fresh"
