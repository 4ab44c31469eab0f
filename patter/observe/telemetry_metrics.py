"""The metrics that go out with the spans: GenAI's own for operations and tokens, and what this package counts anyway.

It owns the instruments and their buckets; it refuses to know calls and turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from patter.events import TurnMeasured, UsageMeasured
from patter.observe.series import Number

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation

# both rows are those that the conventions recommend
DURATIONS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
LATENCIES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
LABELS = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "error.type")


class TelemetryMetrics:
    """The instruments of one meter. `numbers` are read when a reader of the meter asks."""

    def __init__(self, meter: Meter, numbers: Iterable[Number]) -> None:
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "GenAI operation duration.",
            explicit_bucket_boundaries_advisory=DURATIONS,
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", "Tokens used.", explicit_bucket_boundaries_advisory=TOKENS
        )
        self._latency = meter.create_histogram(
            "patter.turn.latency", "s", "Silence before answers.", explicit_bucket_boundaries_advisory=LATENCIES
        )
        for number in numbers:
            name = number.name.replace("patter_", "patter.", 1)
            make = meter.create_observable_counter if number.kind == "counter" else meter.create_observable_gauge
            make(name, [_observed(number)], description=number.what)

    def operation(self, about: Mapping[str, Any], seconds: float) -> None:
        """A request to a provider took so long."""
        self._duration.record(seconds, {name: about[name] for name in LABELS if name in about})

    def tokens(self, used: UsageMeasured, taken: int, made: int) -> None:
        """A model took and made so many tokens."""
        about = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": used.provider}
        if used.model:
            about["gen_ai.request.model"] = used.model
        for kind, count in (("input", taken), ("output", made)):
            if count > 0:
                self._tokens.record(count, about | {"gen_ai.token.type": kind})

    def turn(self, measured: TurnMeasured, *, answered: bool) -> None:
        """A turn is over; it counts if a caller's words were answered and the answer was not interrupted."""
        if answered and not measured.interrupted and measured.total_ms > 0:
            self._latency.record(measured.total_ms / 1000, {"segment": "total"})
            for name, took_ms in measured.segments.items():
                self._latency.record(took_ms / 1000, {"segment": name})


def _observed(number: Number) -> Callable[[CallbackOptions], Iterable[Observation]]:
    from opentelemetry.metrics import Observation  # an optional package

    def look(_: CallbackOptions) -> Iterable[Observation]:
        values = list(number.values.items())  # at once: the loop counts on while another thread reads
        return [Observation(value, dict(zip(number.labels, labels, strict=True))) for labels, value in values]

    return look
