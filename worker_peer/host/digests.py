"""The digests that are computed: BLAKE3 of a block, and sha256 (md5 where a user asks) of a whole content as it streams.

All of them release the interpreter's lock on large views: call them from worker threads, with views, never copies.
"""

import hashlib
from typing import TypeAlias

from blake3 import blake3

View: TypeAlias = bytes | memoryview


def block_digest(view: View) -> bytes:
    """The BLAKE3 digest of one block, 32 bytes (the BLAKE3 paper's hash mode, default output length)."""
    return blake3(view).digest()


class ContentDigest:
    """The digests of one content, fed in order. One thread at a time."""

    __slots__ = ("_md5", "_sha256", "length")

    def __init__(self, *, with_md5: bool = False) -> None:
        self._sha256 = hashlib.sha256()
        # A user's extra check that 1.x has; nothing is trusted because of it.
        self._md5 = hashlib.md5(usedforsecurity=False) if with_md5 else None
        #: Bytes fed so far.
        self.length = 0

    def update(self, view: View) -> None:
        """The content's next bytes."""
        self._sha256.update(view)
        if self._md5 is not None:
            self._md5.update(view)
        self.length += len(view)

    def sha256(self) -> str:
        """`sha256:<hex>` of what was fed (OCI image spec, "Digests")."""
        return f"sha256:{self._sha256.hexdigest()}"

    def md5(self) -> str:
        """Lower-case hex md5 of what was fed. Raises ValueError where it was not asked for at the start."""
        if self._md5 is None:
            raise ValueError("this content's md5 was not asked for")
        return self._md5.hexdigest()
