"""Whether a content's blocks are worth compressing, found by trying: one try in a while where it does not pay.

Pure. Images are compressed already and models do not shrink, so most contents are asked about a few times and then left
alone; what shrinks is compressed each time, and a part that does not is passed over soon.
"""

from collections import OrderedDict
from typing import Final

#: It pays from so much less on the wire: the other end has to inflate it.
WORTH_IT: Final = 0.9
#: Answers that are sent as they are after tries that did not pay: 1, 3, 7, ... up to this.
_MOST_SKIPPED: Final = 127
#: Contents that are remembered.
_CONTENTS: Final = 1024


class Compressing:
    """What was found of each content lately."""

    def __init__(self) -> None:
        # Task -> (how many answers are still passed over, how many after the next vain try).
        self._skips: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def tries(self, task: str) -> bool:
        """Whether the next answer of this content is to be compressed, or at least its beginning."""
        left, after = self._skips.get(task, (0, 1))
        if left:
            self._skips[task] = (left - 1, after)
        return not left

    def tried(self, task: str, size: int, packed: int) -> bool:
        """So many bytes became so many. Returns whether that pays."""
        if packed <= WORTH_IT * size:
            self._skips.pop(task, None)
            return True
        _, after = self._skips.get(task, (0, 1))
        self._skips[task] = (after, min(_MOST_SKIPPED, 2 * after + 1))
        self._skips.move_to_end(task)
        while len(self._skips) > _CONTENTS:
            self._skips.popitem(last=False)
        return False
