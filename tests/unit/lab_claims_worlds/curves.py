"""Made-up trainings for the claims about entropy curves and the zigzag: A6, A7, A8, A9, A20."""

from __future__ import annotations

from reluscope.lab.claims import made_up_study

NETS = ("toynet", "convnet", "resnet")


def block(site):
    return 1 if site < 7 else 2 if site < 13 else 3


def flipped(site, num, first):
    """The site's place when the last sites, from `first` on, are read backwards."""
    return site if site < first else num - 1 - (site - first)


def a6(*, first=0.55, toy_first=0.6, top=1.0, flip=0, at=1, seeds=3, coverage=1.0, num_images=50_000, **_):
    """Only step `at` has the given numbers; the other one satisfies the claim."""

    def entropy(net, seed):
        def value(step, site):
            start, last, num_flipped = (toy_first if net == "toynet" else first), top, flip
            if step != at:
                start, last, num_flipped = 0.6, 1.0, 0
            place = flipped(site, 19, 19 - num_flipped)
            return start + (last - start) * place / 18 + 0.001 * (seed - 1)

        return value

    return [
        made_up_study(
            net,
            "fig2",
            [0, 1, 100],
            seed=seed,
            relative_entropy=entropy(net, seed),
            coverage=coverage,
            num_images=num_images,
        )
        for net in NETS
        for seed in range(seeds)
    ]


def _at_steps(*cases):
    return [
        (f"step {at}", {**inside, "at": at}, {**outside, "at": at})
        for at in (0, 1)
        for inside, outside in cases
    ]


A6 = _at_steps(
    ({"flip": 8}, {"flip": 9}),  # Spearman 0.853 and 0.789
    ({"first": 0.41}, {"first": 0.39}),
    ({"first": 0.69}, {"first": 0.71}),
    ({"toy_first": 0.51}, {"toy_first": 0.49}),
    ({"toy_first": 0.74}, {"toy_first": 0.76}),
    ({"top": 0.96}, {"top": 0.94}),
)


def a7(
    *,
    toy9=0.3,
    conv9=0.2,
    res9=0.1,
    toy41=0.4,
    conv41=0.38,
    res41=0.15,
    zero_toy=0.97,
    zero_conv=0.96,
    zero_res=0.95,
    noise=1.0,
    conv_spread=0.026,
    depth_order=(1, 2, 3, 4, 5),
    end_factor=0.5,
    seeds=5,
    coverage=1.0,
    num_images=50_000,
    **_,
):
    drops = {
        "toynet": (toy9, toy41, zero_toy),
        "convnet": (conv9, conv41, zero_conv),
        "resnet": (res9, res41, zero_res),
    }

    def entropy(net, seed, blocks):
        drop9, drop41, zero = drops[net]
        at_3 = {"toynet": 0.036, "convnet": conv_spread, "resnet": 0.005}[net]
        spread = at_3 + (0.0 if net == "resnet" else 0.002 * (depth_order[blocks - 1] - 3))
        deviation = noise * (seed - 2) / 2.5**0.5  # standard deviation 1 over five seeds

        def value(step, site):
            if step == 200:
                return 0.85 + deviation * end_factor * spread
            return {0: zero, 1: 0.9, 9: 0.9 - drop9, 41: 0.9 - drop41 + deviation * spread}[step]

        return value

    return [
        made_up_study(
            net,
            "fig2",
            [0, 1, 9, 41, 200],
            seed=seed,
            blocks=blocks,
            relative_entropy=entropy(net, seed, blocks),
            coverage=coverage,
            num_images=num_images,
        )
        for net in NETS
        for blocks in (1, 2, 3, 4, 5)
        for seed in range(seeds)
    ]


A7 = [
    ("falls", {"res9": 0.001}, {"res9": -0.001}),
    ("order at 9", {"conv9": 0.101}, {"conv9": 0.099}),
    ("order at 9", {"toy9": 0.201}, {"toy9": 0.199}),
    ("falls further", {"res41": 0.101, "noise": 0.0}, {"res41": 0.099, "noise": 0.0}),
    ("falls further", {"toy41": 0.301, "noise": 0.0}, {"toy41": 0.299, "noise": 0.0}),
    ("order at 41", {"conv41": 0.151, "noise": 0.0}, {"conv41": 0.149, "noise": 0.0}),
    ("order at 41", {"toy41": 0.151, "noise": 0.0}, {"toy41": 0.149, "noise": 0.0}),
    ("spread of nets", {"conv_spread": 0.0051}, {"conv_spread": 0.0049}),
    ("spread and depth", {"depth_order": (1, 2, 5, 4, 3)}, {"depth_order": (4, 1, 2, 3, 5)}),  # 0.6 and 0.4
    ("spread is back", {"end_factor": 0.99}, {"end_factor": 1.01}),
    ("falls from step 0", {"zero_res": 0.801}, {"zero_res": 0.799}),
    ("order at 9 from step 0", {"zero_toy": 0.861}, {"zero_toy": 0.859}),
    ("order at 41 from step 0", {"zero_conv": 0.721, "noise": 0.0}, {"zero_conv": 0.719, "noise": 0.0}),
]


