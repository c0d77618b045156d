"""Models of every make: names of their sites, what is listed, and what is refused in words."""

from __future__ import annotations

import threading
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

from reluscope.errors import (
    NoSitesError,
    ProbeError,
    SitesChangedError,
    UnknownSiteError,
    UnsupportedModelError,
)
from reluscope.observe import ObservationMode, Probe, observe, sites

IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
ROWS = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))


def record(model, inputs=IMAGES, batch_size=4, **mode):
    """Per site name, the pre-activations of the whole probe."""
    found: dict[str, list[torch.Tensor]] = {}
    probe = inputs if isinstance(inputs, Probe) else Probe(inputs, batch_size=batch_size)
    observation = observe(
        model,
        probe,
        ObservationMode(**mode),
        lambda batch: found.setdefault(batch.site.name, []).append(batch.preactivations.clone()),
    )
    assert [site.name for site in observation.sites] == list(found)
    return {name: torch.cat(parts) for name, parts in found.items()}


class Block(nn.Module):
    """As torchvision's BasicBlock: one in-place ReLU, used twice."""

    def __init__(self, channels=4):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        return self.relu(out)


def residual():
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), Block(), nn.Flatten(), nn.Linear(256, 5))


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(5, 7), nn.Linear(7, 3)

    def forward(self, x):
        return F.relu(self.fc2(F.relu(self.fc1(x))))


def test_torchvision_block_by_hand():
    model = residual()
    found = record(model, batch_norm="running")
    assert list(found) == ["1.relu", "1.relu#1"]
    model.eval()
    with torch.no_grad():
        x, block = model[0](IMAGES), model[1]
        first = block.bn1(block.conv1(x))
        second = block.bn2(block.conv2(first.relu())) + x
    assert torch.equal(found["1.relu"], first)
    assert torch.equal(found["1.relu#1"], second)


def test_batch_statistics_by_hand():
    model = residual().train()
    found = record(model)
    for part in (slice(0, 4), slice(4, 6)):  # the batches of the probe
        with torch.no_grad():
            x = model[1].conv1(model[0](IMAGES[part]))
            expected = F.batch_norm(x, None, None, model[1].bn1.weight, model[1].bn1.bias, training=True)
        assert torch.equal(found["1.relu"][part], expected)
    assert not torch.equal(found["1.relu"], record(model, batch_norm="running")["1.relu"])


def test_batch_statistics_of_frozen_functional_and_synchronised_norms():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.full((3,), 5.0))
            self.register_buffer("var", torch.full((3,), 5.0))

        def forward(self, x):
            x = torch.batch_norm(x, None, None, self.mean, self.var, False, 0.1, 1e-5, False)
            return F.relu(F.batch_norm(x, self.mean, self.var))

    expected = F.batch_norm(IMAGES, None, None, training=True)
    twice = F.batch_norm(expected, None, None, training=True)
    torch.testing.assert_close(record(Functional(), batch_size=6)["relu"], twice)
    for norm in (nn.BatchNorm2d(3, affine=False).eval(), nn.SyncBatchNorm(3, affine=False)):
        assert torch.equal(record(nn.Sequential(norm, nn.ReLU()), batch_size=6)["1"], expected)


def test_purely_functional():
    class Net(nn.Module):
        def forward(self, x):
            return torch.relu(F.relu(x - 1) - 1).clamp(min=0)

    assert list(record(Net(), ROWS)) == ["relu", "relu#1", "clamp"]


def test_functional_name_that_is_a_module():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x):
            return F.relu(self.relu(F.relu(x)))

    assert list(record(nn.Sequential(Net()), ROWS)) == ["0.relu()", "0.relu", "0.relu()#1"]


def test_shared_by_two_parents():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            act = nn.ReLU()
            self.left, self.right = nn.Sequential(nn.Linear(5, 5), act), nn.Sequential(nn.Linear(5, 5), act)

        def forward(self, x):
            return self.left(x) + self.right(x)

    assert list(record(Shared(), ROWS)) == ["left.1", "left.1#1"]


def test_called_twice_beside_a_child_named_like_the_second_call():
    class Twins(nn.Module):
        def __init__(self, order):
            super().__init__()
            self.order = order
            self.add_module("act", nn.ReLU())
            self.add_module("act#1", nn.ReLU())

        def forward(self, x):
            for name in self.order:
                x = self._modules[name](x)
            return x

    assert list(record(Twins(["act", "act", "act#1", "act"]), ROWS)) == ["act", "act#2", "act#1", "act#3"]
    assert list(record(Twins(["act#1", "act", "act"]), ROWS)) == ["act#1", "act", "act#2"]


