"""The engine's contract: the names and defaults that every finding relies on."""


def test_the_engine_keeps_its_contract(contract):
    """Metrics, fields of the stream and of its usage, sampling defaults and the chat template are
    as they are stored for this version of the engine.

    Of a version that is not stored, no name may be gone or renamed since the nearest older one that
    is. It is no finding of a paper: it tells an engine's upgrade from a change of the model's.
    """
    assert contract.kept, str(contract)
