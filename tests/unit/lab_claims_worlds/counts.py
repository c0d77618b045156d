"""Made-up trainings for the claims about counts and changes: A1, A2, A3, A4, A15, A16, A21."""

from __future__ import annotations

from reluscope.lab.claims import made_up_study

NETS = ("toynet", "convnet", "resnet")


def block(site):
    return 1 if site < 7 else 2 if site < 13 else 3


def fig1(net, steps, **more):
    return made_up_study(net, "fig1", steps, method="constant", **more)


def a1(
    *,
    start=22e6,
    drop=0.1,
    drop_at=2,
    step_2=None,
    zero=1.0,
    growth=1.2,
    coverage=1.0,
    num_images=49_500,
    **_,
):
    def total(step, site):
        at_site_0 = {0: 22e6 * zero, 1: start, 2: start * (drop if step_2 is None else step_2)}
        late = start * (1.0 if step < drop_at else drop) * (growth if step == 3000 else 1.0)
        return at_site_0.get(step, late) * (1.0 if site == 0 else 0.5)

    steps = [0, 1, 2, 3, 50, 100, 101, 3000]
    return [fig1(net, steps, total=total, coverage=coverage, num_images=num_images) for net in NETS]


A1 = [
    ("drop", {"drop": 0.333, "step_2": 0.5}, {"drop": 0.334, "step_2": 0.5}),
    ("drop", {"drop_at": 100, "step_2": 1.0}, {"drop_at": 101, "step_2": 1.0}),
    ("growth", {"growth": 1.01}, {"growth": 1.0}),
    ("growth", {"growth": 1.0, "drop": 2.0}, {"growth": 1.0, "zero": 0.01}),  # step 1 counts, step 0 does not
    ("printed totals", {"start": 20e6}, {"start": 24.1e6}),
    ("printed totals", {"start": 24e6}, {"start": 24.1e6}),
    ("printed totals", {"start": 20.1e6}, {"start": 19.9e6}),
    ("printed totals", {"start": 23.9e6}, {"start": 24.1e6}),
    ("printed totals", {"drop": 0.136}, {"drop": 0.137}),
    ("drop, strict", {"step_2": 0.333}, {"step_2": 0.334}),
    ("drop from step 0", {"zero": 0.31}, {"zero": 0.29}),
]


def a2(
    *,
    early=0.3,
    first=None,
    rest=None,
    late=0.09,
    weak=0,
    churn_late=0.09,
    patch=None,
    coverage=1.0,
    num_images=50_000,
    **_,
):
    """`patch` has other values for single steps."""

    def size(step, site, end):
        if step in (patch or {}):
            return patch[step]
        if step > 10:
            return end
        if site < weak:
            return 0.2
        return (first or early) if step == 1 else (rest or early)

    steps = [*range(13), *range(797, 1001)]
    return [
        fig1(
            net,
            steps,
            relative_change=lambda step, site: (-1) ** step * size(step, site, late),
            churn_rate=lambda step, site: size(step, 99, churn_late),
            coverage=coverage,
            num_images=num_images,
        )
        for net in NETS
    ]


A2 = [
    ("relative_change", {"late": 0.0999}, {"late": 0.1001}),
    ("relative_change", {"weak": 3}, {"weak": 4}),
    ("relative_change", {"late": 0.11, "patch": {1: 9.0}}, {"late": 0.11, "patch": {0: 9.0}}),
    ("relative_change", {"late": 0.11, "patch": {10: 9.0}}, {"late": 0.11, "patch": {11: 9.0}}),
    ("relative_change", {"patch": {799: 99.0}}, {"patch": {800: 99.0}}),
    ("relative_change", {"patch": {799: 99.0}}, {"patch": {1000: 99.0}}),
    ("churn_rate", {"churn_late": 0.0999}, {"churn_late": 0.1001}),
    ("without the first update", {"late": 0.11, "patch": {2: 9.0}}, {"late": 0.11, "patch": {1: 9.0}}),
    ("without the first update", {"first": 3.0, "rest": 0.2701}, {"first": 3.0, "rest": 0.2699}),
]


