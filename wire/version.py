"""The protocol's version, apart from the package's: see PROTOCOL.md, "Versioning"."""

from typing import Final

#: (major, minor). Another major is refused by name; a minor only adds fields and kinds, which older ends skip.
PROTOCOL: Final = (1, 1)
