"""Made-up trainings for the claims about methods and entropy: A13, A14, A17, A18."""

from __future__ import annotations

from reluscope.lab.claims import made_up_study

EPOCHS = [0, 1, 2, *range(10, 201, 10)]  # 20 epochs of 10 steps; the rate drops after step 100


def block(site):
    return 1 if site < 7 else 2 if site < 13 else 3


def fig3(net, entropy, *, activation="relu", method="stepwise", coverage, num_images):
    return made_up_study(
        net,
        "fig3",
        EPOCHS,
        activation=activation,
        method=method,
        relative_entropy=entropy,
        coverage=coverage,
        num_images=num_images,
    )


def a13(
    *,
    p1=0.15,
    p2=0.1,
    p3=0.1,
    last=0.3,
    pz=0.05,
    rz=-0.05,
    zero=1.0,
    deep_at=None,
    coverage=1.0,
    num_images=50_000,
    **_,
):
    """Drops by block at step 10, a much deeper one at step 100, where nobody looks, and a zigzag at the end.

    `deep_at` is a step with a deep drop in PReLU's trainings. Steps 0 and 2 mislead whoever refers to them.
    """

    def entropy(drops, zigzag, at_0=0.99, at_2=0.99, last_drop=None, deep=None):
        def value(step, site):
            drop = last_drop if last_drop is not None and site == 18 else drops[block(site) - 1]
            if step == 200:
                return 0.8 + (zigzag if block(site) == 2 and site % 2 == 0 else 0.0)
            return (
                0.2 if step == deep else {0: at_0, 1: 0.9, 2: at_2, 10: 0.9 - drop, 100: 0.1}.get(step, 0.85)
            )

        return value

    more = {"coverage": coverage, "num_images": num_images}
    relu = entropy((0.1, 0.2, 0.2), rz)
    prelu = entropy((p1, p2, p3), pz, zero, 0.88, deep=deep_at)
    return [
        fig3("resnet", relu, **more),
        fig3("resnet", prelu, activation="prelu", **more),
        fig3("convnet", relu, **more),
        fig3("convnet", entropy((p1, p2, p3), pz, 0.9, 0.88, last), activation="prelu", **more),
    ]


A13 = [
    ("early drop", {"p1": 0.101}, {"p1": 0.099}),
    ("early drop", {"p2": 0.199}, {"p2": 0.201}),
    ("early drop", {"p3": 0.199}, {"p3": 0.201}),
    ("early drop", {"deep_at": 30}, {"deep_at": 20}),
    ("zigzag inverted", {"pz": 0.001}, {"pz": -0.001}),
    ("zigzag inverted", {"pz": -0.05, "rz": 0.05}, {"pz": 0.05, "rz": 0.05}),
    ("ConvNet's last site", {"last": 0.201}, {"last": 0.199}),
    ("early drop from step 0", {"zero": 0.941}, {"zero": 0.939}),
]


def a14(
    *,
    rise=0.1,
    later=0.05,
    p_rise=0.0,
    p_later=0.0,
    o_rise=0.1,
    o_later=0.05,
    wild_at=None,
    coverage=1.0,
    num_images=50_000,
    **_,
):
    """At the last site: 0.79, 0.81, ... before the drop, then a rise, then what is left of it from step 150 on."""

    def entropy(up, rest):
        def value(step, site):
            if step == wild_at or step >= 160:
                return 5.0  # where nobody looks
            if step < 100:
                return 0.8 + (0.01 if step % 20 == 0 else -0.01)  # steps 50 to 90: standard deviation 0.01095
            if step >= 150:
                return 0.8 + rest
            return 0.8 if step == 100 else 0.8 + up

        return value

    more = {"coverage": coverage, "num_images": num_images}
    return [
        *(fig3(net, entropy(rise, later), **more) for net in ("convnet", "resnet")),
        fig3("pyramidnet", entropy(p_rise, p_later), **more),
        fig3("fixup_resnet", entropy(o_rise, o_later), **more),
        *(fig3(net, entropy(o_rise, o_later), activation="prelu", **more) for net in ("convnet", "resnet")),
    ]


