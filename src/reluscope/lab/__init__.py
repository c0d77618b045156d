"""The lab: networks, images, specifications and one training loop, on the public API only.

`train(preset("resnet20-mnist-sample"), "runs/first")` trains, records and checkpoints; `run_demo()` shows it.
"""

# checkpoints
from reluscope.lab.checkpoints import Checkpoint as Checkpoint
from reluscope.lab.checkpoints import latest_checkpoint as latest_checkpoint
from reluscope.lab.checkpoints import load_checkpoint as load_checkpoint

# data
from reluscope.lab.data import ImageData as ImageData
from reluscope.lab.data import load as load

# demo
from reluscope.lab.demo import DemoResult as DemoResult
from reluscope.lab.demo import run_demo as run_demo

# models
from reluscope.lab.models import MLP as MLP
from reluscope.lab.models import ConvNet as ConvNet
from reluscope.lab.models import ResNet as ResNet
from reluscope.lab.models import ToyNet as ToyNet
from reluscope.lab.models import build as build

# presets
from reluscope.lab.presets import PRESETS as PRESETS
from reluscope.lab.presets import preset as preset

# progress
from reluscope.lab.progress import ProgressDisplay as ProgressDisplay

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
    "ImageData",
    "ProgressDisplay",
    "ResNet",
    "Specification",
    "ToyNet",
    "TrainingProgress",
    "TrainingResult",
    "build",
    "latest_checkpoint",
    "load",
    "load_checkpoint",
    "parse_specification",
    "preset",
    "read_specification",
    "run_demo",
    "specification_to_yaml",
    "stored_specification",
    "train",
]
