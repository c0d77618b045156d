"""Arrays in, arrays out: pack bits, count keys, join tables.

`reference` (NumPy) defines every result; `cpu` and the modules beside it (Numba) compute the same ones fast;
`dispatch` picks. Nothing here knows of models or of runs. Import the modules: there are no shortcuts here, so
that what needs only the fingerprint does not load Numba.
"""

__all__: list[str] = []
