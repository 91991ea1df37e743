"""Why a frame, a message or a request is refused. One number per reason, the same on both ends and in /metrics."""

from enum import IntEnum


class ErrorCode(IntEnum):
    """Numbers are frozen (PROTOCOL.md, "Refusals"): 1.. the frame is wrong, 40.. the task failed, 60.. a parent refuses."""

    # The frames cannot be read as a message.
    WRONG_FRAME_COUNT = 1
    SHORT_HEAD = 2
    BAD_MAGIC = 3
    MAJOR_MISMATCH = 4
    BODY_TOO_LARGE = 5
    BODY_LENGTH_MISMATCH = 6
    BAD_COMPRESSION = 7
    BAD_ENCODING = 8
    UNKNOWN_KIND = 9
    MISSING_FIELD = 10
    BAD_FIELD = 11
    PAYLOAD_TOO_LARGE = 12
    UNEXPECTED_PAYLOAD = 13
    # The message is well formed, but not acceptable here and now.
    NOT_GREETED = 20
    UNEXPECTED_KIND = 21
    # A task cannot be had through the swarm.
    SOURCE_UNREACHABLE = 40
    SOURCE_NEEDS_AUTH = 41
    SOURCE_FORBIDDEN = 42
    SOURCE_NOT_FOUND = 43
    SOURCE_ERROR = 44
    SOURCE_CHANGED = 45
    DIGEST_MISMATCH = 46
    STORE_FULL = 47
    NO_SEED = 48
    TASK_CONFLICT = 49
    TOO_LARGE = 50
    CANCELLED = 51
    TIMED_OUT = 52
    NO_SUPERNODE = 53
    INTERNAL = 54
    # A parent does not send the blocks that it was asked for.
    TASK_UNKNOWN = 60
    BLOCKS_MISSING = 61
    BUSY = 62


class WireError(Exception):
    """Something about a message is wrong. `code` is what is counted and, where there is somebody to tell, sent."""

    def __init__(self, code: ErrorCode, detail: str) -> None:
        super().__init__(f"{code.name.lower().replace('_', ' ')}: {detail}")
        self.code = code
        self.detail = detail


class LocalError(WireError):
    """We tried to send what may not be sent: our bug."""


class RemoteError(WireError):
    """What arrived is not a message of this protocol: theirs. Count it and drop it; never crash on it."""
