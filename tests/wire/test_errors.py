"""The refusals' numbers, which are frozen, and their words."""

from wire.errors import ErrorCode, LocalError, RemoteError, WireError

FROZEN = {
    "WRONG_FRAME_COUNT": 1,
    "SHORT_HEAD": 2,
    "BAD_MAGIC": 3,
    "MAJOR_MISMATCH": 4,
    "BODY_TOO_LARGE": 5,
    "BODY_LENGTH_MISMATCH": 6,
    "BAD_COMPRESSION": 7,
    "BAD_ENCODING": 8,
    "UNKNOWN_KIND": 9,
    "MISSING_FIELD": 10,
    "BAD_FIELD": 11,
    "PAYLOAD_TOO_LARGE": 12,
    "UNEXPECTED_PAYLOAD": 13,
    "NOT_GREETED": 20,
    "UNEXPECTED_KIND": 21,
    "SOURCE_UNREACHABLE": 40,
    "SOURCE_NEEDS_AUTH": 41,
    "SOURCE_FORBIDDEN": 42,
    "SOURCE_NOT_FOUND": 43,
    "SOURCE_ERROR": 44,
    "SOURCE_CHANGED": 45,
    "DIGEST_MISMATCH": 46,
    "STORE_FULL": 47,
    "NO_SEED": 48,
    "TASK_CONFLICT": 49,
    "TOO_LARGE": 50,
    "CANCELLED": 51,
    "TIMED_OUT": 52,
    "NO_SUPERNODE": 53,
    "INTERNAL": 54,
    "TASK_UNKNOWN": 60,
    "BLOCKS_MISSING": 61,
    "BUSY": 62,
}


def test_numbers_are_frozen() -> None:
    now = {code.name: code.value for code in ErrorCode}
    assert {name: now.get(name) for name in FROZEN} == FROZEN


def test_an_error_says_its_code_in_words() -> None:
    error = RemoteError(ErrorCode.BAD_FIELD, "HELLO.role is 7")
    assert str(error) == "bad field: HELLO.role is 7"
    assert (error.code, error.detail) == (ErrorCode.BAD_FIELD, "HELLO.role is 7")


def test_ours_and_theirs_are_told_apart() -> None:
    assert issubclass(LocalError, WireError)
    assert issubclass(RemoteError, WireError)
    assert not issubclass(LocalError, RemoteError)
