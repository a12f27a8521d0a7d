"""What the stages need from the outside world, as Protocols; `adapters` fulfils them twice, embedded and for real.

The file is long because it is the contract: what is promised is written here and nowhere else, and `tests/contract`
holds every adapter to it. Everything is asynchronous and belongs to one event loop. Whatever an adapter's library
raises, callers see only the errors below:
`Unavailable` means "the same call may succeed later, nothing was lost"; every other error is final for that call:
ValueError and TypeError for what the caller got wrong, PermissionError for credentials that are refused, RuntimeError
for something that was closed. Kafka's refused credentials are `Unavailable`: they are mended while the stage waits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:  # the process of the SQL Server driver starts sooner without it
    import asyncio
    import ssl


class Unavailable(Exception):
    """The store or broker cannot be reached or is not ready: try again later."""


class Stalled(Unavailable):
    """Records wait, the broker answers, and yet nothing is read: this consumer is broken, make another."""


class CommitRefused(Exception):
    """The group has moved on (rebalance, session timeout): the partitions belong to somebody else now."""


class UnknownTopic(Exception):
    """The topic does not exist; the message names it and how to create it."""


class RecordTooLarge(ValueError):
    """A topic takes no record of this size; `limit` is what it takes of key, value and headers, in bytes."""

    def __init__(self, topic: str, size: int, limit: int) -> None:
        super().__init__(
            f"a record of {size:,} bytes is more than topic {topic} takes, {limit:,}: raise its max.message.bytes "
            f"(kafka-configs --alter --topic {topic} --add-config max.message.bytes=4194304)"
        )
        self.limit = limit


class UnevenTopics(Exception):
    """Topics whose partitions belong together have not the same number of them; the message says how to mend it."""


class StaleEpoch(Exception):
    """Another owner has taken the partition since this one did; its writes are refused."""


class ArchiveConflict(Exception):
    """The key exists with other content."""


# --- time -----------------------------------------------------------------------------------------


class Clock(Protocol):
    """Time as an argument, so that decisions can be tested."""

    def now_ns(self) -> int:
        """Wall clock in nanoseconds since the Unix epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go backwards; only differences mean anything."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Waits; other tasks run meanwhile."""
        ...


# --- the network ----------------------------------------------------------------------------------


class Listener(Protocol):
    """Connections are accepted for as long as it is open."""

    @property
    def port(self) -> int:
        """Where they are accepted."""
        ...

    def close(self) -> None:
        """Accepts nobody any more; the connections that there are stay."""
        ...


