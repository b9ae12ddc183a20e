"""Turns off what transformers prints while it loads a model: a person reads the output of the command that does."""

from transformers.utils import logging


def silence_loading() -> None:
    """Turn off progress bars and warnings of transformers, for the rest of this process."""
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