A14 = [
    ("brief rise", {"rise": 0.0220, "later": 0.0}, {"rise": 0.0218, "later": 0.0}),
    ("brief rise", {"wild_at": 40}, {"wild_at": 50}),
    ("brief rise", {"later": 0.099}, {"later": 0.101}),
    ("not in PyramidNet", {"p_rise": 0.0218}, {"p_rise": 0.0220}),
    ("not in PyramidNet", {"p_rise": 0.1, "p_later": 0.11}, {"p_rise": 0.1, "p_later": 0.09}),
    (
        "brief rise, other stepwise trainings",
        {"o_rise": 0.0220, "o_later": 0.0},
        {"o_rise": 0.0218, "o_later": 0.0},
    ),
    ("brief rise, other stepwise trainings", {"o_later": 0.099}, {"o_later": 0.101}),
]


def a17(
    *,
    cyclic_drop=0.1,
    one_drop=0.1,
    cyclic_last=0.9,
    one_last=0.9,
    one_1=0.8,
    zero=0.9,
    high_site=None,
    coverage=1.0,
    num_images=50_000,
    **_,
):
    def entropy(drop, last, first, at_0=0.95, at_2=0.85, high=None):
        def value(step, site):
            if step == 200 and site == high:
                return 5.0
            if step == 200:
                return last if site >= 16 else first if site < 7 else 0.85
            return {0: at_0, 1: 0.9, 2: at_2, 10: 0.9 - drop}.get(step, 0.85)

        return value

    more = {"coverage": coverage, "num_images": num_images}
    runs = [fig3("resnet", entropy(0.2, 0.95, 0.72), activation="prelu", **more)]
    for net in ("resnet", "convnet"):
        runs += [
            fig3(net, entropy(0.2, 0.95, 0.7), **more),
            fig3(net, entropy(cyclic_drop, cyclic_last, 0.74, zero, 0.8, high_site), method="cyclic", **more),
            fig3(net, entropy(one_drop, one_last, one_1, 0.9, 0.8), method="onecycle", **more),
        ]
    return runs


A17 = [
    ("damped", {"cyclic_drop": 0.199}, {"cyclic_drop": 0.201}),
    ("damped", {"one_drop": 0.199}, {"one_drop": 0.201}),
    ("lower last sites", {"cyclic_last": 0.949}, {"cyclic_last": 0.951}),
    ("lower last sites", {"one_last": 0.949}, {"one_last": 0.951}),
    *(("lower last sites", {"high_site": 15}, {"high_site": site}) for site in (16, 17, 18)),
    ("OneCycle raises block 1", {"one_1": 0.741}, {"one_1": 0.739}),
    ("damped from step 0", {"zero": 1.049}, {"zero": 1.051}),
]


def a18(
    *, f1=0.5, f3=0.7, lose_6=-0.1, lose_9=-0.1, gain=0.1, zero=0.05, coverage=1.0, num_images=50_000, **_
):
    def others(step, site):
        return (0.6, 0.8, 0.9)[block(site) - 1]

    def fixup(step, site):
        return (
            5.0 if step < 10 else (f1, 0.9, f3)[block(site) - 1]
        )  # before the first epoch ends nobody looks

    def pyramidnet(step, site):
        at_1 = 0.85 if site >= 6 else 0.65
        if step <= 1:
            return at_1 + (zero if step == 0 else 0.0)
        return at_1 + {6: lose_6, 9: lose_9, 3: gain}.get(site, 0.1)

    more = {"coverage": coverage, "num_images": num_images}
    runs = [fig3("fixup_resnet", fixup, **more), fig3("pyramidnet", pyramidnet, **more)]
    for net in ("resnet", "convnet"):
        runs += [fig3(net, others, activation="prelu", **more)]
        runs += [fig3(net, others, method=method, **more) for method in ("stepwise", "cyclic", "onecycle")]
    return runs


A18 = [
    ("FixUp lowest in block 1", {"f1": 0.599}, {"f1": 0.601}),
    ("FixUp lowest in block 3", {"f3": 0.849}, {"f3": 0.851}),
    ("PyramidNet rises", {"lose_6": -0.001}, {"lose_6": 0.001}),
    ("PyramidNet rises", {"lose_9": -0.001}, {"lose_9": 0.001}),
    ("PyramidNet rises", {"gain": 0.001}, {"gain": -0.001}),
    ("PyramidNet rises from step 0", {"zero": 0.099}, {"zero": 0.101}),
]

CASES = {"A13": (a13, A13), "A14": (a14, A14), "A17": (a17, A17), "A18": (a18, A18)}