def a3(
    *,
    one=1e4,
    one_at_500=None,
    two=5e4,
    two_end=5e4,
    full_two=5e4,
    f_one=0.1,
    f_two=0.5,
    coverage=1.0,
    num_images=50_000,
    **_,
):
    def early(step, site):
        at_500 = {499: 9e4, 500: one_at_500 or one}  # before step 500 block 1 may be anything
        return (at_500.get(step, one), two_end if step == 3000 else two, 3e4)[block(site) - 1]

    def full(step, site):
        return (1e4, full_two, 3e4)[block(site) - 1]

    def fraction(step, site):
        return (f_one, f_two, 0.3)[block(site) - 1]

    more = {"total_fraction": fraction, "coverage": coverage, "num_images": num_images}
    nets = ("convnet", "resnet")
    early_runs = [fig1(net, [0, 1, 499, 500, 1000, 3000], total=early, **more) for net in nets]
    return [*early_runs, *(made_up_study(net, "fig4", [0, 1, 100], total=full, **more) for net in nets)]


A3 = [
    ("block 1 lowest", {"one": 2.9e4}, {"one": 3.1e4}),
    ("block 1 lowest", {"one_at_500": 2.9e4}, {"one_at_500": 3.1e4}),
    ("block 1 lowest", {"two": 1.1e4}, {"two": 0.9e4}),
    ("block 1 lowest", {"one": 2.9e4}, {"one": 3e4}),
    ("block 2 highest early", {"two_end": 3.1e4}, {"two_end": 3e4}),
    ("block 2 highest early", {"two_end": 3.1e4}, {"two_end": 2.9e4}),
    ("block 2 highest at the end", {"full_two": 3.1e4}, {"full_two": 2.9e4}),
    ("block 1 lowest, of the possible", {"f_one": 0.29}, {"f_one": 0.31}),
    ("block 2 highest, of the possible", {"f_two": 0.31}, {"f_two": 0.29}),
]


def a4(
    *,
    peak=0.25,
    peak_step=100,
    thin=0.01,
    thin_1=0.01,
    deep=5e-6,
    deep_at_500=5e-6,
    coverage=1.0,
    num_images=50_000,
    **_,
):
    def frequency(step, site):
        if step == peak_step and site == 5:
            return peak
        if step < 500 or site == 0:
            return 0.05
        if site == 18:
            return deep_at_500 if step == 500 else deep
        return thin_1 if site == 1 else thin

    steps = [0, 1, 100, 300, 301, 499, 500, 1000, 3000]
    return [fig1("convnet", steps, max_frequency=frequency, coverage=coverage, num_images=num_images)]


A4 = [
    ("dense for a while", {"peak": 0.1}, {"peak": 0.0999}),
    ("dense for a while", {"peak": 0.4}, {"peak": 0.4001}),
    ("dense for a while", {"peak_step": 300}, {"peak_step": 301}),
    ("dense for a while", {"peak_step": 1}, {"peak_step": 0}),
    ("thin later", {"thin_1": 0.0199}, {"thin_1": 0.02}),
    ("thin later", {"thin": 0.0199}, {"thin": 0.02}),
    ("thinner deep down", {"deep_at_500": 0.99e-5}, {"deep_at_500": 1e-5}),
    ("thinner deep down", {"deep": 0.99e-5}, {"deep": 1e-5}),
]


def a15(*, back=10_000, struck=19, reverse=False, both=False, coverage=1.0, num_images=50_000, **_):
    """`both`: patterns appear and vanish in the same step, and nothing happens in the next."""

    def changes(first, second):
        def change(step, site):
            if step == 0:
                return float("nan")  # nothing to compare with
            return 100 if site >= struck else {100: first, 101: second}.get(step, 100)

        return change

    up, down = changes(10_000, 100), changes(10_000, 100) if both else changes(100, back)
    appeared, vanished = (down, up) if reverse else (up, down)
    more = {"coverage": coverage, "num_images": num_images}
    return [fig1(net, range(131), appeared=appeared, vanished=vanished, **more) for net in NETS]


A15 = [
    ("strikes that return", {"back": 6700}, {"back": 6600}),
    ("strikes that return", {"reverse": True}, {"reverse": True, "back": 100}),
    ("strikes undone", {"back": 5051}, {"back": 5049}),
    ("strikes undone", {"reverse": True}, {"both": True}),  # the first part holds all the same
]