class Network(Protocol):
    """Two-way streams of bytes between two ends, each an `asyncio.Protocol` with a transport.

    What one end writes comes to the other in order, in pieces of any size. An end that reads no more makes the other
    pause its writing. A transport's `close` sends what was written, then the other end's `eof_received` is called.
    """

    async def listen(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int, *, tls: ssl.SSLContext | None = None
    ) -> Listener:
        """Accepts connections, each for a protocol of its own. Port 0 is any that is free.

        With `tls` a protocol is told of its connection once that is encrypted; its certificate is the transport's extra
        information `peercert`. A connection that does not come to that in ten seconds is closed.

        Raises:
            OSError: it cannot be listened there.
            ValueError: this network has no TLS.
        """
        ...

    async def connect(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> None:
        """Makes a connection; `connection_made` has been called when this returns.

        Raises:
            OSError: nobody listens there.
        """
        ...


# --- the log --------------------------------------------------------------------------------------


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


def are_two(one: str, other: str) -> bool:
    """Whether two ids are of two topics; not if one of them is not known ("")."""
    return bool(one and other) and one != other


def place(source: TopicPartition, offset: int) -> str:
    """Where a record stands, in words."""
    return f"{source.topic}[{source.partition}]@{offset}"


def nobody_leads(sources: Iterable[TopicPartition]) -> str:
    """What is said of partitions that no broker leads."""
    places = ", ".join(f"{source.topic}[{source.partition}]" for source in sorted(sources))
    return (
        f"nobody leads {places}: a broker that has it must come back "
        "('kafka-topics --describe --unavailable-partitions' says which)"
    )


class Record(NamedTuple):
    """One record as it was read. `timestamp_ms` is the producer's clock."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    timestamp_ms: int
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def source(self) -> TopicPartition:
        """The partition it was read from."""
        return TopicPartition(self.topic, self.partition)


class Appended(NamedTuple):
    """Where an acknowledged record stands."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be. `retention_ms` -1 keeps records for ever."""

    name: str
    partitions: int
    retention_ms: int = 7 * 86_400_000


class Producer(Protocol):
    """Appends records.

    Per partition, records are appended in the order in which `send` was called, retries included, none twice.
    """

    async def send(
        self,
        topic: str,
        partition: int,
        value: bytes,
        *,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> asyncio.Future[Appended]:
        """Queues a record, waiting for room when the limit of bytes in flight is reached.

        Returns:
            A future that resolves once every in-sync replica has the record, or fails with `Unavailable`. It may wait
            through an outage. After one has failed, the producer takes no more records: close it and make another.

        Raises:
            UnknownTopic: no such topic or partition.
            RecordTooLarge: the topic takes no record of this size; nothing was queued, and others may be sent.
            Unavailable: the broker was never reached, or an earlier record failed.
        """
        ...

    def leaderless(self) -> frozenset[TopicPartition]:
        """Partitions that nobody leads now, of those that have yet to take what was sent: it waits for a leader."""
        ...

    async def flush(self) -> None:
        """Returns once all that was sent is acknowledged or has failed."""
        ...

    async def close(self) -> None:
        """Flushes and gives its resources back."""
        ...


class RebalanceListener(Protocol):
    """Told of the partitions a consumer gains and loses.

    While a call is awaited, no record of those partitions is handed out. What a call raises comes out of the consumer's
    `start`, next `poll` or `close`, and until then no record is handed out.
    """

    async def revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """About to lose these: finish, flush, commit. Commits made in here count."""
        ...

    async def assigned(self, partitions: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Has gained these.

        Returns the offsets at which to start; for a partition left out, the committed one, else the beginning.
        A topic that was deleted and made anew is taken and given so, too.
        """
        ...


class Attempt(NamedTuple):
    """Records of a partition that a worker has taken in hand, said beside a commit: see `runtime.suspects`.

    Attributes:
        first: of them.
        end: first ≤ offset < end; None for all that comes.
        times: how many workers in turn have, this one included, if each of the others ended over it; 0 once it is known
            that they end nobody.
    """

    first: int
    end: int | None
    times: int


NO_ATTEMPTS: Mapping[TopicPartition, Attempt] = MappingProxyType({})


class Consumer(Protocol):
    """A member of a consumer group. Within a group each partition has one owner.

    Topics with the same partition count are assigned alike (range): who owns partition 3 of one owns partition 3 of
    the others.
    """

    async def start(self, listener: RebalanceListener) -> None:
        """Joins the group; returns when `listener.assigned` has been called, possibly with no partition.

        After `Unavailable` it may be called again.

        Raises:
            UnknownTopic: one of the topics does not exist.
            Unavailable: the broker cannot be reached.
        """
        ...

    async def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Up to `max_records` records, in offset order within each partition; empty after `timeout_s` without any.

        They are of partitions owned at the moment of return: nothing is awaited between taking and returning them.
        Cancelling it loses no record.

        Raises:
            Unavailable: the broker cannot be reached.
            Stalled: reading has stalled; close this consumer, make another.
        """
        ...

    async def commit(
        self, offsets: Mapping[TopicPartition, int], attempts: Mapping[TopicPartition, Attempt] = NO_ATTEMPTS
    ) -> None:
        """Stores, for the group, the next offset to read of each partition, and an attempt of those that have one.

        Raises:
            CommitRefused: a partition is not ours any more.
            Unavailable: the broker cannot be reached.
        """
        ...

    async def seek(self, partition: TopicPartition, offset: int) -> None:
        """Goes on reading an assigned partition at `offset`.

        Raises:
            ValueError: the partition is not assigned.
        """
        ...

    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions owned now."""
        ...

    def leaderless(self) -> frozenset[TopicPartition]:
        """Partitions that nobody leads now, of those owned: nothing of them comes until somebody does."""
        ...

    async def close(self) -> None:
        """Leaves the group at once (`listener.revoked` is called first). If it is cancelled, so is the listener."""
        ...


class Log(Protocol):
    """A durable, partitioned log with consumer groups."""

    async def ensure_topics(self, specs: Iterable[TopicSpec]) -> None:
        """Creates the topics that do not exist; never changes one that does.

        Raises:
            ValueError: a topic exists with another partition count (the message names both counts).
        """
        ...

    async def partition_count(self, topic: str) -> int:
        """How many partitions a topic has.

        Raises:
            UnknownTopic: no such topic.
        """
        ...

    async def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """Topic → what tells it from an earlier one of its name, which was deleted; "" where nothing does.

        Raises:
            UnknownTopic: one does not exist.
        """
        ...

    async def producer(self) -> Producer:
        """A started producer of its own; the caller closes it."""
        ...

    def consumer(self, topics: Sequence[str], group: str) -> Consumer:
        """A consumer, not started."""
        ...

    async def end_offsets(self, topic: str, partitions: Collection[int] | None = None) -> dict[int, int]:
        """Partition → offset that the next appended record will have; of these partitions, or of all.

        Raises:
            UnknownTopic: no such topic or partition.
            Unavailable: the broker cannot be reached, or nobody leads one of the partitions now.
        """
        ...

    async def start_offsets(
        self, topic: str, since_ms: int | None = None, partitions: Collection[int] | None = None
    ) -> dict[int, int]:
        """Partition → offset of the oldest record that still exists; the end offset if there is none.

        With `since_ms`, of the oldest whose timestamp is not before it; of these partitions, or of all.

        Raises:
            UnknownTopic: no such topic or partition.
            Unavailable: the broker cannot be reached, or nobody leads one of the partitions now.
            ValueError: `since_ms` is negative.
        """
        ...

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        """Partition → next offset that the group would read, for the partitions it has committed of this topic.

        Raises:
            UnknownTopic: no such topic.
        """
        ...

    async def unsigned(self, group: str, topic: str) -> dict[int, int]:
        """Of `committed`, what no consumer of this release has committed: somebody's tool, or an earlier release.

        Raises:
            UnknownTopic: no such topic.
        """
        ...

    async def outdated(self, group: str, topic: str) -> dict[int, int]:
        """Partition → next offset that the group has committed of an earlier topic of this name.

        Raises:
            UnknownTopic: no such topic.
        """
        ...

    async def attempts(self, group: str, topic: str) -> dict[int, Attempt]:
        """Partition → what was said beside the last commit of this topic, if anything was.

        Raises:
            UnknownTopic: no such topic.
        """
        ...

    def read(self, partition: TopicPartition, start: int, end: int) -> AsyncIterator[Record]:
        """The records with start ≤ offset < end that exist now, outside any group; deleted ones are left out.

        Raises:
            UnknownTopic: no such topic or partition.
        """
        ...

    async def close(self) -> None:
        """Gives resources back; producers and consumers are closed by their owners."""
        ...


# --- state ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class StateWrites:
    """Writes that go to the store in one round trip, in this order: hash fields, those that go, then publications."""

    fields: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gone: dict[str, list[str]] = field(default_factory=dict)
    """Hash → fields that it has no more."""
    publications: list[tuple[str, bytes]] = field(default_factory=list)


class Subscription(Protocol):
    """Messages published to channels after the subscription began, as (channel, message).

    The iteration raises `Unavailable` when messages may have been lost: subscribe again, then read the state.
    """

    def __aiter__(self) -> AsyncIterator[tuple[str, bytes]]:
        """The messages, in the order published on each channel."""
        ...

    async def close(self) -> None:
        """Ends the iteration."""
        ...


class Taken(NamedTuple):
    """What `StateStore.take_over` found and did: the version now, the one before (0 if none), the value (or b"")."""

    version: int
    previous: int
    value: bytes


class StateStore(Protocol):
    """Keyed state that survives its writer, with publish/subscribe. Every call may raise `Unavailable`.

    A key holds a value, a versioned value or a hash; reading it as another kind raises TypeError.
    """

    async def get(self, key: str) -> bytes | None:
        """The value, or None."""
        ...

    async def put(self, key: str, value: bytes) -> None:
        """Sets the value."""
        ...

    async def put_if_newer(self, key: str, version: int, value: bytes) -> bool:
        """Sets value and version unless a higher version is stored (an equal one is replaced); True if it was set.

        Atomic.

        Raises:
            ValueError: the version is not between 0 and 2⁶³ - 1.
        """
        ...

    async def get_versioned(self, key: str) -> tuple[int, bytes] | None:
        """What `put_if_newer` stored last, as (version, value), or None."""
        ...

    async def take_over(self, key: str, at_least: int) -> Taken:
        """Makes the caller the owner of a versioned value: raises its version, to `at_least` or one above the stored.

        Atomic, and no two callers are given the same version. From here on `put_if_newer` refuses what earlier owners
        write under theirs. `at_least` is for a store that has forgotten: with the time of day, a version that was
        given before the loss is not given again. The value stays; a key that does not exist begins with b"".

        Raises:
            ValueError: `at_least` is not between 0 and 2⁶³ - 1, or the stored version is the last there is.
        """
        ...

    async def put_if_absent(self, key: str, value: bytes) -> bool:
        """Sets the value if the key does not exist; True if it was set. Atomic."""
        ...

    async def delete(self, key: str) -> None:
        """Removes the key, whatever it holds; nothing happens if it does not exist."""
        ...

    async def hash_get_all(self, key: str) -> dict[str, bytes]:
        """Field → value; empty if the key does not exist."""
        ...

    async def hash_get(self, key: str, field: str) -> bytes | None:
        """The value of one field, or None."""
        ...

    async def hash_fields(self, key: str) -> list[str]:
        """The fields, sorted; empty if the key does not exist."""
        ...

    async def keys(self, prefix: str) -> list[str]:
        """The keys that begin with `prefix`, sorted. For tools and tests: it may walk the whole store."""
        ...

    async def write(self, writes: StateWrites) -> None:
        """Applies the writes in one round trip, all or nothing for the fields."""
        ...

    async def publish(self, channel: str, message: bytes) -> int:
        """Publishes one message at once; returns how many subscriptions it was given to."""
        ...

    async def subscribe(self, pattern: str) -> Subscription:
        """Listens to the channels that match a glob pattern (`*` matches any run of characters)."""
        ...

    async def close(self) -> None:
        """Gives resources back."""
        ...


# --- the regulatory store -------------------------------------------------------------------------


class TradeRow(NamedTuple):
    """One row of the regulatory store: an execution with its reference data.

    Names that reference data does not know stay as they were sent, their enrichment is ''. The first three columns are
    the trade's identity (see `trades.model.Identity`), the times those of `trades.model.Trade`.
    """

    session: str
    trade_date: int
    exec_id: str
    epoch: int
    msg_seq_num: int
    action: int
    exec_ref_id: str
    symbol: str
    side: int
    last_qty_e8: int
    last_px_e8: int
    transact_time_ns: int
    time_source: int
    multiplier_e8: int
    trader: str
    strategy: str
    account: str
    trader_name: str
    desk: str
    strategy_name: str
    isin: str
    topic: str
    partition: int
    offset: int


class ExceptionRow(NamedTuple):
    """A reference that could not be resolved, or another trade under an ExecID, waiting for review.

    A trade has one for a field at most; of field `exec_id` one for each detail (see `trades.conflicts`).
    """

    session: str
    trade_date: int
    exec_id: str
    field: str
    value: str
    detail: str


class TraderRow(NamedTuple):
    """Who a trader is."""

    trader: str
    name: str
    desk: str


class StrategyRow(NamedTuple):
    """What a strategy is called."""

    strategy: str
    name: str


class SecurityRow(NamedTuple):
    """What a security is called elsewhere: ISO 6166, CUSIP Global Services, the London Stock Exchange, ISO 10383.

    `symbol` is the instrument as trades name it. Whatever is not known is '', and 0 of the multiplier.
    """

    symbol: str
    isin: str
    cusip: str
    sedol: str
    mic: str
    currency: str
    multiplier_e8: int


class MpidRow(NamedTuple):
    """Which market participant is at the other end of a session."""

    session: str
    mpid: str
    name: str


REFERENCE: Mapping[str, type[TraderRow | StrategyRow | SecurityRow | MpidRow]] = MappingProxyType(
    {"traders": TraderRow, "strategies": StrategyRow, "securities": SecurityRow, "mpids": MpidRow}
)
"""The tables of reference data; the first column of each is what its rows are told apart by."""
ReferenceRows = Mapping[str, Sequence[TraderRow | StrategyRow | SecurityRow | MpidRow]]
"""Table of `REFERENCE` → its rows."""


class Changes(NamedTuple):
    """How many rows of a table are new, are other than before, and are no more."""

    added: int
    changed: int
    gone: int


def changes(before: Iterable[Sequence[object]], after: Iterable[Sequence[object]]) -> Changes:
    """What makes the rows `before` those `after`; rows are told apart by their first column."""
    old, new = ({row[0]: tuple(row) for row in rows} for rows in (before, after))
    both = old.keys() & new.keys()
    return Changes(len(new) - len(both), sum(old[key] != new[key] for key in both), len(old) - len(both))


class Stored(NamedTuple):
    """What one transaction did: new trade rows, rows that were there already, new exceptions.

    `conflicts` are those of the duplicates that are other trades than those that are stored; see `trades.conflicts`.
    """

    inserted: int
    duplicates: int
    exceptions: int
    conflicts: int = 0


class SchemaOwner(Protocol):
    """A store whose schema grows with the releases, forwards only. Every call may raise `Unavailable`."""

    where: str
    """What the store is called in words."""
    migrations: Mapping[int, str]
    """Schema version → what it brings, in the order in which they are applied; the last is this release's."""

    async def schema_version(self) -> int | None:
        """The version that is there, None if there is none; changes nothing."""
        ...

    async def migrate(self) -> tuple[int | None, list[int]]:
        """Brings the schema to this release's version; of many at once, one does it.

        Returns:
            The version before, and those that were applied.

        Raises:
            PermissionError: we may not.
            ValueError: it is of a later release.
        """
        ...


class ReferenceOwner(SchemaOwner, Protocol):
    """A store that has reference data in tables, for whoever reads its rows. Every call may raise `Unavailable`."""

    async def put_reference(self, rows: ReferenceRows) -> Mapping[str, Changes]:
        """Makes these all that the tables hold, in one transaction; tables that are not named stay as they are.

        Raises:
            PermissionError: we may not.
            ValueError: a row cannot be stored, or two have the same first column; nothing has changed then.
        """
        ...

    async def reference(self) -> ReferenceRows:
        """All that the tables hold, in the order of the first columns."""
        ...


class Claimed(NamedTuple):
    """What `RegulatoryStore.take_over` found and did.

    Attributes:
        epoch: of the partition now.
        next_offset: that is stored, or None.
        outdated: the next offset that was stored of an earlier topic of the name, or None.
    """

    epoch: int
    next_offset: int | None
    outdated: int | None = None


NO_IDS: Mapping[str, str] = MappingProxyType({})


class RegulatoryStore(ReferenceOwner, Protocol):
    """Append-only rows with the log offsets that they came from. Every call may raise `Unavailable`."""

    async def take_over(
        self, group: str, partitions: Iterable[TopicPartition], topic_ids: Mapping[str, str] = NO_IDS
    ) -> dict[TopicPartition, Claimed]:
        """Makes the caller the owner of the partitions: raises each one's epoch by one.

        Offsets of an earlier topic of the same name are forgotten.

        Args:
            group: consumer group the offsets belong to.
            partitions: which.
            topic_ids: topic → its id, as `Log.topic_ids` says, of those that have one.
        """
        ...

    async def store(
        self,
        group: str,
        trades: Sequence[TradeRow],
        exceptions: Sequence[ExceptionRow],
        offsets: Mapping[TopicPartition, tuple[int, int]],
    ) -> Stored:
        """Stores rows and offsets in one transaction.

        A trade whose (session, trade_date, exec_id) is stored already is counted, not stored again. If it is another
        one than that (`trades.conflicts.SUBSTANCE`), an exception notes it in the same transaction, once a trade.

        Args:
            group: consumer group the offsets belong to.
            trades: rows to add; may repeat each other.
            exceptions: rows to add, once each.
            offsets: partition → (the epoch `take_over` gave, next offset).

        Raises:
            StaleEpoch: somebody has taken over one of the partitions; nothing was stored.
            ValueError: a row cannot be stored (a value of the wrong type); nothing was stored.
        """
        ...

    def trades(self) -> AsyncIterator[TradeRow]:
        """All rows, in no particular order."""
        ...

    def exceptions(self) -> AsyncIterator[ExceptionRow]:
        """All exceptions, in no particular order."""
        ...

    async def close(self) -> None:
        """Gives resources back."""
        ...


# --- the archive ----------------------------------------------------------------------------------


class ArchivedObject(NamedTuple):
    """An object of the archive; `sha256` is that of its content, in hex."""

    key: str
    size: int
    sha256: str


class ObjectArchive(Protocol):
    """Immutable objects. Every call may raise `Unavailable`.

    Keys are plain relative paths, and none is the folder of another; ValueError for any other.
    """

    async def check(self) -> None:
        """Returns if objects can be stored here as far as can be told without storing one.

        Raises:
            PermissionError: what they would be stored in is not there, or not ours; the message says what to do.
        """
        ...

    async def put_once(self, key: str, body: bytes) -> ArchivedObject:
        """Stores an object that does not exist yet; storing the same content again changes nothing and succeeds.

        Atomic and durable.

        Raises:
            ArchiveConflict: the key exists with other content.
        """
        ...

    async def get(self, key: str) -> bytes | None:
        """The content, or None if there is no such object.

        Raises:
            ValueError: the content does not match its recorded hash.
        """
        ...

    def objects(self, prefix: str = "") -> AsyncIterator[ArchivedObject]:
        """The objects whose keys begin with `prefix`, in the order of their keys; each of them is looked at."""
        ...

    async def keys(self, prefix: str, *, after: str = "", most: int = 1_000) -> list[str]:
        """Up to `most` keys that begin with `prefix` and come after `after`, in their order, in one request.

        Raises:
            ValueError: `most` is not between 1 and 1,000.
        """
        ...

    async def close(self) -> None:
        """Gives resources back."""
        ...
