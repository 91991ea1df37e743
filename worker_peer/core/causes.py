"""What the reader of a content waits for, and who gave its bytes: the words that provenance is told in. Pure."""

from enum import Enum

from wire.messages import Origin


class Cause(Enum):
    """What the reader of a content waits for."""

    STORE = "store"
    """This host's disk: what is there is looked for, read or digested."""
    SUPERNODE = "supernode"
    """Its answer, or its grant of what somebody has."""
    SEED_OPENS = "seed_opens"
    """The seed has asked the source, which has not answered."""
    SEED_READS = "seed_reads"
    """The seed reads the source, and has nothing that this host has not."""
    SEED = "seed"
    """Pieces that the seed is sending."""
    PEERS = "peers"
    """Pieces that other peers are sending."""
    SOURCE = "source"
    """This host's peer reads the source by itself."""


#: Who gave bytes, and which parent of that kind (empty: the source, the disk).
Giver = tuple[Origin, str]
