"""The numbers that both ends mean the same by are frozen."""

from enum import IntEnum

import pytest

from wire.vocabulary import Kind, LeaveReason, Origin, PieceFailure, Role, TaskState

FROZEN: dict[type[IntEnum], dict[str, int]] = {
    Kind: {
        "HELLO": 1,
        "WELCOME": 2,
        "REFUSED": 3,
        "REGISTER": 4,
        "TASK": 5,
        "LEASE": 6,
        "REPORT": 7,
        "LEAVE": 8,
        "ALIVE": 9,
        "NOT_KNOWN": 10,
        "FETCH": 11,
        "SEEDED": 12,
        "SEED_FAILED": 13,
        "DROP": 14,
        "WARM": 15,
        "WARMED": 16,
        "CACHE_LIST": 17,
        "CACHE_PAGE": 18,
        "KEEP": 19,
        "COLLECT": 20,
        "GET_BLOCKS": 32,
        "BLOCKS": 33,
        "NO_BLOCKS": 34,
        "HAVE": 48,
        "DOWNLOAD": 64,
        "PROGRESS": 65,
        "FINISHED": 66,
        "CANCEL": 67,
        "PLACED": 68,
    },
    Role: {"PEER": 0, "SEED": 1},
    TaskState: {"PROBING": 0, "CACHING": 1, "CACHED": 2, "DEAD": 3},
    Origin: {"SOURCE": 0, "SEED": 1, "PEER": 2, "DISK": 3},
    PieceFailure: {"STALLED": 0, "REFUSED": 1, "DIGEST": 2, "GONE": 3},
    LeaveReason: {"CANCELLED": 0, "EVICTED": 1, "FAILED": 2},
}


@pytest.mark.parametrize("members", FROZEN, ids=lambda members: members.__name__)
def test_numbers_are_frozen(members: type[IntEnum]) -> None:
    now = {member.name: member.value for member in members}
    assert {name: now.get(name) for name in FROZEN[members]} == FROZEN[members]
