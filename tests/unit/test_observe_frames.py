"""From the second batch on: known modules run with the watcher set aside, and sites may have a short way (a lane)."""

from __future__ import annotations

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import forward_ad
from torch.nn.utils import prune
from torch.overrides import TorchFunctionMode

import reluscope as rs
from reluscope.errors import ReluscopeWarning, SitesChangedError
from reluscope.instruments.patterns import PatternsCollector
from reluscope.observe import ObservationMode, Probe, observe
from reluscope.observe.frames import _BATCH_NORMS, _PLAIN
from reluscope.observe.watcher import Watcher
from reluscope.patterns import PatternCounter

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randn(4, 3, 8, 8, generator=GENERATOR)
ROWS = torch.randn(4, 6, generator=GENERATOR)


def batches_of(model, inputs, num_batches=3, *, lane=None, **mode):
    """Per site, the pre-activations of each of several equal batches."""
    found: dict[str, list[torch.Tensor]] = {}
    observe(
        model,
        Probe(torch.cat([inputs] * num_batches), batch_size=len(inputs)),
        ObservationMode(**mode),
        lambda batch: found.setdefault(batch.site.name, []).append(batch.preactivations.clone()),
        lane=lane,
    )
    return found


def same_bits(one, other):
    """Equal down to the sign of zero."""
    return one.shape == other.shape and torch.equal(
        one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8)
    )


def assert_equal_batches(found, num_batches=3):
    assert found
    for parts in found.values():
        assert len(parts) == num_batches
        assert all(same_bits(part, parts[0]) for part in parts)


class WritingLane:
    """Runs the ReLU where it may, as the pattern counter does, and keeps what it was given."""

    def __init__(self, refused=()):
        self.seen: dict[str, list[torch.Tensor]] = {}
        self.written: dict[str, list[bool]] = {}
        self.refused = refused

    def __call__(self, site):
        def take(values, target):
            if site.name in self.refused:
                return None
            self.seen.setdefault(site.name, []).append(values.detach().clone())
            self.written.setdefault(site.name, []).append(target is not None)
            if target is None:
                return False
            target.copy_(torch.relu(values))
            return True

        return take


def plain_module(kind):
    """One of each known module, to stand between images and a ReLU."""
    name = kind.__name__
    if name.startswith("Conv"):
        return kind(3, 3, 3)
    if name == "Linear":
        return kind(8, 8)
    if name == "LayerNorm":
        return kind(8)
    if name == "GroupNorm":
        return kind(3, 3)
    if name.startswith(("Max", "Avg")):
        return kind(2)
    if name.startswith("Adaptive"):
        return kind(3)
    return kind(3) if name.startswith("BatchNorm") else kind()


@pytest.mark.parametrize("batch_norm", ["batch", "running"])
@pytest.mark.parametrize(
    "kind", sorted(_PLAIN | _BATCH_NORMS, key=lambda one: one.__name__), ids=lambda one: one.__name__
)
def test_a_known_module_gives_the_same_set_aside(kind, batch_norm):
    """The first batch is watched call by call, the others are not; all three are the same images."""
    inputs = IMAGES
    if kind.__name__.endswith("1d"):
        inputs = IMAGES.flatten(2)
    elif kind.__name__.endswith("3d"):
        inputs = torch.randn(4, 3, 6, 6, 6, generator=torch.Generator().manual_seed(1))
    model = nn.Sequential(
        plain_module(kind), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5), nn.ReLU(inplace=True)
    )
    model(inputs)
    for norm in model.modules():
        if isinstance(norm, tuple(_BATCH_NORMS)):
            assert norm.running_mean is not None
            norm.running_mean.fill_(0.3)
    assert_equal_batches(batches_of(model, inputs, batch_norm=batch_norm))


