"""Messages to and from msgpack bodies. A body is a map of field names; unknown names are skipped, known ones are checked."""

from dataclasses import MISSING, fields
from typing import Any, Final

import msgpack

from wire.errors import ErrorCode, LocalError, RemoteError
from wire.fields import SPEC, FieldError, Spec
from wire.messages import MESSAGES, Kind, Message

#: Bytes of a body once inflated. A lease with the digests of 65,536 blocks is the largest that occurs.
MAX_BODY_BYTES: Final = 4 << 20
#: Longest list and most entries of a map, of known and unknown fields alike: a list's memory is taken when its length is
#: read, so a length that no field allows must not be believed.
MAX_LIST: Final = 4096
MAX_MAP: Final = 256

_NO_DEFAULT: Final = object()
# Per message: field name, its check, and the default for a field that an older end does not send.
_PLANS: Final[dict[Kind, tuple[tuple[str, Spec, Any], ...]]] = {
    kind: tuple(
        (each.name, each.metadata[SPEC], _NO_DEFAULT if each.default is MISSING else each.default)
        for each in fields(message)  # type: ignore[arg-type]
    )
    for kind, message in MESSAGES.items()
}
# A Packer keeps its buffer: seven times cheaper than msgpack.packb for a message of a hundred bytes.
_PACKER: Final = msgpack.Packer(use_bin_type=True, autoreset=True)


def encode(message: Message) -> bytes:
    """The body of a message. Fields that hold their default are left out. Raises LocalError for what may not be sent.

    Not for use from several threads at once without a lock of the caller's: each thread packs whole messages under the
    interpreter's lock, which is all that the shared Packer needs.
    """
    values: dict[str, Any] = {}
    for name, spec, default in _PLANS[message.KIND]:
        value = getattr(message, name)
        if default is not _NO_DEFAULT and value == default:
            continue
        try:
            values[name] = spec.check(value)
        except FieldError as error:
            raise LocalError(ErrorCode.BAD_FIELD, f"{message.KIND.name}.{name} is {error}") from None
    try:
        body = _PACKER.pack(values)
    except UnicodeEncodeError:
        # A lone surrogate: text from the command line or the file system that was not UTF-8.
        raise LocalError(ErrorCode.BAD_ENCODING, f"{message.KIND.name} holds text that is not Unicode") from None
    if len(body) > MAX_BODY_BYTES:
        raise LocalError(ErrorCode.BODY_TOO_LARGE, f"{message.KIND.name} of {len(body)} bytes")
    return body  # type: ignore[no-any-return]


def decode(kind: Kind, body: bytes | memoryview) -> Message:
    """The message that a body holds. Raises RemoteError with the field's name for anything that is not one."""
    if len(body) > MAX_BODY_BYTES:
        raise RemoteError(ErrorCode.BODY_TOO_LARGE, f"{kind.name} of {len(body)} bytes")
    try:
        values = msgpack.unpackb(
            body, raw=False, use_list=False, strict_map_key=True, max_array_len=MAX_LIST, max_map_len=MAX_MAP
        )
    except Exception as error:
        # msgpack raises whatever its parser meets: ValueError and its children, TypeError, RecursionError.
        raise RemoteError(ErrorCode.BAD_ENCODING, f"{kind.name}: {type(error).__name__}") from None
    if not isinstance(values, dict):
        raise RemoteError(ErrorCode.BAD_ENCODING, f"{kind.name}: not a map")
    taken: dict[str, Any] = {}
    for name, spec, default in _PLANS[kind]:
        value = values.get(name, default)
        if value is _NO_DEFAULT:
            raise RemoteError(ErrorCode.MISSING_FIELD, f"{kind.name}.{name}")
        if value is default:
            taken[name] = value
            continue
        try:
            taken[name] = spec.check(value)
        except FieldError as error:
            raise RemoteError(ErrorCode.BAD_FIELD, f"{kind.name}.{name} is {error}") from None
    return MESSAGES[kind](**taken)
