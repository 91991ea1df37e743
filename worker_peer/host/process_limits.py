"""What a process asks of the kernel before it begins."""

import contextlib
import resource


def allow_many_files() -> None:
    """Raise this process's own limit of open files to the one that it may have (getrlimit(2)).

    Every content takes two descriptors and every connection one; the usual soft limit of 1024 is there for programs that
    use select(2), which nothing here does.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