def test_a_batch_norm_set_aside_normalises_with_the_batch():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parts = batches_of(model, IMAGES * 5 + 2)["1"]
    for part in parts:
        assert torch.allclose(part.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_activation_in_a_forward_of_the_users_own_is_still_seen():
    """An instance's, a subclass's, a hook that computes: none of them is the module that is known."""

    class Rectified(nn.Conv2d):
        def forward(self, input):
            return F.relu(super().forward(input))

    model = nn.Sequential(nn.Conv2d(3, 4, 3), Rectified(4, 4, 3), nn.Conv2d(4, 4, 3))
    own = model[0].forward
    model[0].forward = lambda x: torch.relu(own(x))
    found = batches_of(model, IMAGES)
    assert list(found) == ["0.relu", "1.relu"]
    assert_equal_batches(found)


def test_a_patched_class_is_watched_call_by_call(monkeypatch):
    def forward(self, input):
        return F.relu(F.linear(input, self.weight, self.bias))

    monkeypatch.setattr(nn.Linear, "forward", forward)
    found = batches_of(nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4)), ROWS)
    assert list(found) == ["0.relu", "1.relu"]
    assert_equal_batches(found)


def test_a_mode_that_the_model_enters_sees_what_it_would_see():
    class Count(TorchFunctionMode):
        def __init__(self, calls):
            super().__init__()
            self.calls = calls

        def __torch_function__(self, func, types, args=(), kwargs=None):
            self.calls.append(func)
            return func(*args, **(kwargs or {}))

    class Model(nn.Module):
        def __init__(self, calls):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(6, 5), nn.ReLU())
            self.calls = calls

        def forward(self, x):
            with Count(self.calls):
                return self.layers(x)

    counts = []
    for num_batches in (1, 4):
        calls: list[object] = []
        model = Model(_Shared(calls))
        found = batches_of(model, ROWS, num_batches)
        assert len(found["layers.1"]) == num_batches
        counts.append(len(calls))
    assert counts[1] == 4 * counts[0] > 0


class _Shared:
    """A list that is no container of the model's, so that what is put in stays."""

    def __init__(self, calls):
        self.append = calls.append


class Outputs(nn.Module):
    """Two sites, one after the other, in a spelling of the caller's choice."""

    def __init__(self, activation):
        super().__init__()
        self.first, self.second = nn.Linear(6, 7), nn.Linear(7, 5)
        self.activation = activation
        if isinstance(activation, nn.Module):
            self.module = activation

    def forward(self, x):
        return self.activation(self.second(self.activation(self.first(x))))


SPELLINGS = {
    "module": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, True),
    "F.relu in place by name": lambda x: F.relu(x, inplace=True),
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "method": lambda x: x.relu(),
    "method in place": lambda x: x.relu_(),
    "operator": lambda x: torch.ops.aten.relu(x),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_lane_runs_the_relu_of_every_spelling(spelling):
    model = Outputs(SPELLINGS[spelling])
    expected = batches_of(model, ROWS)
    lane = WritingLane()
    first = batches_of(model, ROWS, lane=lane)
    assert list(first) == list(lane.seen) == list(expected)
    for name, parts in expected.items():
        assert same_bits(first[name][0], parts[0])
        assert len(first[name]) == 1
        assert all(same_bits(one, parts[0]) for one in lane.seen[name])
        assert lane.written[name] == [True, True]


def test_a_result_in_place_is_the_very_tensor_and_its_version_has_moved():
    seen = []

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.relu = nn.Linear(6, 5), nn.ReLU(inplace=True)

        def forward(self, x):
            x = self.linear(x)
            before = x._version
            result = self.relu(x)
            seen.append((result is x, x._version > before, bool((x < 0).any())))
            return result

    batches_of(Model(), ROWS, lane=WritingLane())
    assert seen == [(True, True, False)] * 3


def test_what_refuses_goes_the_long_way():
    model = Outputs(F.relu)
    expected = batches_of(model, ROWS)
    lane = WritingLane(refused=("relu",))
    found = batches_of(model, ROWS, lane=lane)
    assert len(found["relu"]) == 3
    assert torch.equal(found["relu"][2], expected["relu"][2])
    assert len(found["relu#1"]) == 1


