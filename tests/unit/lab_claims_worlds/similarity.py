"""Made-up trainings for the claims about similarity to the initial and the final state: A5, A10, A11, A12, A19."""

from __future__ import annotations

from reluscope.lab.claims import made_up_study

NETS = ("toynet", "convnet", "resnet")
EPOCHS = [0, 1, 2, *range(10, 201, 10)]  # 20 epochs of 10 steps; the rate drops after step 100


def block(site):
    return 1 if site < 7 else 2 if site < 13 else 3


def to_final(
    net, similarity, *, activation="relu", method="stepwise", experiment="fig3", steps=EPOCHS, **more
):
    """A full training whose similarity to its end is a formula of (step, site)."""
    last = steps[-1]

    def similar(step, to, site):
        assert to == last, "only the final state is asked for"
        return 1.0 if step == last else similarity(step, site)

    return made_up_study(
        net, experiment, steps, activation=activation, method=method, similarity=similar, **more
    )


def a5(
    *,
    toy=0.03,
    toy_end=0.06,
    toy_full=0.06,
    conv_2=0.08,
    conv_3=0.07,
    res_1=0.15,
    toy_at_12=None,
    toy_at_0=None,
    toy_end_at_0=None,
    res_6=None,
    res_dip=None,
    res_2=0.17,
    toy_0=0.03,
    conv_2_0=0.08,
    res_1_0=0.15,
    coverage=1.0,
    num_images=49_500,
    **_,
):
    def kept(net, experiment):
        def similar(step, to, site):
            assert to <= 1, "only the states before and after the first update are asked for"
            if step == to:
                return 1.0
            if step <= 2:
                return res_2 if net == "resnet" and to else 0.16
            if net == "resnet" and step == 41 and res_dip is not None and experiment == "fig1":
                return res_dip
            if net == "resnet" and site == 6 and res_6 is not None:
                return res_6
            if net == "toynet":
                single = {(41, 0): toy_at_0, (3000, 0): toy_end_at_0}.get((step, site))
                if step < 3000 and experiment == "fig1" and site == 12:
                    single = toy_at_12
                if single is not None:
                    return single
                if to == 0:
                    return toy_0
                return toy_full if experiment == "fig4" else toy if step < 3000 else toy_end
            if net == "convnet":
                return (0.12, conv_2 if to else conv_2_0, conv_3)[block(site) - 1]
            return (res_1 if to else res_1_0, 0.1, 0.09)[block(site) - 1]

        return similar

    return [
        made_up_study(
            net,
            experiment,
            steps,
            method="constant" if experiment == "fig1" else "stepwise",
            similarity=kept(net, experiment),
            coverage=coverage,
            num_images=num_images,
        )
        for experiment, steps in (("fig1", [0, 1, 2, 41, 300, 1000, 3000]), ("fig4", [0, 1, 41, 400]))
        for net in NETS
    ]


A5 = [
    ("ToyNet least", {"toy": 0.101}, {"toy": 0.102}),  # ConvNet has (7 x 0.12 + 6 x 0.08) / 13 = 0.1015
    ("ToyNet least", {"toy_full": 0.101}, {"toy_full": 0.102}),
    ("ToyNet least", {"toy_at_12": 0.95}, {"toy_at_12": 0.97}),  # (12 x 0.03 + 0.96) / 13 is ConvNet's
    ("ResNet more than ConvNet", {"res_1": 0.125, "res_6": 0.095}, {"res_1": 0.125, "res_6": 0.085}),
    ("ResNet more than ConvNet", {"res_1": 0.121}, {"res_1": 0.119}),
    # of steps 41-1,000 the dip at 41 has (300 - 41) / 2 / 959: (0.15 x 829.5 + x 129.5) / 959 against 0.12
    ("ResNet more than ConvNet", {"res_dip": 0.0}, {"res_1": 0.13, "res_dip": 0.05}),
    ("ResNet more than ConvNet, share of steps", {"res_dip": 0.0}, {"res_dip": 0.0, "res_2": 0.15}),
    ("block 1 most", {"conv_2": 0.119}, {"conv_2": 0.121}),
    ("block 1 most", {"conv_3": 0.119}, {"conv_3": 0.121}),
    ("ToyNet finds some again", {"toy_end": 0.031}, {"toy_end": 0.03}),
    ("printed ranges", {"res_1": 0.16}, {"res_1": 0.161}),
    ("printed ranges", {"toy": 0.05}, {"toy": 0.051}),
    ("printed ranges", {"toy": 0.01}, {"toy": 0.009}),
    ("printed ranges", {"toy_at_0": 0.01}, {"toy_at_0": 0.009}),
    ("printed ranges", {"toy_end_at_0": 0.04}, {"toy_end_at_0": 0.039}),
    ("printed ranges", {"toy_end_at_0": 0.1}, {"toy_end_at_0": 0.101}),
    ("printed ranges", {"toy_end": 0.04}, {"toy_end": 0.039}),
    ("printed ranges", {"toy_end": 0.1}, {"toy_end": 0.101}),
    ("ToyNet least, to step 0", {"toy_0": 0.101}, {"toy_0": 0.102}),
    ("ResNet more than ConvNet, to step 0", {"res_1_0": 0.121}, {"res_1_0": 0.119}),
    ("block 1 most, to step 0", {"conv_2_0": 0.119}, {"conv_2_0": 0.121}),
]


