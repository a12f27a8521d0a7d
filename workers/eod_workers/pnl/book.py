"""The whole state of flash P&L for one partition of `trades.raw`: a function of the rows applied, in their order.

Each trade counts once, and a trade is (session, trade date, ExecID(17)), as it is for the regulatory store. Under which
number a row came, in which epoch, from which ingestion and how late, does not matter: a session moves between
ingestions, its counterparty sends again with PossDupFlag(43)=Y what it is asked for by ResendRequest(2), and whoever
was superseded may still append what it had read (see `ingestion.tenure`). A row whose trade is remembered
is a duplicate.

Memory is bounded, so the numbers decide where it ends: of each session and epoch the book keeps the highest
MsgSeqNum(34) among the trades it has forgotten. First arrivals of an epoch come in rising order, hence a row at or
below that number whose trade is not remembered was taken and forgotten. A row redriven from a dead letter is a new
delivery of an old number, and is told by its ExecID alone.

A bust or a correction makes its position what it would be if the old trade had never been, from the trades that stand,
a correction in the place of what it corrects. That is done when somebody looks at the position, so that a thousand
corrections between two looks cost as much as one. Where one of the trades is forgotten, the old trade is taken back by
its opposite, and the position says of itself that its average and its realized P&L are approximate.

Money is quantity times price in a book, and becomes money with the multiplier of the symbol when it is told
(`pnl.publishing`). So a multiplier holds for all trades of a symbol, those before it was said as well, and a trade
that says another one is refused.

Positions, marks and multipliers need no limit of their own: there is one for each (trader, symbol) and symbol.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping
from enum import Enum
from typing import Final, NamedTuple

from eod_workers.pnl.marks import Mark, choose
from eod_workers.pnl.positions import Position
from eod_workers.trades.model import (
    ACTION_BUST,
    ACTION_CORRECT,
    ACTION_TRADE,
    CAPTURED,
    SIDE_BUY,
    SIDE_SELL,
    Identity,
    Trade,
)
from eod_workers.trades.numbers import format_e8

REMEMBER: Final = 200_000
"""Trades that a book remembers unless told otherwise."""

Key = tuple[str, str]
"""(trader, symbol); the trader is "" while unassigned."""

Remembered = tuple[str, str, int, int, tuple[int, str] | None, int, int]
"""(trader, symbol, signed quantity in 1e-8 and 0 once busted, price in 1e-8, trade date and ExecID of its correction or
None, epoch, MsgSeqNum): the last two are of the highest delivery that brought it, 0 if an earlier release did not keep
them.

