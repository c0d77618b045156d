"""The lab: networks, images, specifications and one training loop, on the public API only.

`train(preset("resnet20-mnist-sample"), "runs/first")` trains, records and checkpoints; `run_demo()` shows it.
"""

# checkpoints
from reluscope.lab.checkpoints import Checkpoint as Checkpoint
from reluscope.lab.checkpoints import latest_checkpoint as latest_checkpoint
from reluscope.lab.checkpoints import load_checkpoint as load_checkpoint

# costs
from reluscope.lab.costs import relative_cost as relative_cost

# data
from reluscope.lab.data import ImageData as ImageData
from reluscope.lab.data import load as load

# demo
from reluscope.lab.demo import DemoResult as DemoResult
from reluscope.lab.demo import run_demo as run_demo

# experiments
from reluscope.lab.experiments import experiment as experiment

# models
from reluscope.lab.fixup import FixupResNet as FixupResNet
from reluscope.lab.models import MLP as MLP
from reluscope.lab.models import ConvNet as ConvNet
from reluscope.lab.models import ResNet as ResNet
from reluscope.lab.models import ToyNet as ToyNet
from reluscope.lab.models import build as build

# paper_trainings
from reluscope.lab.paper_trainings import paper_training as paper_training

# presets
from reluscope.lab.presets import PRESETS as PRESETS
from reluscope.lab.presets import preset as preset

# progress
from reluscope.lab.progress import ProgressDisplay as ProgressDisplay
from reluscope.lab.progress import TrainingsDisplay as TrainingsDisplay
from reluscope.lab.pyramidnet import PyramidNet as PyramidNet

# replay
from reluscope.lab.replay import replay_training as replay_training

# reproduction
from reluscope.lab.reproduction import Outcome as Outcome
from reluscope.lab.reproduction import Reproduction as Reproduction
from reluscope.lab.reproduction import reproduce as reproduce
from reluscope.lab.reproduction import selected_trainings as selected_trainings

# specification
from reluscope.lab.specification import Specification as Specification

# specification_text
from reluscope.lab.specification_text import parse_specification as parse_specification
from reluscope.lab.specification_text import read_specification as read_specification
from reluscope.lab.specification_text import specification_to_yaml as specification_to_yaml

# training
from reluscope.lab.training import TrainingProgress as TrainingProgress
from reluscope.lab.training import TrainingResult as TrainingResult
from reluscope.lab.training import stored_specification as stored_specification
from reluscope.lab.training import train as train

__all__ = [
    "MLP",
    "PRESETS",
    "Checkpoint",
    "ConvNet",
    "DemoResult",
    "FixupResNet",
    "ImageData",
    "Outcome",
    "ProgressDisplay",
    "PyramidNet",
    "Reproduction",
    "ResNet",
    "Specification",
    "ToyNet",
    "TrainingProgress",
    "TrainingResult",
    "TrainingsDisplay",
    "build",
    "experiment",
    "latest_checkpoint",
    "load",
    "load_checkpoint",
    "paper_training",
    "parse_specification",
    "preset",
    "read_specification",
    "relative_cost",
    "replay_training",
    "reproduce",
    "run_demo",
    "selected_trainings",
    "specification_to_yaml",
    "stored_specification",
    "train",
]
