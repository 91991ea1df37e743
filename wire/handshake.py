"""What two ends agree on when they meet. A minor only adds, so the lower one holds; another major is refused by name."""

from wire.errors import ErrorCode
from wire.messages import Hello, Refused
from wire.version import PROTOCOL


def agree(hello: Hello) -> tuple[int, int] | Refused:
    """The version that the connection speaks, or the refusal to send back."""
    major, minor = hello.protocol
    if major != PROTOCOL[0]:
        return Refused(
            code=ErrorCode.MAJOR_MISMATCH,
            message=(
                f"you speak protocol {major}.{minor}, this end {PROTOCOL[0]}.{PROTOCOL[1]}: run the same release on both ends"
            ),
            majors=(PROTOCOL[0], PROTOCOL[0]),
        )
    return (major, min(minor, PROTOCOL[1]))
