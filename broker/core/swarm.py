"""The things that a matcher matches: peers, leases between them, zones. Only data: who changes it is matcher.py's affair."""

from typing import ClassVar

from broker.core.idset import IdSet


class Zone:
    """The peers of one location, at one level: a data centre, a row in it, or a rack in that."""

    __slots__ = ("below", "entering", "free", "has", "hungry", "members", "name", "needy", "tracked", "wider", "zones")

    def __init__(self, name: str, wider: "Zone | None" = None) -> None:
        self.name = name
        #: The zone around it, and the ones right in it by their names. The widest one has everybody in it.
        self.wider = wider
        self.below: dict[str, Zone] = {}
        self.members: IdSet[Peer] = IdSet()
        #: Whether the rest is kept: zones.py says when it is worth it.
        self.tracked = False
        #: What a peer that is here and in no narrower zone is in: tracked zones, the narrowest first. Peers of one narrowest
        #: zone have the same tuple: whether two are near each other is one comparison.
        self.zones: tuple[Zone, ...] = wider.zones if wider is not None else ()
        #: Of the members: parents with a free slot, children with room for a lease.
        self.free: IdSet[Peer] = IdSet()
        self.needy: IdSet[Peer] = IdSet()
        #: Bitmap of the pieces that are here or promised to somebody here.
        self.has = 0
        #: Leases that lead into the zone.
        self.entering = 0
        #: Tracked zones right inside this one that lack pieces and into which too few leases lead.
        self.hungry: IdSet[Zone] = IdSet()

    def __repr__(self) -> str:
        return f"Zone({self.name!r}, {len(self.members)} members)"


class Peer:
    """One peer of the swarm, as parent and as child; also the seed, which has no wishes. Bitmaps: bit p is piece p."""

    __slots__ = (
        "avoids",
        "derived_from",
        "fetching",
        "fetching_weight",
        "goodness",
        "have",
        "held",
        "idle_since",
        "inbound_peak",
        "is_seed",
        "location",
        "name",
        "offers",
        "offset",
        "promised",
        "proven",
        "seed_leases",
        "serving",
        "slots",
        "slow",
        "uplink",
        "uplink_limit",
        "want",
        "wants",
        "weight",
        "zone",
        "zones",
    )
    NOWHERE: ClassVar[Zone] = Zone("")

    def __init__(self, name: str, *, wants: bool = True, location: str = "", is_seed: bool = False) -> None:
        self.name = name
        self.wants = wants
        self.is_seed = is_seed
        #: `a/b/c` from the widest to the narrowest; the zone of that name; the tracked ones that it is in, narrowest first.
        self.location = location
        self.zone = self.NOWHERE
        self.zones: tuple[Zone, ...] = ()
        #: Verified here. `offers`: those, and the ones arriving right now, which are passed on block by block.
        self.have = 0
        self.offers = 0
        #: Neither here nor promised. What a parent can give is `parent.offers & child.want`: one operation of some 40 ns.
        self.want = 0
        #: How many pieces are here, and how many more are promised.
        self.held = 0
        self.promised = 0
        #: Pieces that the swarm was ahead when the peer joined: a late joiner is not "behind".
        self.offset = 0.0
        #: Leases in which it is the parent, and the child; in the order of their grant.
        self.serving: dict[Lease, None] = {}
        self.fetching: dict[Lease, None] = {}
        #: Those that feed it, in usual ones: a slow parent's lease counts for less than one.
        self.fetching_weight = 0.0
        self.seed_leases = 0
        self.idle_since = 0.0
        #: Parent -> (until when not to take a lease from it, how often that has happened).
        self.avoids: dict[Peer, tuple[float, int]] = {}
        #: Bytes per second; None: nothing known. links.py sets these and what it derives from them.
        self.uplink: float | None = None
        self.uplink_limit: float | None = None
        self.derived_from: float | None = None
        self.inbound_peak = 0.0
        #: A child has received something from it at a usual rate.
        self.proven = is_seed
        self.slots = 1
        self.goodness = 1.0
        self.weight = 1.0
        self.slow = False

    def avoids_now(self, parent: "Peer", now: float) -> bool:
        """Whether the parent failed this child so lately that it is not asked again yet."""
        entry = self.avoids.get(parent)
        return entry is not None and now < entry[0]

    def __repr__(self) -> str:
        return f"Peer({self.name!r}, {self.held} held, {self.promised} promised)"


class Lease:
    """One parent feeding one child, piece after piece: it holds one slot of each until nothing of it is outstanding."""

    __slots__ = ("child", "following", "number", "parent", "pieces", "rate", "shared_by", "weight")

    def __init__(self, number: int, parent: Peer, child: Peer) -> None:
        self.number = number
        self.parent = parent
        self.child = child
        #: Promised and not here yet, in the order in which the child fetches them.
        self.pieces: list[int] = []
        #: Bitmap of those that the parent did not have itself when it promised them.
        self.following = 0
        self.weight = parent.weight
        #: Between how many leases the parent's uplink was divided; bytes per second of its last piece.
        self.shared_by = 1
        self.rate = 0.0

    def __repr__(self) -> str:
        return f"Lease({self.number}, {self.parent.name!r} -> {self.child.name!r}, {self.pieces})"
