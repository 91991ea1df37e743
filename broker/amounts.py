"""How much, and how many, as people read it in what the commands say. Pure."""


def size(count: int | None) -> str:
    """Bytes in the unit that suits them; `?`: not known."""
    if count is None:
        return "?"
    at, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while at >= 1024 and len(units) > 1:
        at, units = at / 1024, units[1:]
    return f"{count} B" if units[0] == "B" else f"{at:.1f} {units[0]}"


def counted(number: int, noun: str) -> str:
    """`1 blob`, `2 blobs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