def test_swin_like_block():
    class Swin(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.up, self.down = nn.LayerNorm(6), nn.Linear(6, 24), nn.Linear(24, 6)

        def forward(self, x):  # N, H, W, C
            return x + self.down(F.relu(self.up(self.norm(x))))

    frame = sites(Swin(), torch.randn(2, 4, 4, 6))
    assert frame.loc[0, ["site", "channel_dim", "num_units", "num_positions"]].tolist() == ["relu", 3, 24, 16]


def test_encoder_layer_in_spite_of_its_fast_path():
    # In eval mode torch takes a fused path without any F.relu, unless a function mode is active, as ours is.
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2)
    for model, names in ((layer, ["relu"]), (encoder, ["layers.0.relu", "layers.1.relu"])):
        frame = sites(model.eval(), torch.randn(2, 5, 8))
        assert list(frame["site"]) == names
        assert set(frame["num_units"]) == {16}


def test_in_place_first_operation_leaves_the_probe_alone():
    inputs = IMAGES.clone()
    probe = Probe(inputs, batch_size=4)
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 2, 1), nn.ReLU())
    first, second = record(model, probe), record(model, probe)
    assert torch.equal(first["0"], IMAGES)
    assert torch.equal(second["0"], IMAGES)
    assert torch.equal(inputs, IMAGES)


