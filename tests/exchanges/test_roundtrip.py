"""What a simulated exchange sends, its decoder reads: the two halves are inverse to each other."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import exchanges
from exchanges.api import Acked, Instrument, Liquidation, Malformed, Past, Rejected, Trade, Unknown
from tests.exchanges.support import (
    COUNTED,
    MARKED,
    NOW_MS,
    SILENT,
    UNTIMED,
    Link,
    endpoints,
    identity,
    instruments,
    liquidation_endpoint,
    on_grid,
    same,
    simulated,
    sockets,
)

prices = st.floats(1e-8, 1e6, allow_subnormal=False)
sizes = st.floats(1e-7, 1e4, allow_subnormal=False)
times = st.integers(NOW_MS - 86_400_000, NOW_MS)


@st.composite
def trades(draw: st.DrawFn, of: list[Instrument]) -> Trade:
    instrument = draw(st.sampled_from(of))
    number = draw(st.integers(2, 2**40))
    count = draw(st.integers(1, 900)) if instrument.exchange in COUNTED else 1
    price, size = on_grid(draw(prices), instrument.price_scale), on_grid(draw(sizes), instrument.value_scale)
    return Trade(
        instrument,
        draw(times),
        price,
        size,
        draw(st.booleans()),
        identity(instrument.exchange, number, instrument.endpoint),
        count,
    )


@st.composite
def forced(draw: st.DrawFn, of: list[Instrument]) -> Liquidation:
    return Liquidation(draw(st.sampled_from(of)), draw(times), draw(prices), draw(sizes), draw(st.booleans()))


def order(deal: Any) -> tuple[object, ...]:
    return (deal.instrument.symbol, deal.ts_ms, deal.price, str(deal.id))


@pytest.mark.parametrize(("exchange_id", "endpoint"), endpoints())
@given(data=st.data())
def test_trades_come_back_as_they_were_sent(exchange_id: str, endpoint: str, data: st.DataObject) -> None:
    """decode(encode(trade)) = trade, through subscribing, for every endpoint."""
    link = Link(simulated(exchange_id), endpoint)
    link.subscribe()
    sent = data.draw(
        st.lists(trades(list(link.instruments.values())), max_size=5, unique_by=lambda t: t.id or (t.ts_ms, t.price))
    )
    got = link.deals(link.connection.trades(sent, NOW_MS))
    assert len(got) == len(sent)
    for one, other in zip(sorted(got, key=order), sorted(sent, key=order), strict=True):
        assert isinstance(one, Trade)
        assert same(one, other), (one, other)
        assert one.count == other.count


@pytest.mark.parametrize(("exchange_id", "endpoint"), endpoints())
@given(data=st.data())
def test_liquidations_come_back_as_they_were_sent(exchange_id: str, endpoint: str, data: st.DataObject) -> None:
    """decode(encode(liquidation)) = liquidation, with the side of the forced order, where there is a feed of them."""
    link = Link(simulated(exchange_id), liquidation_endpoint(exchange_id, endpoint), liquidations=True)
    link.subscribe()
    of = [i for i in link.instruments.values() if i.kind != "spot"]
    sent = data.draw(st.lists(forced(of), max_size=4)) if of else []
    if exchange_id in UNTIMED:
        sent = [msgspec.structs.replace(one, ts_ms=NOW_MS) for one in sent]
    got = link.deals(link.connection.liquidations(sent, NOW_MS))
    feed = exchanges.get(exchange_id).has_liquidations and exchange_id not in MARKED
    assert len(got) == (len(sent) if feed else 0)
    for one, other in zip(sorted(got, key=order), sorted(sent, key=order), strict=bool(got)):
        assert isinstance(one, Liquidation)
        assert (one.instrument, one.ts_ms, one.price, one.buy) == (
            other.instrument,
            other.ts_ms,
            other.price,
            other.buy,
        )
        assert math.isclose(one.size, other.size, rel_tol=1e-9)


@pytest.mark.parametrize(("exchange_id", "endpoint"), [e for e in endpoints() if e[0] in MARKED])
@pytest.mark.parametrize("buy", [True, False])
def test_marks_of_liquidations_come_back_as_they_were_sent(exchange_id: str, endpoint: str, buy: bool) -> None:
    """Where a trade itself is marked as forced, it is one trade with the mark, and no liquidation beside it."""
    link = Link(simulated(exchange_id), endpoint)
    link.subscribe()
    for instrument in link.instruments.values():
        if instrument.kind != "spot":
            sent = Trade(instrument, NOW_MS, 100.0, 1.0, buy, identity(exchange_id, 7, endpoint), 1, buy)
            (got,) = link.deals(link.connection.trades([sent], NOW_MS))
            assert isinstance(got, Trade)
            assert same(got, sent)
            assert got.forced is buy


@pytest.mark.parametrize(("exchange_id", "endpoint"), sockets())
def test_every_subscription_is_acknowledged_by_its_topic(exchange_id: str, endpoint: str) -> None:
    """After subscribing, the acknowledgements name exactly the topics asked for, and nothing is live yet."""
    link = Link(simulated(exchange_id), endpoint, liquidations=True)
    events = link.subscribe()
    assert {t for e in events if isinstance(e, Acked) for t in e.topics} == set(link.topics)
    assert not [e for e in events if isinstance(e, Trade | Liquidation | Rejected)]


@pytest.mark.parametrize(("exchange_id", "endpoint"), sockets())
def test_nothing_that_an_exchange_says_by_itself_is_unknown(exchange_id: str, endpoint: str) -> None:
    """Greetings, acknowledgements, heartbeats and answers to pings are understood."""
    link = Link(simulated(exchange_id), endpoint, liquidations=True)
    events = link.subscribe() + link.read(link.connection.heartbeat(NOW_MS))
    ping = link.decoder.ping(NOW_MS)
    events += link.send([ping]) if ping is not None else []
    assert not [e for e in events if isinstance(e, Unknown | Malformed)]


@pytest.mark.parametrize(("exchange_id", "endpoint"), endpoints())
def test_an_unknown_symbol_is_refused_by_its_topic(exchange_id: str, endpoint: str) -> None:
    """Asking for what does not exist is refused with the topic's name, or, where the exchange is silent, brings nothing."""
    server = simulated(exchange_id)
    link = Link(server, endpoint)
    known = next(iter(link.instruments.values()))
    topic = server.exchange.streams(known, False)[0].topic
    spelling = known.symbol if known.symbol in topic else known.symbol.lower()
    wrong = topic.replace(spelling, spelling[::-1])
    events = link.subscribe([wrong])
    refused = [t for e in events if isinstance(e, Rejected) for t in e.topics]
    assert refused == ([] if exchange_id in SILENT else [wrong])