def a16(
    *,
    late=0.02,
    late_1=None,
    dense_until=150,
    low=0.01,
    high=0.06,
    resnet_at=None,
    convnet_at=None,
    coverage=1.0,
    num_images=50_000,
    **_,
):
    """`resnet_at` and `convnet_at` are steps at which that net has a pattern of 0.9 everywhere."""

    def toynet(step, site):
        if step <= dense_until:
            return 0.3
        if site == 1 and late_1 is not None:
            return late_1
        return late if site else (0.5 if step <= 1000 else 0.05)

    def convnet(step, site):
        return 0.9 if step == convnet_at else 0.02

    def resnet(step, site):
        return 0.9 if step == resnet_at else high if step > 1000 and site < 3 else low

    frequencies = {"toynet": toynet, "convnet": convnet, "resnet": resnet}
    steps = [0, 1, 9, 10, 100, 150, 151, 300, 301, 1000, 1001, 2000, 3000]
    return [
        fig1(net, steps, max_frequency=frequency, coverage=coverage, num_images=num_images)
        for net, frequency in frequencies.items()
    ]


A16 = [
    ("ToyNet only at first", {"late": 0.1}, {"late": 0.1001}),
    ("ToyNet only at first", {"late_1": 0.1}, {"late_1": 0.1001}),
    ("ToyNet only at first", {"dense_until": 150}, {"dense_until": 151}),
    ("ResNet lowest", {"low": 0.0199}, {"low": 0.0201}),
    ("ResNet lowest", {"low": 0.0199}, {"low": 0.02}),
    ("ResNet lowest", {"resnet_at": 9}, {"resnet_at": 10}),
    ("ResNet lowest", {"resnet_at": 301}, {"resnet_at": 300}),
    ("ResNet's first sites", {"convnet_at": 1000}, {"convnet_at": 1001}),
    ("ResNet's first sites", {"convnet_at": 1000}, {"convnet_at": 3000}),
    ("ResNet's first sites", {"high": 0.0301}, {"high": 0.0299}),
]


def a21(*, at_500=0.1, late=0.02, lost=0.9, patch=None, coverage=1.0, num_images=50_000, **_):
    """`patch` has other changes of block 2 for single steps."""

    def change(step, site):
        if block(site) != 2:
            return 0.3
        bounds = {50: 0.4, 399: 0.2, 500: at_500, 1000: 0.12, 1999: 0.05, 3000: late}
        size = next(value for bound, value in bounds.items() if step <= bound)
        return (-1) ** step * (patch or {}).get(step, size)

    windows = ((0, 60), (397, 410), (490, 510), (1001, 1010), (1997, 2010), (2998, 3000))
    steps = [step for first, last in windows for step in range(first, last + 1)]
    more = {
        "total": lambda step, site: 1000 if step == 0 else 1,
        "vanished": lambda step, site: lost * 1000 if step == 1 else 1,
        "coverage": coverage,
        "num_images": num_images,
    }
    return [fig1(net, steps, relative_change=change, **more) for net in NETS]


A21 = [
    ("falls within 500 steps", {"at_500": 0.1999}, {"at_500": 0.2001}),
    ("falls within 500 steps", {"at_500": 0.21, "patch": {1: 9.0}}, {"at_500": 0.21, "patch": {0: 9.0}}),
    ("falls within 500 steps", {"at_500": 0.21, "patch": {50: 9.0}}, {"at_500": 0.21, "patch": {51: 9.0}}),
    ("falls within 500 steps", {"patch": {399: 99.0}}, {"patch": {400: 99.0}}),
    ("falls within 500 steps", {"patch": {501: 99.0}}, {"patch": {500: 99.0}}),
    ("least after 2,000", {"patch": {1999: 9.0}}, {"patch": {2000: 9.0}}),
    ("least after 2,000", {"patch": {1999: 9.0}}, {"patch": {3000: 9.0}}),
    ("least after 2,000", {"late": 0.0499}, {"late": 0.0501}),
    ("ToyNet at once", {"lost": 0.8}, {"lost": 0.799}),
]

CASES = {
    "A1": (a1, A1),
    "A2": (a2, A2),
    "A3": (a3, A3),
    "A4": (a4, A4),
    "A15": (a15, A15),
    "A16": (a16, A16),
    "A21": (a21, A21),
}