@pytest.mark.parametrize("where", ["root", "child"])
def test_scripted_and_traced(where):
    class Plain(nn.Module):
        def forward(self, x):
            return torch.relu(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pair = torch.jit.script(Plain()), torch.jit.trace(Plain(), ROWS)
    for scripted in pair:
        if where == "root":
            with pytest.raises(UnsupportedModelError, match="scripted or traced"):
                sites(scripted, ROWS)
        else:
            frame = sites(nn.Sequential(nn.ReLU(), scripted), ROWS)
            assert list(frame["site"]) == ["0", "1"]
            assert list(frame["observed"]) == [True, False]
            assert "outside of Python" in frame["reason"][1]


@pytest.mark.parametrize("thing", [lambda x: x, None, "model", torch.zeros(3)])
def test_no_module(thing):
    with pytest.raises(UnsupportedModelError, match=r"pass a torch\.nn\.Module"):
        sites(thing, ROWS)


def test_lazy_modules():
    with pytest.raises(UnsupportedModelError, match=r'"0\.weight" is not initialised yet'):
        sites(nn.Sequential(nn.LazyLinear(3), nn.ReLU()), ROWS)


def test_weight_norm_spectral_norm_and_pruning_hooks_run():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        normed = nn.utils.weight_norm(nn.Linear(5, 4))
    spectral = nn.utils.spectral_norm(nn.Linear(5, 4))
    pruned = prune.l1_unstructured(nn.Linear(5, 4), "weight", 0.5)
    for linear in (normed, spectral, pruned):
        model = nn.Sequential(linear, nn.ReLU()).eval()
        with torch.no_grad():
            for parameter in linear.parameters():  # the hook must recompute the weight from these
                parameter.mul_(1.5)
        found = record(model, ROWS, batch_size=6)["1"]
        with torch.no_grad():
            assert torch.equal(found, linear(ROWS))


def test_own_pruning_method_runs():
    class Half(prune.BasePruningMethod):
        PRUNING_TYPE = "unstructured"

        def compute_mask(self, t, default_mask):
            mask = default_mask.clone()
            mask[::2] = 0
            return mask

    linear = nn.Linear(5, 4, bias=False)
    Half.apply(linear, "weight")
    with torch.no_grad():
        linear.weight_orig.add_(1.0)
    found = record(nn.Sequential(linear, nn.ReLU()), ROWS)["1"]
    assert (found[:, ::2] == 0).all()
    torch.testing.assert_close(found, F.linear(ROWS, linear.weight_orig * linear.weight_mask))


@pytest.mark.parametrize("output", ["tuple", "dict"])
def test_models_returning_tuples_and_dicts(output):
    class Net(nn.Module):
        def forward(self, x):
            y = F.relu(x)
            return (y, [y]) if output == "tuple" else {"y": y, "n": None}

    assert list(record(Net(), ROWS)) == ["relu"]


def test_inputs_as_tuple_and_dict():
    class Net(nn.Module):
        def forward(self, a, b=None, *, scale=1.0, flag=None):
            assert flag is None
            return F.relu(a + b) * scale

    expected = record(Net(), (ROWS, ROWS * 2))["relu"]
    assert torch.equal(expected, ROWS + ROWS * 2)
    assert torch.equal(
        record(Net(), {"b": ROWS * 2, "a": ROWS, "scale": 2.0, "flag": None})["relu"], expected
    )


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_blocks(reentrant):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Mlp()

        def forward(self, x):
            return checkpoint(self.block, x, use_reentrant=reentrant)

    assert list(record(Net(), ROWS)) == ["block.relu", "block.relu#1"]


def test_forward_called_directly_and_modules_in_lists():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = Mlp()
            self.layers = [nn.Linear(3, 3), nn.ReLU()]

        def forward(self, x):
            x = self.body.forward(x)
            for layer in self.layers:
                x = layer(x)
            return x

    assert list(record(Net(), ROWS)) == ["body.relu", "body.relu#1", "relu"]


def test_exception_inside_a_module_keeps_the_names_right():
    class Broken(nn.Module):
        def forward(self, x):
            raise ValueError("no")

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.broken, self.body = Broken(), Mlp()

        def forward(self, x):
            try:
                self.broken(x)
            except ValueError:
                x = F.relu(x)
            return self.body(x)

    assert list(record(Net(), ROWS)) == ["relu", "body.relu", "body.relu#1"]


def test_data_parallel():
    assert list(record(nn.DataParallel(residual()))) == ["1.relu", "1.relu#1"]
    assert list(record(nn.Sequential(nn.DataParallel(residual())))) == ["0.1.relu", "0.1.relu#1"]


def test_distributed_data_parallel(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/init", rank=0, world_size=1)
    try:
        inside = residual()
        model = nn.parallel.DistributedDataParallel(inside)
        assert list(record(model)) == ["1.relu", "1.relu#1"]
        child = nn.Sequential(model)
        assert list(record(child)) == ["0.1.relu", "0.1.relu#1"]
    finally:
        torch.distributed.destroy_process_group()


def test_sites_that_change_from_batch_to_batch():
    class Moody(nn.Module):
        def forward(self, x):
            return F.relu(F.leaky_relu(x) if len(x) == 4 else F.relu6(x))

    with pytest.raises(
        SitesChangedError, match='in batch 1 than in batch 0: "leaky_relu" was not called; "relu6" is'
    ):
        record(Moody(), ROWS)


def test_fewer_and_more_sites_in_a_later_batch():
    class Growing(nn.Module):
        def __init__(self, first, second):
            super().__init__()
            self.calls = {4: first, 2: second}

        def forward(self, x):
            for _ in range(self.calls[len(x)]):
                x = F.relu(x)
            return x

    with pytest.raises(SitesChangedError, match='"relu#2" is new'):
        record(Growing(2, 3), ROWS)
    with pytest.raises(SitesChangedError, match='"relu#1" was not called'):
        record(Growing(2, 1), ROWS)
    assert list(record(Growing(2, 2), ROWS)) == ["relu", "relu#1"]


def test_width_that_changes():
    class Widening(nn.Module):
        def forward(self, x):
            return F.relu(x if len(x) == 4 else torch.cat([x, x], 1))

    with pytest.raises(SitesChangedError, match='"relu" was relu of width 5 and is relu of width 10'):
        record(Widening(), ROWS)


def test_expected_sites():
    consumed = []
    observation = observe(Mlp(), Probe(ROWS), ObservationMode(), lambda batch: None)
    observe(Mlp(), Probe(ROWS), ObservationMode(), consumed.append, expected=observation.sites)
    assert len(consumed) == 2
    with pytest.raises(SitesChangedError, match='earlier measurement: "relu" was not called; "relu#1"'):
        observe(
            nn.Sequential(Mlp(), nn.ReLU()),
            Probe(ROWS),
            ObservationMode(sites="0.*"),
            consumed.append,
            expected=observation.sites,
        )


def test_clamps_on_the_weights_stay_ignored_in_a_short_last_batch():
    class Clamped(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 5))

        def forward(self, x):  # 6 rows: no multiple of the first batch, but of the last
            return F.relu(F.linear(x, (self.weight * 1).clamp(min=0)))

    assert list(record(Clamped(), torch.randn(7, 5), batch_size=4)) == ["relu"]


def test_selection():
    model = nn.Sequential(Mlp(), nn.ReLU())
    assert list(record(model, ROWS, sites="0.*")) == ["0.relu", "0.relu#1"]
    assert list(record(model, ROWS, sites=["1", "0.relu"])) == ["0.relu", "1"]
    frame = sites(model, ROWS, sites="1")
    assert list(frame["observed"]) == [False, False, True]
    with pytest.raises(UnknownSiteError) as caught:
        record(model, ROWS, sites=["1", "0.relu_1"])
    text = str(caught.value)
    assert text.startswith('no site matches sites="0.relu_1". The model has 3; closest: "0.relu')
    assert "rs.sites(model, example_input)" in text
    with pytest.raises(UnknownSiteError, match="was met but is not observed: gelu is smooth"):
        record(nn.Sequential(nn.ReLU(), nn.GELU()), ROWS, sites=["1"])


def test_no_activations():
    with pytest.raises(NoSitesError, match="No activation at all was met"):
        record(nn.Sequential(nn.Linear(5, 3)), ROWS)
    with pytest.raises(NoSitesError, match=r'"1" \(gelu\).*smooth=True'):
        record(nn.Sequential(nn.Linear(5, 3), nn.GELU()), ROWS)
    assert list(sites(nn.Sequential(nn.Linear(5, 3)), ROWS).columns[:3]) == ["site", "module", "operation"]


def test_a_last_batch_of_one_is_refused_at_once():
    calls = []
    model = residual()
    model[0].forward = lambda x: calls.append(1)
    with pytest.raises(ProbeError, match="6 samples in batches of 5 leave a last batch of one"):
        record(model, batch_size=5)
    with pytest.raises(ProbeError, match="6 samples in batches of 1"):
        record(model, batch_size=1)
    assert calls == []
    assert len(record(residual(), batch_size=5, batch_norm="running")) == 2
    assert len(record(Mlp(), ROWS, batch_size=5)) == 2  # no batch norm, nothing to refuse


def test_a_last_batch_of_one_is_refused_for_a_functional_norm():
    class Net(nn.Module):
        def forward(self, x):
            try:
                return F.relu(F.batch_norm(x, torch.zeros(5), torch.ones(5)))
            except Exception:
                return x

    with pytest.raises(ProbeError, match="last batch of one"):
        record(Net(), ROWS, batch_size=5)
    record(Net(), ROWS, batch_size=3)


def test_consumer_errors_pass_through_a_model_that_catches_everything():
    class Net(nn.Module):
        def forward(self, x):
            try:
                return F.relu(x)
            except Exception:
                return x

    def consume(batch):
        raise ZeroDivisionError("counting failed")

    with pytest.raises(ZeroDivisionError, match="counting failed"):
        observe(Net(), Probe(ROWS), ObservationMode(), consume)


def test_batches_labels_and_progress():
    seen, progress = [], []
    probe = Probe(ROWS, torch.arange(6), batch_size=4)
    observe(
        Mlp(),
        probe,
        ObservationMode(sites="relu"),
        lambda b: seen.append((b.batch_index, b.sample_offset, b.num_samples, b.labels.tolist())),
        on_batch=lambda index, total: progress.append((index, total)),
    )
    assert seen == [(0, 0, 4, [0, 1, 2, 3]), (1, 4, 2, [4, 5])]
    assert progress == [(0, 2), (1, 2)]


def test_hooks_are_named():
    def spy(module, args, output):
        return None

    model = nn.Sequential(nn.Linear(5, 3), nn.ReLU())
    model[0].register_forward_hook(spy)
    handle = nn.modules.module.register_module_forward_pre_hook(lambda module, args: None)
    try:
        frame = sites(model, ROWS).set_index("operation")
    finally:
        handle.remove()
    assert frame.loc["forward hook", "module"] == "0"
    assert "spy" in frame.loc["forward hook", "site"]
    assert not frame.loc["global forward pre-hook", "observed"]


def test_table_of_sites():
    frame = sites(residual(), torch.zeros(1, 3, 8, 8))  # one sample is enough, batch norm or not
    assert list(frame.columns) == [
        *("site", "module", "operation", "kinks", "num_units", "width", "num_positions"),
        *("channel_dim", "channel_dim_source", "observed", "reason"),
    ]
    row = frame.iloc[0]
    assert (row["site"], row["width"], row["num_positions"], row["observed"]) == ("1.relu", 4, 64, True)


def test_autocast_on_request():
    dtypes = []
    for autocast in (None, torch.bfloat16, "bfloat16"):
        observation = observe(Mlp(), Probe(ROWS), ObservationMode(autocast=autocast), lambda batch: None)
        dtypes.append(observation.sites[0].dtype)
    assert dtypes == ["float32", "bfloat16", "bfloat16"]


def test_a_model_that_draws_numbers_is_measured_alike_every_time():
    class Noisy(nn.Module):
        def forward(self, x):
            return F.relu(x + torch.randn_like(x))

    torch.manual_seed(3)
    first = record(Noisy(), ROWS)["relu"]
    torch.rand(7)
    assert torch.equal(record(Noisy(), ROWS)["relu"], first)


def test_mode_round_trip():
    mode = ObservationMode(sites=["a", "b*"], channel_dim={"a": -1}, smooth=True, autocast="bfloat16")
    assert mode.as_dict() == {
        "sites": ["a", "b*"],
        "batch_norm": "batch",
        "channel_dim": {"a": -1},
        "smooth": True,
        "autocast": "bfloat16",
    }
    assert ObservationMode(**mode.as_dict()) == mode


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"batch_norm": "eval"}, 'Allowed: "batch"'),
        ({"sites": []}, "selects nothing"),
        ({"sites": [3]}, "selects nothing"),
        ({"autocast": "int8"}, "no dtype to cast to"),
        ({"autocast": "half-ish"}, "no dtype to cast to"),
        ({"autocast": "float64"}, "no dtype to cast to"),
        ({"autocast": torch.float32}, "no dtype to cast to"),
        ({"smooth": 1}, "True or False"),
    ],
)
def test_modes_that_make_no_sense(options, text):
    with pytest.raises(Exception, match=text) as caught:
        ObservationMode(**options)
    assert type(caught.value).__module__ == "reluscope.errors"


