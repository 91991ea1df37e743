"""A content's bytes as views of its file's pages: sent as they lie in the page cache, never copied into a buffer first.

Half of what pread costs for each byte sent. Only for files that nobody but this process can reach: cutting a file off
under a view that is being sent kills the process (SIGBUS, mmap(2)).
"""

import contextlib
import errno
import mmap
from typing import Final

_PAGE: Final = mmap.PAGESIZE
#: Linux 5.14 (madvise(2)): bring the pages in now. What cannot be read is an error here, where it would be SIGBUS later.
_MADV_POPULATE_READ: Final = 22


class MappedContent:
    """The whole of one file, for reading."""

    def __init__(self, descriptor: int, length: int) -> None:
        """`length` in bytes, at least one. Raises OSError where the file system cannot map."""
        # The mapping lives as long as any view of it, whatever becomes of this object and of the descriptor.
        self._map = mmap.mmap(descriptor, length, mmap.MAP_SHARED, mmap.PROT_READ)
        self._whole = memoryview(self._map)

    def view(self, offset: int, size: int) -> memoryview:
        """`size` bytes from `offset` on, in memory now. Raises OSError where the disk cannot give them."""
        if size:
            begin = offset - offset % _PAGE
            try:
                self._map.madvise(_MADV_POPULATE_READ, begin, offset + size - begin)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise OSError(errno.EIO, f"bytes {offset} to {offset + size} cannot be read from the disk") from error
                # An older kernel: it reads ahead, and whoever sends waits for the rest.
                with contextlib.suppress(OSError):
                    self._map.madvise(mmap.MADV_WILLNEED, begin, offset + size - begin)
        return self._whole[offset : offset + size]