@pytest.mark.parametrize("activation", [nn.LeakyReLU(0.1), nn.ReLU6(), nn.GELU(), lambda x: x.clamp(min=0)])
def test_no_lane_runs_another_activation(activation):
    lane = WritingLane()
    found = batches_of(Outputs(activation), ROWS, lane=lane, smooth=True)
    assert_equal_batches(found)
    assert not any(any(one) for one in lane.written.values())


def test_a_model_that_takes_gradients_in_its_forward_gets_them():
    class Energy(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.relu = nn.Linear(6, 5), nn.ReLU()
            self.after = nn.ReLU()

        def forward(self, x):
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                energy = self.relu(self.linear(x)).sum()
                (slope,) = torch.autograd.grad(energy, x)
            return self.after(slope)

    model = Energy()
    expected = batches_of(model, ROWS)
    lane = WritingLane()
    batches_of(model, ROWS, lane=lane)
    assert lane.written["relu"] == [False, False]
    assert lane.written["after"] == [True, True]
    assert all(torch.equal(one, expected["after"][0]) for one in lane.seen["after"])


@pytest.mark.filterwarnings(
    "ignore:.torch.jit.script. is deprecated:DeprecationWarning"
)  # torch's own, on first use
def test_a_model_that_takes_forward_derivatives_keeps_its_tangents():
    class Directional(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.relu, self.after = nn.Linear(6, 5), nn.ReLU(), nn.ReLU()

        def forward(self, x):
            with forward_ad.dual_level():
                dual = forward_ad.make_dual(x, torch.ones_like(x))
                slope = forward_ad.unpack_dual(self.relu(self.linear(dual))).tangent
            return self.after(slope)

    expected = batches_of(Directional(), ROWS)
    assert_equal_batches(expected)
    model, lane = Directional(), WritingLane()
    batches_of(model, ROWS, lane=lane)
    assert lane.written["relu"] == [False, False]


def test_an_axis_of_length_one_is_left_to_torch():
    """Its strides mean nothing, and torch chooses others than `empty_like`."""
    lane = WritingLane()
    batches_of(nn.Sequential(nn.Conv2d(3, 1, 3), nn.ReLU(), nn.ReLU(inplace=True)), IMAGES, lane=lane)
    assert lane.written == {"1": [False, False], "2": [True, True]}


def test_a_parameter_that_is_rectified_in_place_is_put_back():
    class Clipped(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.relu = nn.Linear(6, 6), nn.ReLU()

        def forward(self, x):
            torch.relu_(self.linear.weight)
            return self.relu(self.linear(x))

    model = Clipped()
    before = model.linear.weight.detach().clone()
    rs.measure(model, Probe(torch.cat([ROWS] * 3), batch_size=4))
    assert torch.equal(model.linear.weight, before)
    assert bool((before < 0).any())


class Wandering(nn.Module):
    """Calls other activations from the second batch on."""

    def __init__(self, change):
        super().__init__()
        self.change, self.batches = change, 0
        self.one, self.two, self.three = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.relu, self.other = nn.ReLU(), nn.LeakyReLU()

    def forward(self, x):
        self.batches += 1
        is_changed = self.batches > 1
        x = self.relu(self.one(x))
        if self.change == "more" or not (is_changed and self.change == "fewer"):
            x = (self.other if is_changed and self.change == "another" else self.relu)(self.two(x))
        x = self.relu(self.three(x))
        return self.relu(x + 1) if is_changed and self.change == "more" else x


@pytest.mark.parametrize("change", ["more", "fewer", "another"])
def test_other_sites_in_a_later_batch_are_refused_with_lanes_as_without(change):
    texts = []
    for lane in (None, WritingLane()):
        with pytest.raises(SitesChangedError) as error:
            batches_of(Wandering(change), ROWS, lane=lane)
        texts.append(str(error.value))
    assert texts[0] == texts[1]


def test_an_error_of_the_lane_comes_out_even_if_the_model_swallows_it():
    class Swallowing(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.relu = nn.Linear(6, 5), nn.ReLU()

        def forward(self, x):
            x = self.linear(x)
            try:
                return self.relu(x)
            except OSError:
                return x

    def take(values, target):
        raise OSError("no room")

    model = Swallowing()
    with pytest.raises(OSError, match="no room"):
        batches_of(model, ROWS, lane=lambda site: take)
    assert "forward" not in model.relu.__dict__
    assert torch._C._len_torch_function_stack() == 0


def test_only_selected_sites_have_lanes():
    lane = WritingLane()
    batches_of(Outputs(F.relu), ROWS, lane=lane, sites="relu#1")
    assert list(lane.seen) == ["relu#1"]


@pytest.mark.parametrize("labels", [None, torch.arange(10) % 3])
@pytest.mark.parametrize("inplace", [True, False])
def test_a_measurement_is_what_counting_each_batch_gives(inplace, labels):
    """Batches of 4, 4 and 2: the last one lies otherwise and goes the long way."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(10, 3, 8, 8, generator=generator)
    inputs[3, 0, 0, 0] = float("nan")
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.ReLU(inplace), nn.Conv2d(8, 33, 3), nn.ReLU(inplace)),
        *(nn.Conv2d(33, 70, 3), nn.ReLU(inplace)),
    ).to(memory_format=torch.channels_last)
    probe = Probe(inputs, labels, batch_size=4)
    counters: dict[str, PatternCounter] = {}

    def consume(batch):
        counter = counters.setdefault(batch.site.name, PatternCounter(batch.site.width))
        counter.update(batch.preactivations, batch.site.channel_dim)

    observe(model, probe, ObservationMode(), consume)
    with pytest.warns(ReluscopeWarning, match="NaN"):
        found = rs.measure(model, probe)
    assert {name: counter.counts() for name, counter in counters.items()} == found.patterns
    for name, row in found.to_dataframe().iterrows():
        assert row["nan_fraction"] == counters[str(name)].num_nan / counters[str(name)].num_values > 0


class Watched:
    """How many calls the watcher sees, batch by batch."""

    def __init__(self, monkeypatch):
        self.calls: list[int] = []
        begin, see = Watcher.begin, Watcher.__torch_function__

        def counted_begin(watcher, *args):
            self.calls.append(0)
            return begin(watcher, *args)

        def counted_see(watcher, *args, **kwargs):
            self.calls[-1] += 1
            return see(watcher, *args, **kwargs)

        monkeypatch.setattr(Watcher, "begin", counted_begin)
        monkeypatch.setattr(Watcher, "__torch_function__", counted_see)


def images_net():
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(16, 5), nn.ReLU()),
    )


def test_known_modules_are_seen_in_the_first_batch_only(monkeypatch):
    watched = Watched(monkeypatch)
    found = batches_of(images_net(), IMAGES)
    assert watched.calls[0] >= 7  # once per module at least
    assert watched.calls[1:] == [0, 0]
    assert_equal_batches(found)


def test_a_mode_around_the_model_does_not_keep_them_from_it(monkeypatch):
    watched = Watched(monkeypatch)
    with torch.device("cpu"):
        batches_of(images_net(), IMAGES)
    assert watched.calls[1:] == [0, 0]


@pytest.mark.parametrize("how", ["pruned", "buffers", "not affine"])
def test_weights_of_a_batch_norm_that_are_no_parameters(how):
    norm = nn.BatchNorm2d(4, affine=how != "not affine")
    if how == "pruned":
        prune.l1_unstructured(norm, "weight", 0.5)
    if how == "buffers":
        weight = norm.weight.detach() + 1
        del norm.weight
        norm.register_buffer("weight", weight)
    assert_equal_batches(batches_of(nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU(), nn.ReLU()), IMAGES))


def test_a_forward_put_in_the_place_of_torchs_own_under_its_name(monkeypatch):
    """`functools.wraps` copies the module that a function says it is of."""
    rectify, transform = nn.ReLU.forward, nn.Linear.forward

    @functools.wraps(rectify)
    def louder(self, input):
        return rectify(self, input) * 2.0

    @functools.wraps(transform)
    def rectified(self, input):
        return F.relu(transform(self, input))

    monkeypatch.setattr(nn.ReLU, "forward", louder)
    monkeypatch.setattr(nn.Linear, "forward", rectified)
    found = batches_of(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU()), ROWS)
    assert len(found) == 4
    assert_equal_batches(found)


@pytest.mark.parametrize("replacement", [F.leaky_relu, lambda input, inplace=False: torch.relu(input) * 2.0])
def test_a_relu_that_was_replaced_everywhere(monkeypatch, replacement):
    monkeypatch.setattr(F, "relu", replacement)
    assert_equal_batches(
        batches_of(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU()), ROWS)
    )


def test_a_convolution_with_an_activation_in_its_own_step():
    convolution = nn.Conv2d(3, 4, 3)
    step = convolution._conv_forward
    convolution._conv_forward = lambda *args: F.relu(step(*args))
    found = batches_of(nn.Sequential(convolution), IMAGES)
    assert list(found) == ["0.relu"]
    assert_equal_batches(found)


def test_the_operator_with_a_place_for_its_result_writes_there():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.relu = nn.Linear(6, 5), nn.Linear(5, 5), nn.ReLU()

        def forward(self, x):
            h = self.one(x)
            room = torch.full_like(h, -1.0)
            torch.ops.aten.relu.out(h, out=room)
            return self.relu(self.two(room))

    lane = WritingLane()
    expected = batches_of(Model(), ROWS)
    assert_equal_batches(expected)
    model = Model()
    first = batches_of(model, ROWS, lane=lane)
    assert all(same_bits(one, first["relu"][0]) for one in lane.seen["relu"])


def test_what_runs_with_torch_functions_off_is_seen_by_no_batch():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.relu, self.seen = nn.Linear(6, 5), nn.ReLU(), nn.ReLU()

        def forward(self, x):
            x = self.linear(x)
            with torch._C.DisableTorchFunction():
                x = self.relu(x) - 0.1
            return self.seen(x)

    found = batches_of(Model(), ROWS)
    assert list(found) == ["seen"]
    assert_equal_batches(found)


def test_experts_that_get_no_sample():
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.relu, self.end = nn.Linear(6, 5), nn.ReLU(), nn.ReLU()

        def forward(self, x):
            chosen = x[x[:, 0] > 0]
            return self.end(torch.cat([x[:, :5], self.relu(self.linear(chosen))]))

    inputs = torch.randn(20, 6, generator=torch.Generator().manual_seed(2))
    inputs[:, 0] = torch.tensor([1.0] * 8 + [-1.0] * 8 + [1.0] * 4)
    snapshot = rs.measure(Experts(), Probe(inputs, batch_size=4))
    assert snapshot.patterns["relu"].num_evaluations == 12


def test_a_collector_that_consumes_in_its_own_way_gets_every_batch():
    seen = []

    class Telling(PatternsCollector):
        def consume(self, batch):
            seen.append(batch.batch_index)
            super().consume(batch)

    class Told(rs.Patterns):
        def collector(self, probe):
            return Telling(self, probe)

    rs.measure(
        nn.Sequential(nn.Linear(6, 5), nn.ReLU()),
        Probe(torch.cat([ROWS] * 3), batch_size=4),
        instruments=[Told()],
    )
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("inplace", [True, False])
def test_inside_inference_mode(inplace):
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace), nn.Linear(5, 4), nn.ReLU(inplace))
    expected = rs.measure(model, Probe(torch.cat([ROWS] * 3), batch_size=4)).patterns
    with torch.inference_mode():
        found = rs.measure(model, Probe(torch.cat([ROWS] * 3), batch_size=4)).patterns
    assert found == expected