def test_scripted_functions_are_listed(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        own = torch.jit.script(_rectify)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.own = own

        def forward(self, x):
            return F.relu(scripted_rectify(self.own(x)))

    monkeypatch.setitem(globals(), "scripted_rectify", own)
    frame = sites(nn.Sequential(Net()), ROWS)
    assert list(frame["site"]) == ["0.relu", "0.scripted_rectify", "0.own"]
    assert list(frame["observed"]) == [True, False, False]


def _rectify(x):
    return torch.relu(x)


scripted_rectify = _rectify  # the test puts its scripted form here


def test_sharded_models_are_refused(monkeypatch):
    class FullyShardedDataParallel(nn.Module):
        def forward(self, x):
            return F.relu(x)

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(UnsupportedModelError, match="sharded over several processes"):
        record(nn.Sequential(FullyShardedDataParallel()), ROWS)
    assert list(record(Mlp(), ROWS)) == ["relu", "relu#1"]


def test_traced_graph_modules():
    traced = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(5, 3), nn.ReLU()))
    assert list(record(traced, ROWS)) == ["1"]


def test_own_autograd_functions():
    class Rectify(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clamp(min=0)

        @staticmethod
        def backward(ctx, grad):
            return grad

    class Net(nn.Module):
        def forward(self, x):
            return Rectify.apply(x)

    assert list(record(Net(), ROWS)) == ["clamp"]


def test_sequence_first_models_have_no_samples_to_tell():
    layer = nn.TransformerEncoderLayer(8, 2, 16)  # T, N, E

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x.transpose(0, 1))

    frame = sites(Net(), torch.randn(4, 5, 8))
    assert list(frame["site"]) == ["layer.relu"]
    assert frame["num_positions"].isna().all()