def a8(
    *,
    z0=0.01,
    z1=0.01,
    z41=0.05,
    zb=0.05,
    ze=0.05,
    ze1=0.1,
    behind_stride=0.0,
    seeds=3,
    coverage=1.0,
    num_images=50_000,
    **_,
):
    """z is how much lower the site after a sum is; of blocks 2 and 3 at the end ze, of block 1 ze1.

    `behind_stride`: how much lower, at step 41, the first sites of blocks 2 and 3 are than the others.
    """

    def entropy(seed):
        def value(step, site):
            if step == 120:
                size = ze1 if block(site) == 1 else ze
            else:
                size = {0: z0, 1: z1, 41: z41, 60: zb, 100: -1.0}[step]
            size += 0.0005 * (seed - 1) * (step / 41)
            lower = behind_stride if step == 41 and site in (7, 13) else 0.0
            return 0.8 + (size / 2 if site % 2 else -size / 2) + 0.01 * seed - lower

        return value

    return [
        made_up_study(
            "resnet",
            "fig2",
            [0, 1, 41, 60, 100, 120],
            seed=seed,
            relative_entropy=entropy(seed),
            coverage=coverage,
            num_images=num_images,
        )
        for seed in range(seeds)
    ]


A8 = [
    ("formed", {"z41": 0.002}, {"z41": -0.002}),
    ("formed", {"zb": 0.002}, {"zb": -0.002}),
    ("formed", {"ze": -0.045}, {"ze": -0.055}),  # mean with 0.1 in three of the nine pairs
    ("absent at first", {"z1": 0.0199}, {"z1": 0.0201}),
    ("absent at first", {"z1": -0.0199}, {"z1": -0.0201}),
    ("stronger in block 1", {"ze1": 0.053}, {"ze1": 0.047}),
    ("stronger in block 1", {"ze1": -0.053}, {"ze1": -0.047}),
    ("absent at step 0", {"z0": 0.0199}, {"z0": 0.0201}),
    # Two of nine pairs that rise outweigh the other seven, but not where they are left out.
    ("formed", {"behind_stride": 0.22}, {"behind_stride": 0.23}),
    ("formed, within blocks", {"behind_stride": 0.3}, {"z41": -0.002}),
]


def a9(*, level=0.98, order=(6, 5, 4, 3, 2, 1), seeds=3, coverage=1.0, num_images=50_000, **_):
    def entropy(net, seed):
        def value(step, site):
            noise = 0.001 * (seed - 1)
            if site < 13:
                return 0.5 + noise
            return (level if net == "resnet" else 0.8 + 0.01 * order[site - 13]) + noise

        return value

    return [
        made_up_study(
            net,
            "fig2",
            [0, 1, 100],
            seed=seed,
            relative_entropy=entropy(net, seed),
            coverage=coverage,
            num_images=num_images,
        )
        for net in NETS
        for seed in range(seeds)
    ]


A9 = [
    ("ResNet saturated", {"level": 0.972}, {"level": 0.968}),
    ("plain nets fall", {"order": (5, 4, 3, 6, 2, 1)}, {"order": (3, 5, 4, 6, 2, 1)}),  # -0.66 and -0.49
]


def a20(
    *, toy=0.3, conv=0.2, res=0.05, back=0.1, zero=0.95, zero_res=0.9, coverage=1.0, num_images=50_000, **_
):
    depths = {"toynet": (toy, zero), "convnet": (conv, zero), "resnet": (res, zero_res)}

    def entropy(net):
        depth, at_0 = depths[net]
        values = {0: at_0, 1: 0.9, 10: 0.9 - depth, 50: 0.9 - depth / 2, 100: 0.9 - depth + back}
        return lambda step, site: values[step]

    steps = [0, 1, 10, 50, 100]
    return [
        made_up_study(
            net, "fig4", steps, relative_entropy=entropy(net), coverage=coverage, num_images=num_images
        )
        for net in NETS
    ]


A20 = [
    ("plain nets dip", {"conv": 0.0501}, {"conv": 0.0499}),
    ("plain nets dip", {"toy": 0.0501}, {"toy": 0.0499}),
    ("plain nets dip", {"back": 0.0501}, {"back": 0.0499}),
    ("ResNet does not", {"res": 0.0999}, {"res": 0.1001}),
    ("plain nets dip from step 0", {"zero": 0.7501}, {"zero": 0.7499}),
    ("ResNet does not from step 0", {"zero_res": 0.9749}, {"zero_res": 0.9751}),
]

CASES = {"A6": (a6, A6), "A7": (a7, A7), "A8": (a8, A8), "A9": (a9, A9), "A20": (a20, A20)}
