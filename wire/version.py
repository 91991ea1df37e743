"""The protocol's version, apart from the package's: see PROTOCOL.md, "Versioning"."""

from typing import Final

#: (major, minor). Another major is refused by name; a minor only adds fields and kinds, which older ends skip.
PROTOCOL: Final = (1, 1)
#: The first minor with WARM and WARMED, and the one with CACHE_LIST, CACHE_PAGE, KEEP and COLLECT: an older peer is not told any.
WARM_MINOR: Final = 1
CACHE_MINOR: Final = 1