def test_module_calls_with_the_name_of_the_root():
    assert list(record(nn.ReLU(), ROWS)) == ["relu"]


def test_a_measurement_from_another_thread_waits():
    order: list[str] = []

    class Outer(nn.Module):
        def forward(self, x):
            worker.start()
            worker.join(timeout=0.5)  # long enough for the other to come through, if nothing holds it
            order.append("outer ends")
            return F.relu(x)

    class Inner(nn.Module):
        def forward(self, x):
            order.append("inner begins")
            return F.relu(x)

    worker = threading.Thread(target=record, args=(Inner(), ROWS), kwargs={"batch_size": 6})
    record(Outer(), ROWS, batch_size=6)
    worker.join()
    assert order == ["outer ends", "inner begins"]


def test_a_measurement_inside_a_consumer():
    found = []
    observe(Mlp(), Probe(ROWS), ObservationMode(), lambda batch: found.append(list(record(Mlp(), ROWS))))
    assert found == [["relu", "relu#1"]] * 2


@pytest.mark.parametrize("none", [None, 3, ()])
def test_a_selection_of_nothing(none):
    with pytest.raises(UnknownSiteError, match=r"sites=.* selects nothing"):
        ObservationMode(sites=none)


def test_a_model_without_values():
    with pytest.raises(UnsupportedModelError, match=r'"fc1\.weight" is on the meta device'):
        sites(Mlp().to("meta"), ROWS)