def falling(flip):
    """JF that falls from site to site, but rises over the last `flip` sites."""
    first = 19 - flip
    return lambda step, site: 0.9 - 0.04 * (site if site < first else 18 - (site - first))


def a10(
    *,
    early_1=0.5,
    b1=0.55,
    b2=0.17,
    b_last=0.065,
    a1=0.97,
    a2=0.6,
    a3=0.3,
    a_last=0.3,
    res_flip=0,
    toy_flip=0,
    other_flip=0,
    coverage=1.0,
    num_images=50_000,
    **_,
):
    def convnet(step, site):
        first, second, third, last = {
            50: (early_1, 0.1, 0.08, 0.06),
            100: (b1, b2, 0.1, b_last),
            110: (a1, a2, a3, a_last),
        }.get(step, (0.99, 0.99, 0.99, 0.99))
        return last if site == 18 else (first, second, third)[block(site) - 1]

    def pyramidnet(step, site):
        return 0.9 - 0.05 * site if not other_flip else 0.1 + 0.05 * site

    more = {"coverage": coverage, "num_images": num_images}
    return [
        to_final("convnet", convnet, **more),
        to_final("resnet", falling(res_flip), **more),
        to_final("toynet", falling(toy_flip), experiment="fig4", **more),
        to_final("pyramidnet", pyramidnet, **more),
        to_final("fixup_resnet", falling(other_flip), **more),
    ]


A10 = [
    ("order of blocks", {"b2": 0.549}, {"b2": 0.551}),
    ("order of blocks", {"b_last": 0.169}, {"b_last": 0.171}),
    ("order of blocks", {"a2": 0.969}, {"a2": 0.971}),
    ("order of blocks", {"a_last": 0.599}, {"a_last": 0.601}),
    ("falls with depth", {"res_flip": 11}, {"res_flip": 12}),  # Spearman -0.614 and -0.498
    ("falls with depth", {"toy_flip": 11}, {"toy_flip": 12}),
    ("printed values", {"early_1": 0.599}, {"early_1": 0.601}),
    ("printed values", {"b2": 0.269}, {"b2": 0.271}),
    ("printed values", {"b_last": 0.164}, {"b_last": 0.166}),
    ("printed values", {"a1": 0.871}, {"a1": 0.869}),
    ("printed values", {"a2": 0.699}, {"a2": 0.701}),
    ("printed values", {"a3": 0.419}, {"a3": 0.421}),  # the last site of block 3 has 0.3
    ("falls with depth, the exceptions", {"other_flip": 0}, {"other_flip": 12}),
]


def a11(*, p=0.1, first=None, last=None, named=0.7, others=0.3, base=0, coverage=1.0, num_images=50_000, **_):
    """PyramidNet: 0.5, and p more at the first and less at the last site. ResNet-20: 0.2 to 0.8, evenly."""

    def pyramidnet(step, site):
        if site == 0:
            return 0.5 + p if first is None else first
        if site == 9:
            return 0.5 - p if last is None else last
        return 0.5

    def fixup(step, site):
        if step != 50:  # 25 % of the epochs
            return 0.99
        return named if site + base in (5, 6, 7, 10, 12, 16) else others

    more = {"coverage": coverage, "num_images": num_images}
    return [
        to_final("pyramidnet", pyramidnet, **more),
        to_final("resnet", lambda step, site: 0.5 + 0.3 * (site - 9) / 9, **more),
        to_final("fixup_resnet", fixup, **more),
    ]


