"""Every constant of the five phases, with its unit, range and default: the section `[strategy]` of `sqfd.toml`.

Names end in their unit (`_s` seconds); those without one are multiples of what is usual, shares of 1, or points of the score.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

MAX_WINDOW_S = 14_400
MAX_BASELINE_S = 86_400

Windows = tuple[int, ...]
Weights = tuple[float, ...]


class Tier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a score is worth."""

    score: Annotated[float, Meta(ge=0, le=10, description="Least score of the tier, 0 to 10.")]
    size: Annotated[float, Meta(gt=0, le=10, description="Position size factor.")]
    leverage: Annotated[int, Meta(ge=1, le=125, description="Leverage suggested to the consumer.")]
    confidence: Annotated[float, Meta(ge=0, le=1, description="Confidence stated in the signal.")]


class StrategySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of SqueezeFlow. Raises ValueError (msgspec: ValidationError) where they contradict each other."""

    name: Annotated[
        str,
        Meta(min_length=1, max_length=64, description="Which strategy: an entry point of the group sqfd.strategies."),
    ] = "squeezeflow"

    # what is usual
    sensitivity: Annotated[
        float, Meta(gt=0, le=10, description="Scale of normalised moves: 0.5 in 1-second mode, 1.0 with longer bars.")
    ] = 0.5
    warmup_s: Annotated[
        int, Meta(ge=1, le=86_400, description="History that a symbol needs before it is judged, seconds.")
    ] = 1_800
    baseline_s: Annotated[
        int, Meta(ge=1, le=MAX_BASELINE_S, description="Span from which the usual move is read, seconds.")
    ] = 86_400
    sample_s: Annotated[
        int, Meta(ge=1, le=3_600, description="Spacing of the baseline's samples and how often it is renewed, seconds.")
    ] = 60
    swing_window_s: Annotated[
        int, Meta(ge=1, le=MAX_WINDOW_S, description="Window of the usual swing that exits are measured in, seconds.")
    ] = 300

    # phase 1: context
    context_windows_s: Annotated[Windows, Meta(min_length=1, description="Windows of the context, seconds.")] = (
        1_800,
        3_600,
        14_400,
    )
    context_weights: Annotated[Weights, Meta(min_length=1, description="Weight of each context window.")] = (
        0.2,
        0.3,
        0.5,
    )
    context_threshold: Annotated[
        float, Meta(gt=0, le=1, description="Context beyond which a side is being squeezed.")
    ] = 0.15
    context_high: Annotated[float, Meta(gt=0, le=1, description="Context from which a long duration is expected.")] = (
        0.6
    )
    context_medium: Annotated[
        float, Meta(gt=0, le=1, description="Context from which a medium duration is expected.")
    ] = 0.35

    # phase 2: divergence
    divergence_windows_s: Annotated[
        Windows, Meta(min_length=1, description="Windows in which spot and perp may diverge, seconds.")
    ] = (900, 1_800)
    divergence_gap_min: Annotated[float, Meta(ge=0, le=100, description="Least gap between spot and perp flow.")] = 1.25
    divergence_gap_rank: Annotated[
        float, Meta(ge=0, lt=1, description="Share of usual gaps that the gap must exceed.")
    ] = 0.9
    divergence_leg_rank: Annotated[
        float, Meta(ge=0, lt=1, description="Share of usual moves that each of spot and perp must exceed.")
    ] = 0.4
    divergence_price_rank: Annotated[
        float, Meta(ge=0, lt=1, description="Share of usual price moves that an adverse one must not reach.")
    ] = 0.6
    divergence_full_gap: Annotated[float, Meta(gt=0, le=100, description="Gap at which the strength is 1.")] = 2.0
    armed_s: Annotated[
        int, Meta(ge=1, le=MAX_WINDOW_S, description="How long a setup stays armed after it last held, seconds.")
    ] = 1_500
    disarm_swings: Annotated[
        float, Meta(ge=0, le=100, description="Usual swings beyond the setup's extreme at which it is given up.")
    ] = 1.0

    # phase 3: reset
    reset_windows_s: Annotated[
        Windows, Meta(min_length=1, description="Windows whose halves are compared, even numbers of seconds.")
    ] = (300, 900, 1_800)
    reset_weights: Annotated[Weights, Meta(min_length=1, description="Weight of each reset window.")] = (0.2, 0.3, 0.5)
    reset_gap_min: Annotated[float, Meta(gt=0, le=100, description="Least gap of the older half.")] = 1.25
    reset_remainder_max: Annotated[
        float, Meta(ge=0, le=1, description="Largest share of the older gap that the newer half may leave.")
    ] = 0.75
    reset_stall_max: Annotated[
        float, Meta(ge=0, le=100, description="Largest price move of the newer half that counts as a stall.")
    ] = 0.5
    reset_hold_s: Annotated[int, Meta(ge=1, le=MAX_WINDOW_S, description="How long a reset holds, seconds.")] = 600
    reset_extreme_s: Annotated[
        int, Meta(ge=1, le=MAX_WINDOW_S, description="Span whose low and high a reset fixes, seconds.")
    ] = 300
    confirm_s: Annotated[
        int, Meta(ge=1, le=MAX_WINDOW_S, description="Time after a reset in which a move may confirm it, seconds.")
    ] = 900
    confirm_window_s: Annotated[
        int, Meta(ge=1, le=MAX_WINDOW_S, description="Window of the confirming move, seconds.")
    ] = 300
    confirm_move_min: Annotated[float, Meta(ge=0, le=100, description="Least confirming price move.")] = 1.0

    # phase 4: score
    alignment_points: Annotated[
        float, Meta(ge=0, le=10, description="Points for a live reset of all windows, in proportion of some.")
    ] = 0.75
    convergence_points: Annotated[float, Meta(ge=0, le=10, description="Points for a complete convergence.")] = 0.5
    deceleration_points: Annotated[float, Meta(ge=0, le=10, description="Points for flow that came to rest.")] = 0.1
    deceleration_ratio: Annotated[
        float, Meta(gt=0, le=1, description="Share of the fastest flow below which it decelerates.")
    ] = 0.7
    speed_window_s: Annotated[int, Meta(ge=1, le=3_600, description="Window of flow speed, seconds.")] = 150
    speed_spans: Annotated[
        int, Meta(ge=2, le=60, description="Adjacent speed windows of which the fastest is compared.")
    ] = 6
    second_test_points: Annotated[float, Meta(ge=0, le=10, description="Points for a weaker second test.")] = 0.1
    second_test_ratio: Annotated[
        float, Meta(gt=0, le=1, description="Share of the first test's flow that the second must stay below.")
    ] = 0.7
    second_test_tolerance: Annotated[
        float, Meta(ge=0, le=1, description="Distance of the two lows as a share of the range in which they lie.")
    ] = 0.25
    candle_s: Annotated[int, Meta(ge=1, le=900, description="Candle of the absorption patterns, seconds.")] = 300
    unbroken_points: Annotated[
        float, Meta(ge=0, le=10, description="Points when no recent candle closed beyond the reset's extreme.")
    ] = 0.25
    green_points: Annotated[float, Meta(ge=0, le=10, description="Points when the absorbing candle closes well.")] = 0.1
    wick_points: Annotated[float, Meta(ge=0, le=10, description="Points for a long wick that closed inside.")] = 0.9
    wick_share: Annotated[float, Meta(gt=0, le=1, description="Least share of the candle's range in its wick.")] = 0.5
    volume_points: Annotated[float, Meta(ge=0, le=10, description="Points for volume on the absorbing candle.")] = 1.1
    volume_ratio: Annotated[float, Meta(gt=0, le=100, description="Least volume in multiples of the mean before.")] = (
        1.5
    )
    breakdown_candle_s: Annotated[
        int, Meta(ge=1, le=300, description="Candle of failed breakdowns and tests, seconds.")
    ] = 60
    breakdown_candles: Annotated[int, Meta(ge=2, le=60, description="Recent candles that may fail to break.")] = 15
    range_candles: Annotated[int, Meta(ge=1, le=120, description="Candles before them that make the range.")] = 30
    breakdown_points: Annotated[
        Weights, Meta(min_length=1, description="Points for one, two, three or more failed breakdowns.")
    ] = (0.5, 0.75, 0.95)
    fading_points: Annotated[
        float, Meta(ge=0, le=10, description="Points when each attempt moved less flow than the one before.")
    ] = 0.1
    bias_window_s: Annotated[int, Meta(ge=1, le=3_600, description="Window of the directional bias, seconds.")] = 300
    bias_full: Annotated[
        float, Meta(gt=0, le=100, description="Move that earns all points of its bias; smaller ones in proportion.")
    ] = 1.0
    bias_spot_points: Annotated[float, Meta(ge=0, le=10, description="Points for spot flow in the direction.")] = 0.25
    bias_price_points: Annotated[float, Meta(ge=0, le=10, description="Points for price in the direction.")] = 0.75
    bias_perp_points: Annotated[float, Meta(ge=0, le=10, description="Points for perp flow in the direction.")] = 0.5
    lagging_points: Annotated[
        float, Meta(ge=0, le=10, description="Points when perp flow over the shortest divergence window has turned.")
    ] = 0.5
    lagging_full: Annotated[
        float, Meta(gt=0, le=100, description="Its move that earns all points; half of them where it rests.")
    ] = 0.5
    context_points: Annotated[
        float, Meta(ge=0, le=10, description="Points for a context that agrees, lost when it opposes.")
    ] = 0.4
    context_full: Annotated[float, Meta(gt=0, le=1, description="Context that gives or takes all its points.")] = 0.3
    use_open_interest: Annotated[bool, Meta(description="Whether rising open interest adds to the score.")] = False
    open_interest_points: Annotated[float, Meta(ge=0, le=10, description="Most points for open interest.")] = 1.0
    open_interest_full: Annotated[float, Meta(gt=0, le=1, description="Relative rise that gives all points.")] = 0.02
    use_funding: Annotated[bool, Meta(description="Whether funding paid by the squeezed side adds points.")] = False
    funding_points: Annotated[float, Meta(ge=0, le=10, description="Most points for funding.")] = 0.5
    funding_full_bps: Annotated[
        float,
        Meta(gt=0, le=100, description="Basis points of 8 hours, paid by the squeezed side, that give all points."),
    ] = 3.0
    use_liquidations: Annotated[bool, Meta(description="Whether liquidations of the squeezed side add points.")] = False
    liquidation_points: Annotated[float, Meta(ge=0, le=10, description="Most points for liquidations.")] = 0.5
    liquidation_full: Annotated[float, Meta(gt=0, le=1, description="Share of perp volume that gives all points.")] = (
        0.05
    )

    # entries
    require_reset: Annotated[bool, Meta(description="Whether an entry needs a live reset of its side.")] = True
    min_entry_score: Annotated[float, Meta(ge=0, le=10, description="Least score of an entry.")] = 4.0
    premium: Annotated[Tier, Meta(description="The highest tier.")] = Tier(8.0, 1.5, 5, 0.9)
    high: Annotated[Tier, Meta(description="The middle tier.")] = Tier(6.0, 1.0, 3, 0.75)
    medium: Annotated[Tier, Meta(description="The lowest tier; its score is min_entry_score where that is higher.")] = (
        Tier(0.0, 0.5, 2, 0.6)
    )
    min_coverage: Annotated[
        float, Meta(ge=0, le=1, description="Least coverage of a setup and of an entry, share of 1.")
    ] = 0.9
    max_open_positions: Annotated[int, Meta(ge=1, le=1_000, description="Open positions over all symbols.")] = 2
    cooldown_s: Annotated[int, Meta(ge=1, le=86_400, description="Pause of a symbol after an exit, seconds.")] = 300
    ttl_s: Annotated[int, Meta(ge=1, le=86_400, description="How long a signal is valid, seconds.")] = 600

    # phase 5: exits
    exit_lookback_s: Annotated[int, Meta(ge=1, le=MAX_WINDOW_S, description="Look-back of exits, seconds.")] = 600
    reversal_spot: Annotated[float, Meta(ge=0, le=100, description="Adverse spot flow of a flow reversal.")] = 0.25
    reversal_perp: Annotated[float, Meta(ge=0, le=100, description="Opposite perp flow of a flow reversal.")] = 0.25
    new_extreme_s: Annotated[
        int, Meta(ge=1, le=MAX_WINDOW_S, description="A new price extreme this recent spares the position, seconds.")
    ] = 300
    range_break_swings: Annotated[
        float, Meta(ge=0, le=100, description="Usual swings beyond the reset's extreme that break the range.")
    ] = 0.25
    exit_flow: Annotated[float, Meta(ge=0, le=100, description="Adverse spot and perp flow that invalidates.")] = 0.5
    structure_s: Annotated[
        int, Meta(ge=1, le=MAX_WINDOW_S, description="Span whose extreme is the structure, seconds.")
    ] = 1_200
    structure_swings: Annotated[
        float, Meta(ge=0, le=100, description="Usual swings beyond the structure that break it.")
    ] = 1.0

    per_symbol: Annotated[
        dict[str, dict[str, Any]], Meta(description="Settings that differ for a symbol, by symbol and name.")
    ] = {}

    def __post_init__(self) -> None:
        _check_windows(self)
        _check_order(self)
        for symbol in self.per_symbol:
            self.for_symbol(symbol)

    def for_symbol(self, symbol: str) -> StrategySettings:
        """The settings with what `per_symbol` says of `symbol`; ValueError names what is wrong there."""
        changed = self.per_symbol.get(symbol)
        if not changed:
            return self
        shared = [name for name in ("per_symbol", "name", "max_open_positions") if name in changed]
        if shared:
            raise ValueError(f"per_symbol.{symbol}.{shared[0]}: this setting is shared by all symbols")
        plain = {name: getattr(self, name) for name in self.__struct_fields__ if name != "per_symbol"}
        try:
            return msgspec.convert(plain | changed, StrategySettings)
        except msgspec.ValidationError as error:
            raise ValueError(f"per_symbol.{symbol}: {error}") from error

    @property
    def history_s(self) -> int:
        """Seconds of log price and CVDs that the phases read."""
        return self.baseline_s + max(self.windows_s)

    @property
    def windows_s(self) -> tuple[int, ...]:
        """All windows whose moves are normalised, ascending."""
        halves = (window // 2 for window in self.reset_windows_s)
        single = (self.swing_window_s, self.confirm_window_s, self.bias_window_s, self.exit_lookback_s)
        return tuple(sorted({*self.context_windows_s, *self.divergence_windows_s, *halves, *single}))

    @property
    def setup_window_s(self) -> int:
        """The longest divergence window: of coverage, of a setup's extreme and of the swing that disarms it."""
        return max(self.divergence_windows_s)

    @property
    def detail_s(self) -> int:
        """Seconds of highs, lows, volumes and coverage that the phases read."""
        candles = self.breakdown_candle_s * (self.range_candles + self.breakdown_candles + 1)
        spans = (self.setup_window_s, self.structure_s, self.reset_extreme_s, self.exit_lookback_s, self.armed_s)
        return max(candles, self.candle_s * 16, *spans) + 2

    @property
    def memory_s(self) -> int:
        """How far back a setup or reset can still matter: what was armed, and what kept the other side from being armed then."""
        return self.armed_s + max(self.armed_s, self.confirm_s + self.reset_hold_s)


