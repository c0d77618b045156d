"""`reluscope bench counting`: what counting costs, beside everything else one could use, and what packing does.

Three questions, each on made-up and on real patterns:

keys      ready-made packed keys: `count_keys` beside numpy, torch, polars, DuckDB and pandas
patterns  activations: `count_patterns` beside our own packing followed by each of those, beside a plain parallel
          sum over the activations followed by `count_keys` (what reading and counting must cost at least), the
          paper's hash list, and `torch.unique(dim=0)` over the bits
packing   `pack_patterns` beside a plain parallel sum over the same array, by layout, dtype and width

Every alternative hands over keys and counts, which are read to the end; all must agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reluscope.bench.activations import STAGE_SITES, preactivations_at
from reluscope.bench.alternatives import (
    COUNT_KEYS,
    COUNT_PATTERNS,
    HASHLIST,
    OWN_HASHLIST,
    PACK,
    PACK_AND,
    ROWS_UNIQUE,
    SUM,
    SUM_AND_KEYS,
)
from reluscope.bench.cases import Case
from reluscope.bench.distributions import DISTRIBUTIONS, activations_of, words_of
from reluscope.bench.hashlist import count_by_hashlist, count_by_own_hashlist
from reluscope.bench.peers import Peer, Reading, installed_peers, read_counts
from reluscope.bench.rows import NOT_INSTALLED, Row, missing_row, rows_of
from reluscope.bench.subjects import LAB_NETWORKS, bench_images, check_models, network_after
from reluscope.bench.timing import Effort, interleave
from reluscope.errors import BenchmarkError
from reluscope.lab import ImageData
from reluscope.patterns import count_keys, count_patterns, pack_patterns

__all__ = ["CountingBenchmark", "check_device"]

_LAYOUTS = ("rows", "planes", "channels-last")
_DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_SIDE = 16  # of the images of `_LAYOUTS`


@dataclass(frozen=True, kw_only=True)
class CountingBenchmark:
    """What to count, how much of it and how often.

    Attributes:
        num_keys: ready-made keys per case; activations have as many values as 16 units for each of them.
        effort: rounds, and how long an alternative may take.
        widths: of the made-up patterns.
        networks: whose activations are counted, of LAB_NETWORKS.
        steps: after how many updates.
        data_dir: see `subjects.bench_images`.
        device: "cpu" or "cuda".

    Raises:
        BenchmarkError: a size, width, network or device that cannot be.
    """

    num_keys: int = 2_000_000
    effort: Effort = field(default_factory=Effort)
    widths: Sequence[int] = (16, 32, 64, 128, 512)
    networks: Sequence[str] = LAB_NETWORKS
    steps: Sequence[int] = (0, 200)
    data_dir: str | Path | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.num_keys < 1000:
            raise BenchmarkError(
                f"num_keys={self.num_keys}: give 1000 or more; below, calls cost more than keys."
            )
        if any(width < 1 for width in self.widths) or any(steps < 0 for steps in self.steps):
            raise BenchmarkError(
                f"widths {list(self.widths)} must be at least 1, steps {list(self.steps)} at least 0."
            )
        check_models(self.networks, LAB_NETWORKS)
        check_device(self.device)

    def quick(self) -> CountingBenchmark:
        """The same, tiny: to see that everything works; its numbers mean nothing."""
        return replace(
            self, num_keys=20_000, effort=Effort(rounds=3, seconds=0.2), widths=(16, 64, 512), steps=(0, 2)
        )

    def cases(self) -> list[Case]:
        """All cases; nothing is made before they run."""
        made_up = [(f"{name}/{width}", name, width) for width in self.widths for name in DISTRIBUTIONS]
        real = [
            (f"{network}-step{steps}/{stage}", partial(self._real, network, steps, stage))
            for network in self.networks
            for steps in self.steps
            for stage in STAGE_SITES
        ]
        keys = [(case, partial(self._made_up_keys, name, width)) for case, name, width in made_up]
        keys += [(case, partial(_packed, make)) for case, make in real]
        values = [(case, partial(self._made_up_values, name, width)) for case, name, width in made_up] + real
        return [
            *(Case(name=f"keys/{case}", run=partial(self._keys, case, make)) for case, make in keys),
            *(
                Case(name=f"patterns/{case}", run=partial(self._patterns, case, make))
                for case, make in values
            ),
            *self._packing_cases(),
        ]

    # The questions -----------------------------------------------------------------------------------------

    def _keys(
        self, case: str, make: Callable[[], tuple[np.ndarray, int]], tell: Callable[[float], None]
    ) -> list[Row]:
        words, width = make()
        peers, missing = self._peers()
        alternatives = {COUNT_KEYS: lambda: read_counts(count_keys(words, width))}
        alternatives |= {peer.name: peer.prepare(words) for peer in peers}
        rows = self._compare("keys", case, alternatives, COUNT_KEYS, len(words), tell)
        return rows + [missing_row(rows[0], peer.name, NOT_INSTALLED) for peer in missing]

    def _patterns(self, case: str, make: Callable[[], Tensor], tell: Callable[[float], None]) -> list[Row]:
        values = make().to(self.device)
        width = values.shape[1]
        words = pack_patterns(values)
        peers, missing = self._peers()

        def sum_and_keys() -> Reading:
            values.sum().item()
            return read_counts(count_keys(words, width))

        alternatives = {
            COUNT_PATTERNS: lambda: read_counts(count_patterns(values)),
            SUM_AND_KEYS: sum_and_keys,
            **{PACK_AND + peer.name: partial(_pack_and_count, peer, values) for peer in peers},
            HASHLIST: partial(count_by_hashlist, values, 4 * len(words)),
            **(
                {OWN_HASHLIST: partial(count_by_own_hashlist, values, 4 * len(words))}
                if self.device == "cpu"
                else {}
            ),
            ROWS_UNIQUE: partial(_unique_rows, values),
        }
        rows = self._compare("patterns", case, alternatives, COUNT_PATTERNS, len(words), tell)
        return rows + [missing_row(rows[0], PACK_AND + peer.name, NOT_INSTALLED) for peer in missing]

    def _packing_cases(self) -> list[Case]:
        wanted = [(layout, "float32", width) for layout in _LAYOUTS for width in self.widths]
        wanted += [("rows", dtype, 64) for dtype in _DTYPES if dtype != "float32"]
        return [
            Case(name=f"packing/{layout}/{dtype}/{width}", run=partial(self._packing, layout, dtype, width))
            for layout, dtype, width in wanted
        ]

    def _packing(self, layout: str, dtype: str, width: int, tell: Callable[[float], None]) -> list[Row]:
        values = _array(layout, _DTYPES[dtype], width, 32 * self.num_keys).to(self.device)
        alternatives = {SUM: lambda: values.sum().item(), PACK: lambda: pack_patterns(values)}
        seconds = interleave(alternatives, self.effort, on_share=tell)
        return rows_of(
            "packing",
            f"{layout}/{dtype}/{width}",
            seconds,
            baseline=SUM,
            work=values.numel() * values.element_size(),
            unit="bytes",
            device=self._device_name,
        )

    def _compare(
        self,
        question: str,
        case: str,
        alternatives: Mapping[str, Callable[[], Reading]],
        ours: str,
        work: int,
        tell: Callable[[float], None],
    ) -> list[Row]:
        expected = alternatives[ours]()  # compiles, if anything must be

        def check(name: str, result: object) -> None:
            _check_agreement(f"{question}/{case}", ours, expected, name, result)

        seconds = interleave(alternatives, self.effort, check=check, on_share=tell)
        packages = [peer.package for peer in self._peers()[0]]
        return rows_of(
            question,
            case,
            seconds,
            baseline=ours,
            work=work,
            unit="evaluations",
            packages=packages,
            device=self._device_name,
        )

    # What is counted ---------------------------------------------------------------------------------------

    def _made_up_keys(self, name: str, width: int) -> tuple[np.ndarray, int]:
        return words_of(name, width, self.num_keys), width

    def _made_up_values(self, name: str, width: int) -> Tensor:
        """As many values for every width: what reading them costs at least is then the same."""
        size = max(1000, 16 * self.num_keys // width)
        return activations_of(words_of(name, width, size), width)

    def _real(self, network: str, steps: int, stage: str) -> Tensor:
        model = network_after(network, steps, self._images)
        return preactivations_at(model, self._images.images, STAGE_SITES[stage], self.num_keys)

    @cached_property
    def _images(self) -> ImageData:
        """As many as give `num_keys` evaluations in the first stage."""
        return bench_images(max(128, -(-self.num_keys // 1024)), self.data_dir)

    def _peers(self) -> tuple[list[Peer], list[Peer]]:
        devices = ("cpu",) if self.device == "cpu" else ("cpu", "cuda")
        found = [installed_peers(device) for device in devices]
        return [p for installed, _ in found for p in installed], [p for _, missing in found for p in missing]

    @property
    def _device_name(self) -> str | None:
        return None if self.device == "cpu" else torch.cuda.get_device_name(self.device)


def check_device(device: str) -> None:
    """Raise BenchmarkError for a device other than "cpu", and "cuda" where there is one."""
    if device not in ("cpu", "cuda"):
        raise BenchmarkError(f'no device is called "{device}"; allowed are cpu and cuda.')
    if device == "cuda" and not torch.cuda.is_available():
        raise BenchmarkError(
            "there is no CUDA device here, or torch was installed without CUDA; use --device cpu."
        )


def _check_agreement(case: str, ours: str, expected: Reading, name: str, result: object) -> None:
    """Every alternative finds the same; the hash list loses patterns, and only what it has is compared."""
    if not isinstance(result, Reading):
        raise BenchmarkError(f"{case}: {name} returned a {type(result).__name__}, not a Reading.")
    same = result.num_evaluations == expected.num_evaluations
    if name not in (HASHLIST, OWN_HASHLIST):
        same = same and result.num_patterns == expected.num_patterns
    if None not in (result.key_sum, expected.key_sum):
        same = same and result.key_sum == expected.key_sum
    if not same:
        raise BenchmarkError(
            f"{case}: {name} found {result}, {ours} {expected}. They must agree; without that no time says anything."
        )


def _packed(make: Callable[[], Tensor]) -> tuple[np.ndarray, int]:
    values = make()
    return pack_patterns(values), values.shape[1]


def _pack_and_count(peer: Peer, values: Tensor) -> Reading:
    return peer.prepare(pack_patterns(values))()


def _unique_rows(values: Tensor) -> Reading:
    bits = values.movedim(1, -1).reshape(-1, values.shape[1]) > 0
    found, counts = torch.unique(bits, dim=0, return_counts=True)
    found.sum().item()  # read like everybody else's keys
    return Reading(len(counts), int(counts.sum()), None)


def _array(layout: str, dtype: torch.dtype, width: int, num_values: int) -> Tensor:
    """Noise of about so many values: rows (evaluations, width), or (samples, width, side, side)."""
    generator = torch.Generator().manual_seed(0)
    if layout == "rows":
        return torch.randn(max(1, num_values // width), width, generator=generator).to(dtype)
    num_samples = max(1, num_values // (width * _SIDE * _SIDE))
    values = torch.randn(num_samples, width, _SIDE, _SIDE, generator=generator).to(dtype)
    return values.contiguous(memory_format=torch.channels_last) if layout == "channels-last" else values