A11 = [
    ("PyramidNet even", {"p": 0.407}, {"p": 0.41}),  # 0.4472 p against 0.3 x 0.6086
    ("last site slowest", {"last": 0.499}, {"last": 0.501}),
    ("FixUp early", {"named": 0.512}, {"named": 0.510}),  # ResNet-20 has 0.5111 at these sites
    ("FixUp early", {"others": 0.699}, {"others": 0.701}),
    ("FixUp early", {"base": 1}, {"base": -1}),
    ("first site highest", {"first": 0.501}, {"first": 0.499}),
]


def triangle(step, shift=0):
    """Two cycles of 100 steps, up and down between 0 and 1."""
    phase = ((step + shift) % 100) / 50
    return phase if phase <= 1 else 2 - phase


def a12(
    *,
    shift=0,
    wave=0.1,
    on_start=0.6,
    step_end=0.7,
    on_low=0.15,
    on_top=0.95,
    on_spread=0.05,
    cycles=2,
    coverage=1.0,
    num_images=50_000,
    **_,
):
    def cyclic(step, site):
        return 0.2 + 0.002 * step - wave * triangle(step, shift)

    def ramp(start, end, length, spread, low=0.15, top=0.95):
        def value(step, site):
            share = step / length
            level = low if share < start else 0.35 if share < end else top
            return level + spread * (
                0 if site == 18 else (-1) ** site
            )  # of any few sites about the same mean

        return value

    more = {"coverage": coverage, "num_images": num_images}
    rate = triangle if cycles == 2 else lambda step: 1 - abs(step - 100) / 100
    long = [0, 1, 2, *range(10, 401, 10)]
    runs = []
    for net in ("resnet", "convnet"):
        runs += [
            to_final(net, cyclic, method="cyclic", rate=rate, **more),
            to_final(
                net, ramp(on_start, on_start + 0.2, 200, on_spread, on_low, on_top), method="onecycle", **more
            ),
            to_final(net, ramp(0.2, step_end, 400, 0.1), steps=long, **more),
        ]
    return runs


A12 = [
    ("waves", {"wave": 0.1}, {"wave": -0.1}),
    ("waves", {"shift": 14}, {"shift": 15}),  # -0.518 and -0.490
    ("OneCycle later", {"on_low": 0.299}, {"on_low": 0.301}),
    ("OneCycle later", {"on_start": 0.25}, {"on_start": 0.15}),
    ("OneCycle even", {"on_spread": 0.0999}, {"on_spread": 0.1001}),
    (
        "OneCycle fast",
        {"step_end": 0.35, "on_top": 0.901},
        {"step_end": 0.35, "on_top": 0.899},
    ),  # 4, 8; 6 epochs
    ("OneCycle fast", {"step_end": 0.325}, {"step_end": 0.275}),  # 4 epochs against 5 and 3
]


def a19(*, z1=0.05, z2=0.05, z3=0.05, coverage=1.0, num_images=50_000, **_):
    def similarity(step, site):
        size = (z1, z2, z3)[block(site) - 1] if step == 100 else 0.0
        return 0.5 + (size if site % 2 == 0 else 0.0)

    more = {"coverage": coverage, "num_images": num_images}
    return [
        to_final("resnet", similarity, activation="prelu", **more),
        *(
            to_final("resnet", similarity, method=method, **more)
            for method in ("stepwise", "cyclic", "onecycle")
        ),
    ]


A19 = [
    ("one sign", {"z2": 0.001}, {"z2": -0.001}),
    ("one sign", {"z1": -0.05, "z2": -0.05, "z3": -0.001}, {"z1": -0.05, "z2": -0.05, "z3": 0.001}),
    ("one sign", {"z1": 0.001}, {"z1": -0.001}),
]

CASES = {"A5": (a5, A5), "A10": (a10, A10), "A11": (a11, A11), "A12": (a12, A12), "A19": (a19, A19)}