def differences(before: StrategySettings, after: StrategySettings) -> dict[str, tuple[Any, Any]]:
    """(before, after) of each setting that differs, by name; those of a symbol as `per_symbol.SYMBOL.name`."""
    plain = [name for name in before.__struct_fields__ if name != "per_symbol"]
    changed = {name: (getattr(before, name), getattr(after, name)) for name in plain}
    for symbol in sorted(before.per_symbol.keys() | after.per_symbol.keys()):
        old, new = before.for_symbol(symbol), after.for_symbol(symbol)
        named = sorted(before.per_symbol.get(symbol, {}).keys() | after.per_symbol.get(symbol, {}).keys())
        changed |= {f"per_symbol.{symbol}.{name}": (getattr(old, name), getattr(new, name)) for name in named}
    return {name: values for name, values in changed.items() if values[0] != values[1]}


def _check_windows(settings: StrategySettings) -> None:
    for name in ("context_windows_s", "divergence_windows_s", "reset_windows_s"):
        windows = getattr(settings, name)
        if list(windows) != sorted(set(windows)) or windows[0] < 1 or windows[-1] > MAX_WINDOW_S:
            raise ValueError(f"{name}: expected ascending windows of 1 to {MAX_WINDOW_S} seconds, got {list(windows)}")
    for name in ("context", "reset"):
        weights = getattr(settings, f"{name}_weights")
        if len(weights) != len(getattr(settings, f"{name}_windows_s")) or min(weights) <= 0:
            raise ValueError(f"{name}_weights: expected one positive weight per window, got {list(weights)}")
    if any(window % 2 for window in settings.reset_windows_s):
        raise ValueError(
            f"reset_windows_s: windows are halved, expected even ones, got {list(settings.reset_windows_s)}"
        )
    if settings.baseline_s < settings.sample_s:
        raise ValueError("baseline_s: expected at least one sample_s")


def _check_order(settings: StrategySettings) -> None:
    if settings.context_medium > settings.context_high:
        raise ValueError("context_medium: expected at most context_high")
    if not settings.premium.score >= settings.high.score >= settings.medium.score:
        raise ValueError("premium, high, medium: expected descending scores")