A plain tuple: a hundred thousand instances of a class would lie on the garbage collector's way.
"""

MAX_EPOCHS: Final = 32
"""Epochs of a session whose highest forgotten number is kept. The numbers of a session begin again once a day or so."""


class Outcome(Enum):
    """What became of a row."""

    APPLIED = "applied"
    DUPLICATE_TRADE = "duplicate_trade"
    """Its trade is remembered: a resend, the same trade under a new number, or what a superseded ingestion appended."""
    DUPLICATE_DELIVERY = "duplicate_delivery"
    """Its trade is not remembered, but its number is not above those of trades that are forgotten."""
    UNKNOWN_REFERENCE = "unknown_reference"
    """A bust or correction of a trade that is not remembered; it may succeed once that trade has been redriven."""
    ALREADY_BUSTED = "already_busted"
    """A bust or correction of a trade that does not stand any more."""
    INVALID = "invalid"
    """The row contradicts itself or the trade it refers to, and always will."""

    @property
    def refused(self) -> bool:
        """Whether the row belongs with the dead letters: it ought to have changed the book and could not."""
        return self in {Outcome.UNKNOWN_REFERENCE, Outcome.ALREADY_BUSTED, Outcome.INVALID}


class Result(NamedTuple):
    """What became of a row, why (a sentence; "" when applied), and which positions it changed."""

    outcome: Outcome
    detail: str
    changed: tuple[Key, ...]


class _Holding:
    """A position with what the book knows about it.

    Attributes:
        position: what is shown.
        result: the one result that all plain trades of it share.
        roots: the remembered trades that it is made of, oldest first. A correction of one stands in its place, and is
            none; one that came from another trader's position is.
        complete: whether all of its trades that stand are remembered, so that it can be made anew.
        stale: whether it is to be made anew before anybody looks at it; meanwhile trades leave it alone.
    """

    __slots__ = ("complete", "position", "result", "roots", "stale")

    def __init__(self, key: Key, position: Position) -> None:
        self.position = position
        self.result = Result(Outcome.APPLIED, "", (key,))
        self.roots: dict[Identity, None] = {}
        self.complete = True
        self.stale = False


class PartitionBook:
    """Positions and marks of one partition, with what is needed to count each trade once.

    Args:
        remember: how many trades (busts and corrections included) are kept against duplicates and for busts; the
            oldest are forgotten first.

    Attributes:
        walked: how many remembered trades were looked at for busts and corrections. It must not grow faster than they
            do, which tests hold it to.

    Raises:
        ValueError: `remember` is less than 1.
    """

    __slots__ = (
        "_dates",
        "_forgotten",
        "_holders",
        "_holdings",
        "_marks",
        "_memory",
        "_multipliers",
        "_oldest",
        "_remember",
        "_skips",
        "walked",
    )

    def __init__(self, remember: int = REMEMBER) -> None:
        if remember < 1:
            raise ValueError(f"a book must remember at least 1 trade, not {remember}")
        self.walked = 0
        self._remember = remember
        self._holdings: dict[Key, _Holding] = {}
        self._holders: dict[str, list[Key]] = {}
        self._marks: dict[str, Mark] = {}
        self._multipliers: dict[str, int] = {}
        self._forgotten: dict[str, dict[int, int]] = {}
        self._memory: dict[Identity, Remembered] = {}
        # Of trades that were corrected, a later one that stands in their place, or stood until it was corrected itself.
        self._skips: dict[Identity, Identity] = {}
        # The keys of `_memory` once more: a dict finds its oldest key only by walking over all that it has deleted.
        self._oldest: deque[Identity] = deque()
        # The days of which trades have been remembered, the latest first: a bust does not say of which its trade is.
        self._dates: list[int] = []

    @classmethod
    def restore(
        cls,
        *,
        positions: Iterable[tuple[Key, Position]],
        incomplete: Container[Key],
        marks: Mapping[str, Mark],
        multipliers: Mapping[str, int],
        forgotten: Mapping[str, Mapping[int, int]],
        remembered: Iterable[tuple[Identity, Remembered]],
        remember: int = REMEMBER,
    ) -> PartitionBook:
        """The book that gave these from the methods of the same names. `positions` and `remembered` keep their order.

        What is beyond `remember` is forgotten as it was, whatever corrected it later.

        Raises:
            ValueError: `remember` is less than 1.
        """
        book = cls(remember)
        for key, position in positions:
            book._hold(key, position).complete = key not in incomplete
        book._marks.update(marks)
        book._multipliers.update(multipliers)
        book._forgotten.update((session, dict(epochs)) for session, epochs in forgotten.items())
        for identity, trade in remembered:
            book._keep(identity, trade, root=True, linked=False)
        for identity, (trader, symbol, _, _, correction, _, _) in book._memory.items():
            if correction is None:
                continue
            book._skips[identity] = (identity[0], *correction)
            if (holding := book._holdings.get((trader, symbol))) is not None:
                holding.roots.pop((identity[0], *correction), None)
        return book

    def apply(self, trade: Trade) -> Result:
        """Applies one row, unless its trade was taken before. A row that is refused may be offered again."""
        session = trade.session
        memory = self._memory
        date = trade.trade_date
        identity = (session, date, trade.exec_id)
        if identity in memory:
            return self._taken_before(trade, memory[identity])
        if session in self._forgotten and not trade.redrive_of and self._is_forgotten(trade):
            return self._taken_long_ago(trade)
        if trade.action != ACTION_TRADE:
            return self._adjust(trade, identity)
        side = trade.side
        quantity = trade.last_qty_e8
        if side == SIDE_SELL:
            quantity = -quantity
        elif side != SIDE_BUY:
            return _invalid(trade, f"Side(54) {side} is neither buy nor sell")
        trader = trade.trader
        symbol = trade.symbol
        px = trade.last_px_e8
        restated: tuple[Key, ...] = ()
        if trade.multiplier_e8 and trade.multiplier_e8 != self._multipliers.get(symbol):
            if symbol in self._multipliers:
                return other_multiplier(trade, self._multipliers[symbol])
            restated = self._learn(trade)
        if len(memory) >= self._remember:
            self._forget_oldest()
        holding = self._holdings.get((trader, symbol)) or self._hold((trader, symbol), Position())
        if not holding.stale:
            holding.position.trade(quantity, px)
        holding.roots[identity] = None
        memory[identity] = (trader, symbol, quantity, px, None, trade.epoch, trade.msg_seq_num)
        self._oldest.append(identity)
        if date not in self._dates:
            self._note_date(date)
        return _and_others(holding.result, restated) if restated else holding.result

    def apply_price(self, symbol: str, mark: Mark) -> tuple[Key, ...]:
        """Offers a price; returns the positions whose value it changed, flat ones included since they show it too.

        Raises:
            ValueError: the price's source is unknown.
        """
        current = self._marks.get(symbol)
        chosen = choose(current, mark)
        if chosen is current:
            return ()
        self._marks[symbol] = chosen
        if current is not None and current.px_e8 == chosen.px_e8 and current.source == chosen.source:
            return ()
        return self.holders(symbol)

    def position(self, trader: str, symbol: str) -> Position | None:
        """What the trader holds of the symbol; None if it never traded it. Not to be changed."""
        holding = self._holdings.get((trader, symbol))
        return None if holding is None else self._settled(holding)

    def mark(self, symbol: str) -> Mark | None:
        """The mark that values the symbol now."""
        return self._marks.get(symbol)

    def multiplier_e8(self, symbol: str) -> int:
        """What one unit of quantity at one unit of price comes to, in 1e-8; 0 while no trade has said it."""
        return self._multipliers.get(symbol, 0)

    def multipliers(self) -> Mapping[str, int]:
        """Symbol → its multiplier, as far as a trade has said one. Not to be changed."""
        return self._multipliers

    def holders(self, symbol: str) -> tuple[Key, ...]:
        """The positions in a symbol, flat ones included, oldest first."""
        return tuple(self._holders.get(symbol, ()))

    def positions(self) -> Iterator[tuple[Key, Position]]:
        """All positions, flat ones included, oldest first. Not to be changed."""
        return ((key, self._settled(holding)) for key, holding in self._holdings.items())

    def incomplete(self) -> frozenset[Key]:
        """The positions of which a trade that stands is remembered no more."""
        return frozenset(key for key, holding in self._holdings.items() if not holding.complete)

    @property
    def size(self) -> int:
        """How many positions there are, flat ones included."""
        return len(self._holdings)

    def marks(self) -> Mapping[str, Mark]:
        """Symbol → the mark that values it now. Not to be changed."""
        return self._marks

    def forgotten(self) -> Mapping[str, Mapping[int, int]]:
        """Session → epoch → the highest MsgSeqNum of a trade that is remembered no more. Not to be changed."""
        return self._forgotten

    @property
    def remembers(self) -> int:
        """How many trades are remembered."""
        return len(self._memory)

    def remembered(self) -> Iterator[tuple[Identity, Remembered]]:
        """The trades remembered, oldest first."""
        return iter(self._memory.items())

    def _learn(self, trade: Trade) -> tuple[Key, ...]:
        """Notes the multiplier of a symbol; returns the positions that it makes worth something else."""
        self._multipliers[trade.symbol] = trade.multiplier_e8
        return self.holders(trade.symbol)

    def _hold(self, key: Key, position: Position) -> _Holding:
        holding = self._holdings[key] = _Holding(key, position)
        self._holders.setdefault(key[1], []).append(key)
        return holding

    def _keep(self, identity: Identity, trade: Remembered, *, root: bool, linked: bool = True) -> None:
        """Remembers a trade, which its position is made of if it is a `root`."""
        if len(self._memory) >= self._remember:
            self._forget_oldest(linked=linked)
        if root and (holding := self._holdings.get(trade[:2])) is not None:
            holding.roots[identity] = None
        self._memory[identity] = trade
        self._oldest.append(identity)
        if identity[1] not in self._dates:
            self._note_date(identity[1])

    def _note_date(self, date: int) -> None:
        self._dates = sorted((*self._dates, date), reverse=True)

    def _named(self, trade: Trade) -> Identity | None:
        """What ExecRefID(19) means: the trade of the same day with that ExecID, else the latest; None if there is none.

        FIX keeps an ExecID unique within a day, and a bust may come the day after.
        """
        session, exec_id = trade.session, trade.exec_ref_id
        for date in (trade.trade_date, *self._dates):
            if (session, date, exec_id) in self._memory:
                return (session, date, exec_id)
        return None

    def _tip(self, identity: Identity) -> Identity:
        """What now stands in the place of a trade, in whichever position.

        Whoever corrects names the first, or the last, or any between. Each walk shortens the way for the next, or N
        corrections of one trade would take N*N steps.
        """
        way, tip = [], identity
        while (after := self._skips.get(tip)) is not None:
            way.append(tip)
            tip = after
        self.walked += len(way)
        for one in way:
            self._skips[one] = tip
        return tip

    def _stands(self, session: str, trade: Remembered) -> tuple[int, int]:
        """Quantity and price of what stands in the place of a root; 0 if nothing does, in its position.

        All that it walks over is of that position, and in the place of no other root.
        """
        while (correction := trade[4]) is not None:
            self.walked += 1
            after = self._memory[session, *correction]
            if after[:2] != trade[:2]:
                return 0, 0
            trade = after
        return trade[2], trade[3]

    def _forget_oldest(self, *, linked: bool = True) -> None:
        """Makes room for one more. Where the oldest stands, its position cannot be made anew from then on."""
        identity = self._oldest.popleft()
        trade = self._memory[identity]
        holding = self._holdings.get(trade[:2])
        if holding is not None and identity in holding.roots:
            if (self._stands(identity[0], trade)[0] if linked else trade[2]) != 0:
                self._settled(holding)
                holding.complete = False
            del holding.roots[identity]
        del self._memory[identity]
        self._skips.pop(identity, None)
        epoch, msg_seq_num = trade[5], trade[6]
        if not msg_seq_num:
            return
        epochs = self._forgotten.setdefault(identity[0], {})
        if msg_seq_num > epochs.get(epoch, 0):
            epochs[epoch] = msg_seq_num
            if len(epochs) > MAX_EPOCHS:
                del epochs[min(epochs)]

    def _taken_before(self, trade: Trade, taken: Remembered) -> Result:
        if trade.action != ACTION_TRADE and trade.exec_id == trade.exec_ref_id:
            return names_itself(trade)
        if (trade.epoch, trade.msg_seq_num) > taken[5:]:
            # Sent anew under a higher number, it may be resent under that one when the trade is forgotten.
            self._memory[trade.identity] = (*taken[:5], trade.epoch, trade.msg_seq_num)
        return Result(Outcome.DUPLICATE_TRADE, f"{trade.exec_id} of {trade.session} was taken before", ())

    def _is_forgotten(self, trade: Trade) -> bool:
        return trade.msg_seq_num <= self._forgotten[trade.session].get(trade.epoch, 0)

    def _taken_long_ago(self, trade: Trade) -> Result:
        highest = self._forgotten[trade.session].get(trade.epoch, 0)
        return Result(
            Outcome.DUPLICATE_DELIVERY,
            f"{trade.exec_id} of {trade.session} is not among the last {self._remember} trades of its partition, and "
            f"MsgSeqNum {trade.msg_seq_num} of epoch {trade.epoch} is not above {highest}, the highest of those before "
            "them: it was taken then",
            (),
        )

    def _adjust(self, trade: Trade, identity: Identity) -> Result:
        """Busts or corrects the trade that now stands in the place of the one named by ExecRefID."""
        if trade.action not in {ACTION_BUST, ACTION_CORRECT}:
            return _invalid(trade, f"action {trade.action} is neither trade nor bust nor correction")
        if trade.exec_id == trade.exec_ref_id:
            return names_itself(trade)
        if trade.action == ACTION_CORRECT and trade.side not in {SIDE_BUY, SIDE_SELL}:
            return _invalid(trade, f"Side(54) {trade.side} is neither buy nor sell")
        standing_id = self._named(trade)
        if standing_id is None:
            return unknown_reference(trade, self._remember)
        standing_id = self._tip(standing_id)  # which is younger, so it is not forgotten before
        trader, symbol, quantity, px, _, epoch, msg_seq_num = self._memory[standing_id]
        if symbol != trade.symbol:
            return other_symbol(trade, symbol)
        if not quantity:
            return already_busted(trade)
        holding = self._holdings[trader, symbol]
        if trade.action == ACTION_BUST:
            self._keep(identity, (trader, symbol, 0, px, None, trade.epoch, trade.msg_seq_num), root=False)
            self._restate(standing_id, (trader, symbol, 0, px, None, epoch, msg_seq_num))
            self._take_back(holding, quantity, px)
            return holding.result
        restated: tuple[Key, ...] = ()
        if trade.multiplier_e8 and trade.multiplier_e8 != self._multipliers.get(symbol):
            if symbol in self._multipliers:
                return other_multiplier(trade, self._multipliers[symbol])
            restated = self._learn(trade)
        corrected = trade.last_qty_e8 if trade.side == SIDE_BUY else -trade.last_qty_e8
        key = (trade.trader, symbol)
        other = self._holdings.get(key) or self._hold(key, Position())
        taken = (trade.trader, symbol, corrected, trade.last_px_e8, None, trade.epoch, trade.msg_seq_num)
        self._keep(identity, taken, root=other is not holding)
        self._restate(standing_id, (trader, symbol, quantity, px, identity[1:], epoch, msg_seq_num))
        self._take_back(holding, quantity, px)
        if other is not holding:
            if not other.stale:
                other.position.trade(corrected, trade.last_px_e8)
            return _and_others(Result(Outcome.APPLIED, "", ((trader, symbol), key)), restated)
        if not holding.complete:
            holding.position.trade(corrected, trade.last_px_e8)
        return _and_others(holding.result, restated)

    def _restate(self, identity: Identity, trade: Remembered) -> None:
        """Changes what is remembered of a trade, unless that very row has made it forgotten."""
        if identity in self._memory:
            self._memory[identity] = trade
            if trade[4] is not None:
                self._skips[identity] = (identity[0], *trade[4])

    def _take_back(self, holding: _Holding, quantity: int, px: int) -> None:
        """Makes the position what it would be if the trade had never been; what is not remembered allows less."""
        if holding.complete:
            holding.stale = True
            return
        holding.position.reverse(quantity, px)
        holding.position.approximate = True

    def _settled(self, holding: _Holding) -> Position:
        """The position, made anew of the trades that stand if it is to be."""
        position = holding.position
        if holding.stale:
            holding.stale = False
            position.clear()
            self.walked += len(holding.roots)
            for root in holding.roots:
                standing, at_px = self._stands(root[0], self._memory[root])
                if standing:
                    position.trade(standing, at_px)
        return position


# --- what a row is refused with: said here for every implementation of books ---------------------------------


def names_itself(trade: Trade) -> Result:
    """A bust or correction of itself."""
    own = "a TradeReportID(571)" if trade.exec_id.startswith(CAPTURED) else "an ExecID(17)"
    return _invalid(trade, f"it names itself in {_reference(trade)}, but needs {own} of its own")


def other_symbol(trade: Trade, symbol: str) -> Result:
    """A bust or correction of a trade in another symbol."""
    return _invalid(
        trade,
        f"its Symbol(55) is {trade.symbol}, that of the trade it refers to is {symbol}: "
        "bust that trade and book a new one",
    )


def other_multiplier(trade: Trade, multiplier_e8: int) -> Result:
    """A trade with another multiplier than those before it in its symbol."""
    return _invalid(
        trade,
        f"its ContractMultiplier(231) is {format_e8(trade.multiplier_e8)}, that of earlier trades in {trade.symbol} is "
        f"{format_e8(multiplier_e8)}: have the counterparty correct the one that is wrong, or name the contracts apart",
    )


def unknown_reference(trade: Trade, remember: int) -> Result:
    """A bust or correction of a trade that is not among the last `remember`."""
    return Result(
        Outcome.UNKNOWN_REFERENCE,
        f"{trade.exec_id} of {trade.session} refers to {trade.exec_ref_id or 'nothing'} in {_reference(trade)}, which"
        f" is not among the last {remember} trades of its partition. Its instrument is {trade.symbol}: that of the"
        " trade it refers to must be said in the same words (Symbol, Currency, SecurityExchange and the like)",
        (),
    )


def already_busted(trade: Trade) -> Result:
    """A bust or correction of a trade that does not stand any more."""
    return Result(
        Outcome.ALREADY_BUSTED,
        f"{trade.exec_id} of {trade.session} refers to {trade.exec_ref_id} in {_reference(trade)}, which does not "
        "stand: it was busted, or is a bust itself",
        (),
    )


def _reference(trade: Trade) -> str:
    """The field that names the trade to be busted or corrected."""
    return "TradeReportRefID(572)" if trade.exec_id.startswith(CAPTURED) else "ExecRefID(19)"


def _and_others(result: Result, restated: tuple[Key, ...]) -> Result:
    """The same, having changed these as well."""
    more = tuple(key for key in restated if key not in result.changed)
    return result._replace(changed=(*result.changed, *more)) if more else result


def _invalid(trade: Trade, why: str) -> Result:
    return Result(Outcome.INVALID, f"{trade.exec_id} of {trade.session}: {why}", ())
