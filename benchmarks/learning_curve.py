"""Does ResNet-20 learn as published? Test accuracy over the first epochs of the full training, beside published ones.

    python benchmarks/learning_curve.py --data-dir DATA [--steps 5000] [--run DIR] [--figure FILE]

Trains ResNet-20 on all 50,000 training images of CIFAR-10 exactly as [A] does until its learning rate drops (SGD, 0.1,
momentum 0.9, weight decay 1e-4, batch 128, crop and flip), recorded as any training of the lab, and classifies the
10,000 test images with the weights of every thousandth update (batch norms on running statistics). Stopped and started
again with the same --run, it goes on. Writes benchmarks/results/learning_curve.csv: our rows, and the published ones
below with where they stand.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch

from reluscope.lab import build, load
from reluscope.lab.checkpoints import load_checkpoint
from reluscope.lab.data import ImageData
from reluscope.lab.paper_trainings import paper_training
from reluscope.lab.progress import ProgressDisplay
from reluscope.lab.specification import ConstantSchedule, RecordingSpecification, Specification
from reluscope.lab.training import train

RESULTS = Path(__file__).parent / "results" / "learning_curve.csv"
STEPS_PER_EPOCH = 391
EVERY = 1000
PAPER_ACCURACY = 0.91  # [A], at the end of 200 epochs: "about 91 %"

# name: (where it stands, what it is, {updates: test accuracy})
PUBLISHED = {
    "Caffe": (
        "github.com/ethanhe42/resnet-cifar10-caffe at a0751f6, resnet-20/logs/resnet-20__2018-10-19_01-43-18.log",
        "ResNet-20 v1, batch 128, rate 0.1, crop and flip; 91.40 % after 64,000 updates",
        {1000: 0.4878, 2000: 0.6240, 3000: 0.7175, 4000: 0.6810, 5000: 0.7969, 6000: 0.6687, 7000: 0.7398}
        | {8000: 0.7304, 9000: 0.7735, 10000: 0.7886},
    ),
    "PyTorch": (
        "github.com/hhhhuangggg/resnet-cifar10-reproducti at 08d07ae, outputs/resnet20/seed42_5epochs/history.csv",
        "ResNet-20 v1, batch 128, rate 0.1, crop and flip; 5 epochs (the same code: 91.77 % after 64,000 updates)",
        dict(zip(range(391, 1956, 391), (0.5181, 0.6101, 0.6515, 0.5876, 0.7009), strict=True)),
    ),
}


def specification(steps: int) -> Specification:
    """The paper's stepwise ResNet-20 before its rate drops, with a small probe and every measured step kept."""
    spec = paper_training("resnet")
    recording = RecordingSpecification(at=(0, 1), every=EVERY, per_decade=None, per_epoch=None)
    length = {"steps": steps, "epochs": None, "checkpoints": "all"}
    return spec.model_copy(
        update={
            "schedule": ConstantSchedule(name="constant"),
            "training": spec.training.model_copy(update=length),
            "probe": spec.probe.model_copy(update={"num_images": 1000}),
            "recording": recording,
        }
    )


def test_accuracy(spec: Specification, checkpoint: Path, data: ImageData) -> tuple[int, float]:
    """The step of a checkpoint, and the share of the test images that its weights classify rightly."""
    stored = load_checkpoint(checkpoint)
    model = build(spec.model, data.image_shape, data.num_classes, seed=0)
    model.load_state_dict(stored.model)
    model.eval()
    with torch.no_grad():
        right = sum(
            int((model(images.contiguous(memory_format=torch.channels_last)).argmax(1) == labels).sum())
            for images, labels in zip(
                data.held_out_images.split(500), data.held_out_labels.split(500), strict=True
            )
        )
    return stored.step, right / len(data.held_out_labels)


def draw(ours: dict[int, float], output: Path) -> None:
    """Test accuracy against epochs, ours and the published ones."""
    figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    styles = {"Caffe": ("s", "#d55e00"), "PyTorch": ("^", "#0072b2")}
    for name, (_source, _about, curve) in PUBLISHED.items():
        marker, color = styles[name]
        axes.plot(
            [step / STEPS_PER_EPOCH for step in curve],
            [100 * value for value in curve.values()],
            marker=marker,
            color=color,
            lw=1,
            ms=5,
            label=f"published, {name} ({len(curve)} points)",
        )
    axes.plot(
        [step / STEPS_PER_EPOCH for step in ours if step != 1],  # on the dot of step 0
        [100 * value for step, value in ours.items() if step != 1],
        marker="o",
        color="black",
        lw=1.8,
        ms=5,
        label="reluscope's lab, recorded",
    )
    axes.axhline(100 * PAPER_ACCURACY, color="grey", lw=1, ls="--")
    axes.text(
        0.2, 100 * PAPER_ACCURACY + 1.5, "91 % in the paper, after 200 epochs", color="dimgrey", fontsize=8
    )
    axes.set(
        xlabel="epochs of 50,000 images", ylabel="test accuracy, %", xlim=(0, None), ylim=(0, 100),
        title="ResNet-20 on CIFAR-10 at the first learning rate",
    )  # fmt: skip
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    figure.savefig(output, dpi=160)
    plt.close(figure)


def write_csv(ours: dict[int, float], seconds: float) -> None:
    """One row per curve and step."""
    about = f"seed 0, torch {torch.__version__}, {torch.get_num_threads()} threads, {seconds / 60:.0f} min"
    rows = [("reluscope", "this script", about, step, value) for step, value in ours.items()]
    rows += [
        (name, source, description, step, value)
        for name, (source, description, curve) in PUBLISHED.items()
        for step, value in curve.items()
    ]
    with RESULTS.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("curve", "source", "about", "step", "epoch", "test_accuracy"))
        for curve, source, description, step, value in rows:
            writer.writerow(
                (curve, source, description, step, f"{step / STEPS_PER_EPOCH:.3f}", f"{value:.4f}")
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--run", type=Path, help="folder of the recording; default: a temporary one")
    parser.add_argument("--figure", type=Path, help="also draw the curves into this file")
    options = parser.parse_args()
    spec = specification(options.steps)
    data = load("cifar10", options.data_dir, held_out="test")
    run = options.run or Path(tempfile.mkdtemp(prefix="learning-curve-")) / "run"
    begin = time.perf_counter()
    with ProgressDisplay() as display:
        train(spec, run, data=data, resume=run.exists(), on_step=display.training("ResNet-20"))
    seconds = time.perf_counter() - begin
    checkpoints = sorted((run / "checkpoints").glob("step-*.pt"))
    ours = dict(sorted(test_accuracy(spec, path, data) for path in checkpoints))
    for step, accuracy in ours.items():
        print(f"step {step:>6,}: {accuracy:.2%} of the test images", flush=True)
    write_csv(ours, seconds)
    if options.figure:
        draw(ours, options.figure)
    print("written to", RESULTS)


if __name__ == "__main__":
    main()