@pytest.mark.parametrize(("exchange_id", "endpoint"), endpoints())
def test_after_unsubscribing_nothing_comes(exchange_id: str, endpoint: str) -> None:
    """Unsubscribed instruments send no trades."""
    link = Link(simulated(exchange_id), endpoint)
    link.subscribe()
    link.send(link.decoder.unsubscribe(link.topics, NOW_MS))
    trade = Trade(next(iter(link.instruments.values())), NOW_MS, 100.0, 1.0, True, identity(exchange_id, 7, endpoint))
    assert not link.connection.trades([trade], NOW_MS)


@pytest.mark.parametrize(("exchange_id", "endpoint"), endpoints())
def test_a_second_subscriber_never_takes_the_image_for_live(exchange_id: str, endpoint: str) -> None:
    """What an exchange repeats on subscribing is Past; the next trade is live."""
    server = simulated(exchange_id)
    first, second = Link(server, endpoint), Link(server, endpoint)
    first.subscribe()
    instrument = next(iter(first.instruments.values()))
    old = Trade(instrument, NOW_MS - 9, 100.0, 1.0, True, identity(exchange_id, 8, endpoint))
    new = Trade(instrument, NOW_MS, 101.0, 2.0, False, identity(exchange_id, 9, endpoint))
    first.connection.trades([old], NOW_MS)
    images = [t for e in second.subscribe() if isinstance(e, Past) for t in e.trades if t.instrument == instrument]
    assert all(same(t, old) for t in images)
    (live,) = second.deals(second.connection.trades([new], NOW_MS))
    assert isinstance(live, Trade)
    assert same(live, new)


@pytest.mark.parametrize(("exchange_id", "endpoint"), endpoints())
def test_frames_are_few_and_full(exchange_id: str, endpoint: str) -> None:
    """A full connection is subscribed to with no more frames than topics_per_frame makes necessary, none over it."""
    link = Link(simulated(exchange_id), endpoint)
    described = link.server.exchange.endpoint(endpoint)
    topic = link.topics[0]
    many = [f"{topic}{n}" for n in range(described.streams_per_connection)]
    frames = link.decoder.subscribe(many, NOW_MS)
    assert len(frames) == -(-len(many) // described.topics_per_frame)


@pytest.mark.parametrize("exchange_id", exchanges.IDS)
def test_keep_alives_are_answered(exchange_id: str) -> None:
    """Where the client owes pings, the simulated exchange answers them with something that is alive."""
    for endpoint in exchanges.get(exchange_id).endpoints:
        link = Link(simulated(exchange_id), endpoint.name)
        frame = link.decoder.ping(NOW_MS)
        assert frame is None or endpoint.ping_s is not None  # without a frame: a websocket ping, or nobody owes one
        if frame is not None:
            assert [type(e).__name__ for e in link.send([frame])] == ["Alive"]


def test_every_exchange_is_tested() -> None:
    """Each registered exchange has test instruments of every kind that it says it has."""
    for exchange_id in exchanges.IDS:
        exchange = exchanges.get(exchange_id)
        assert {i.kind for i in instruments(exchange)} == set(exchange.kinds)
        assert {i.endpoint for i in instruments(exchange)} <= {e.name for e in exchange.endpoints}
