"""Which images are in which batch, and the randomness of augmentation: pure functions of (seed, step).

There is no state to save: a training that goes on from step s draws exactly what it would have drawn without
the interruption.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["BatchOrder", "generator_for"]

# Streams of one seed that must not meet: the order of an epoch, the augmentation of a step.
ORDER_STREAM, AUGMENTATION_STREAM = 1, 2


def generator_for(seed: int, stream: int, index: int) -> torch.Generator:
    """A private generator for one epoch or step: equal arguments give equal draws, others unrelated ones."""
    derived = np.random.SeedSequence([seed, stream, index]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(derived))


class BatchOrder:
    """The batches of a training: every epoch shows every image once, in an order of its own.

    Args:
        num_images: images to train on, >= 1.
        batch_size: images per batch; the last batch of an epoch may be smaller.
        seed: of the training.
    """

    def __init__(self, num_images: int, batch_size: int, seed: int) -> None:
        self.num_images = num_images
        self.batch_size = batch_size
        self.seed = seed
        self.steps_per_epoch = -(-num_images // batch_size)
        self._epoch = -1
        self._permutation = torch.empty(0, dtype=torch.int64)

    def batch(self, step: int) -> Tensor:
        """int64 indices of the images that the update after `step` updates is made on."""
        epoch, number = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = generator_for(self.seed, ORDER_STREAM, epoch)
            self._permutation = torch.randperm(self.num_images, generator=generator)
            self._epoch = epoch
        return self._permutation[number * self.batch_size : (number + 1) * self.batch_size]
