"""Keeps libraries from importing what no trial uses, which every trial would wait for, and from printing to people."""

from contextlib import suppress
from importlib import import_module
from typing import Any


def leave_out_scipy() -> None:
    """Import the losses of transformers without scipy, which takes a second and only finds objects in pictures.

    Whatever imports scipy itself gets it, before and after.
    """
    with suppress(ImportError, AttributeError):  # a transformers that is arranged otherwise imports it as it does
        utils: Any = import_module("transformers.utils")
        is_available = utils.is_scipy_available
        utils.is_scipy_available = lambda: False
        try:
            import_module("transformers.loss.loss_utils")
        finally:
            utils.is_scipy_available = is_available


def silence_loading() -> None:
    """Turn off progress bars and warnings of transformers, for the rest of this process."""
    logging: Any = import_module("transformers.utils.logging")
    logging.disable_progress_bar()
    logging.set_verbosity_error()
