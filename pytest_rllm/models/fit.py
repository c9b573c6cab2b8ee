"""Whether what a pair names fits together, as the ``config.json`` files that are at hand tell.

A model that is not on this machine yet is not judged; nothing is downloaded.
"""

from __future__ import annotations

from ..checkpoints import Checkpoint, CheckpointError
from ..checkpoints.families import text_config
from ..checkpoints.shape import Shape, folder_of, shape_of
from .pair import ModelPair

ALIKE = {"layers": "layers", "hidden": "numbers per token", "vocabulary": "tokens"}
"""What a checkpoint with fewer bits has as many of as the one that it was made from."""


def misfit(
    pair: ModelPair, role: str, quantization: str | None = None, drafter: str | None = None
) -> str | None:
    """Why a role of a pair cannot be served so; None where nothing speaks against it.

    Args:
        pair: the models.
        role: ``"reasoning"``, ``"plain"`` or ``"original"``.
        quantization: of the weights; one of the pair's checkpoints is compared with its base.
        drafter: role of what drafts, ``"draft"`` or ``"eagle"``; anything else needs no model.
    """
    own = "reasoning" if role == "original" else role
    model = getattr(pair, own)
    shape = _shape(model)
    if shape is None:
        return None
    checkpoint = pair.quantized.get(quantization or "", {}).get(own)
    drafts = getattr(pair, drafter) if drafter in ("draft", "eagle") else None
    return (
        _too_long(pair, own, model, shape)
        or (checkpoint and _another(pair, own, model, shape, checkpoint))
        or (drafts and _drafts_for_another(pair, str(drafter), own, model, shape, drafts))
        or None
    )


def _too_long(pair: ModelPair, role: str, model: str, shape: Shape) -> str | None:
    asked = pair.context_of(role)
    if shape.context is None or asked <= shape.context:
        return None
    return (
        f"the pair {pair.name!r} asks for {asked:,} tokens; its {role} model {model} was made for "
        f"{shape.context:,} (config.json): give it a context of its own, context.{role} = "
        f"{shape.context} in the pair's TOML file, or name another model"
    )


def _another(pair: ModelPair, role: str, model: str, base: Shape, checkpoint: str) -> str | None:
    made = _shape(checkpoint)
    if made is None:
        return None
    apart = [
        f"{getattr(made, name):,} {what} and not {getattr(base, name):,}"
        for name, what in ALIKE.items()
        if getattr(made, name) != getattr(base, name)
    ]
    if not apart:
        return None
    return (
        f"{checkpoint} is not made from {model}, the {role} model of the pair {pair.name!r}: it "
        f"has {', '.join(apart)} (config.json); name a checkpoint of that model"
    )


def _drafts_for_another(
    pair: ModelPair, drafter: str, role: str, model: str, shape: Shape, drafts: str
) -> str | None:
    """A model that drafts has the same tokens; a head that drafts reads the model's own numbers."""
    if pair.heads(drafter):
        hidden = _hidden_of_head(drafts)
        if hidden in (None, shape.hidden):
            return None
        return (
            f"the EAGLE head {drafts} of the pair {pair.name!r} is for models of {hidden:,} "
            f"numbers per token, and its {role} model {model} has {shape.hidden:,} (config.json): "
            "name a head that was trained for that model"
        )
    own = _shape(drafts)
    if own is None or own.vocabulary == shape.vocabulary:
        return None
    return (
        f"the draft model {drafts} of the pair {pair.name!r} has {own.vocabulary:,} tokens, and "
        f"its {role} model {model} has {shape.vocabulary:,} (config.json): engines draft only with "
        "a model of the same tokens; name another draft, or none"
    )


def _hidden_of_head(head: str) -> int | None:
    """Numbers per token of the model that a head reads; None where that is not told."""
    folder = folder_of(head)
    if folder is None:
        return None
    config = text_config(Checkpoint(folder).config)
    layer = config.get("transformer_layer_config")
    told = (
        config.get("target_hidden_size"),
        config.get("hidden_size"),
        layer.get("hidden_size") if isinstance(layer, dict) else None,
    )
    return next((size for size in told if isinstance(size, int)), None)


def _shape(model: str) -> Shape | None:
    """None, too, where the configuration does not say enough: the engine will."""
    try:
        return shape_of(model)
    except CheckpointError:
        return None
