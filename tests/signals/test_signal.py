"""The signal's JSON is the contract with its consumers: names, order, time and ids are pinned here."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest

from sqfd.signals.signal import Signal, cvd_record, encode, iso_time, market_symbol, published, signal_id

SECOND = 1_700_000_000


@pytest.fixture
def signal() -> Signal:
    return Signal(
        signal_id=signal_id("squeezeflow", "BTCUSDT", SECOND, "LONG"),
        timestamp=iso_time(SECOND + 1),
        symbol=market_symbol("BTC"),
        base_symbol="BTC",
        action="LONG",
        side="LONG",
        score=6.5,
        position_size_factor=1.0,
        leverage=3,
        entry_price=61234.5,
        price=61234.5,
        ttl=600,
        confidence=0.75,
        reasoning="LONG: a long setup held 30 s ago",
        strategy="squeezeflow",
        service="sqfd",
        schema_version=2,
        valid_until=iso_time(SECOND + 601),
        second=SECOND,
        quality="high",
        score_breakdown={"cvd_reset": 2.5},
        phases={"context": {"verdict": "NEUTRAL"}},
        coverage=1.0,
        position_id=signal_id("squeezeflow", "BTCUSDT", SECOND, "LONG"),
        exit_reasons=(),
        spot_cvd=1000.25,
        futures_cvd=-500.0,
        cvd_divergence=1500.25,
        markets=("BINANCE:btcusdt",),
        instance="a",
    )


def test_every_agreed_field_is_there(signal: Signal) -> None:
    """The older fields and the new ones, without those that only the publisher knows."""
    names = set(orjson.loads(encode(signal)))
    older = (
        "signal_id timestamp symbol base_symbol action score position_size_factor leverage entry_price ttl confidence "
        "reasoning strategy service"
    )
    newer = "schema_version valid_until second quality score_breakdown phases coverage position_id markets instance"
    assert {*older.split(), *newer.split()} <= names
    assert not {"seq", "published_at", "latency_ms"} & names


def test_one_line_in_the_order_of_the_fields(signal: Signal) -> None:
    """Keys are written in a fixed order, so equal signals are equal bytes."""
    line = encode(signal)
    assert b"\n" not in line
    assert list(orjson.loads(line)) == list(Signal.__struct_fields__)


def test_the_publisher_adds_to_the_same_bytes(signal: Signal) -> None:
    """The published line is the core plus three fields at its end."""
    line = published(encode(signal), 7, "2023-11-14T22:13:21.300000+00:00", 51.5)
    assert line.startswith(encode(signal)[:-1])
    assert orjson.loads(line) == orjson.loads(encode(signal)) | {
        "seq": 7,
        "published_at": "2023-11-14T22:13:21.300000+00:00",
        "latency_ms": 51.5,
    }


def test_times_carry_their_offset(signal: Signal) -> None:
    """A consumer can tell when a signal expires without knowing where it was written."""
    made = datetime.fromisoformat(signal.timestamp)
    assert signal.timestamp == "2023-11-14T22:13:21+00:00"
    assert made == datetime.fromtimestamp(SECOND + 1, UTC)
    assert (datetime.fromisoformat(signal.valid_until) - made).total_seconds() == signal.ttl


def test_ids_depend_on_strategy_symbol_second_and_action_only() -> None:
    """Live, replay and retries agree, and nothing else shares the id."""
    first = signal_id("squeezeflow", "BTCUSDT", SECOND, "LONG")
    assert first == signal_id("squeezeflow", "BTCUSDT", SECOND, "LONG")
    others = {
        signal_id("other", "BTCUSDT", SECOND, "LONG"),
        signal_id("squeezeflow", "ETHUSDT", SECOND, "LONG"),
        signal_id("squeezeflow", "BTCUSDT", SECOND + 1, "LONG"),
        signal_id("squeezeflow", "BTCUSDT", SECOND, "CLOSE"),
        first,
    }
    assert len(others) == 5


def test_the_cvd_record_has_the_fields_of_its_key(signal: Signal) -> None:
    """What `signal_cvd:{id}` held before sqfd."""
    names = "signal_id symbol side entry_price spot_cvd futures_cvd cvd_divergence timestamp"
    assert list(orjson.loads(cvd_record(signal))) == names.split()
