"""Arithmetic of a pipeline: the operations of a token forward and backward."""

from xautolm_hpc.catalogue import Model
from xautolm_hpc.records import Pipeline
from xautolm_hpc.sample.estimates import block_width, n_trained_blocks


def operations_per_token(pipeline: Pipeline, model: Model, *, length: float) -> tuple[float, float]:
    """Count the operations of a token forward and backward; attention grows with the length of the text.

    Args:
        pipeline: The pipeline.
        model: Its model.
        length: Tokens of a text.
    """
    weights = _compute_weights(model)
    attention = 4 * length * block_width(model) * model.n_layers
    forward = 2 * weights + attention
    share = n_trained_blocks(pipeline, model) / model.n_layers
    backward = {
        "full": 4 * weights + 2 * attention,
        "partial": share * (4 * weights + 2 * attention),
        "head": 0.0,
    }.get(pipeline.method, 2 * weights + 2 * attention)
    return forward, backward


def _compute_weights(model: Model) -> float:
    """Compute the weights that a token is multiplied by: all but the embeddings; a shared block counts each time."""
    stored = model.n_parameters - model.vocab_size * model.hidden_size
    return max(stored, 12 * model.hidden_size**2 * model.n_layers)
