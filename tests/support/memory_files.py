"""Files in memory for the plans of `dfdaemon setup`: what would be on disk, and what a plan makes of it."""

from dataclasses import dataclass, field

from gateway.core.setup.plan import Plan


@dataclass
class MemoryFiles:
    """By path."""

    content: dict[str, bytes] = field(default_factory=dict)

    def read(self, path: str) -> bytes | None:
        return self.content.get(path)

    def names(self, folder: str) -> tuple[str, ...]:
        inside = {path.removeprefix(f"{folder}/").partition("/")[0] for path in self.content if path.startswith(f"{folder}/")}
        return tuple(sorted(inside))

    def text(self, path: str) -> str:
        return self.content[path].decode()

    def follow(self, plan: Plan) -> "MemoryFiles":
        """As they are when the plan was carried out."""
        return MemoryFiles({**self.content, **{write.path: write.content for write in plan.writes}})
