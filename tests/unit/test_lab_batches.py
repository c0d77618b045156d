"""Order of the images and augmentation: right, repeatable, and from private generators only."""

from __future__ import annotations

import torch

from reluscope.lab.augmentation import crop_flip
from reluscope.lab.order import AUGMENTATION_STREAM, ORDER_STREAM, BatchOrder, generator_for


def test_every_epoch_shows_every_image_once_in_another_order():
    order = BatchOrder(num_images=103, batch_size=25, seed=0)
    assert order.steps_per_epoch == 5
    epochs = [torch.cat([order.batch(5 * epoch + k) for k in range(5)]) for epoch in range(3)]
    for epoch in epochs:
        assert torch.equal(epoch.sort().values, torch.arange(103))
    assert not torch.equal(epochs[0], epochs[1])
    assert len(order.batch(4)) == 3


def test_a_batch_depends_on_seed_and_step_alone():
    forward, jumping = BatchOrder(100, 32, seed=7), BatchOrder(100, 32, seed=7)
    batches = [forward.batch(step) for step in range(12)]
    for step in (11, 2, 7, 0):
        assert torch.equal(jumping.batch(step), batches[step])
    assert not torch.equal(BatchOrder(100, 32, seed=8).batch(0), batches[0])


def test_streams_of_one_seed_do_not_meet():
    draws = [
        torch.rand(4, generator=generator_for(seed, stream, index)).tolist()
        for seed in (0, 1)
        for stream in (ORDER_STREAM, AUGMENTATION_STREAM)
        for index in (0, 1)
    ]
    assert len({tuple(draw) for draw in draws}) == len(draws)


def test_crop_flip_equals_doing_it_image_by_image():
    torch.manual_seed(3)
    images, fill = torch.randn(64, 3, 12, 10), torch.tensor([-1.0, -2.0, -3.0])
    found = crop_flip(images, torch.Generator().manual_seed(5), fill=fill, padding=4)
    generator = torch.Generator().manual_seed(5)
    top, left = torch.randint(0, 9, (2, 64), generator=generator)
    mirrored = torch.rand(64, generator=generator) < 0.5
    for index in range(64):
        padded = fill.view(3, 1, 1).repeat(1, 20, 18)
        padded[:, 4:16, 4:14] = images[index]
        cut = padded[:, top[index] : top[index] + 12, left[index] : left[index] + 10]
        assert torch.equal(found[index], cut.flip(2) if mirrored[index] else cut)
    assert 16 < mirrored.sum() < 48
    assert set(top.tolist()) == set(range(9))


def test_crop_flip_leaves_input_and_global_generator_alone():
    images = torch.randn(8, 1, 28, 28)
    before, state = images.clone(), torch.get_rng_state()
    crop_flip(images, torch.Generator().manual_seed(0), fill=torch.zeros(1))
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)
