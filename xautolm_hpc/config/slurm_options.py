"""Which options of sbatch a profile may set."""

import re
from collections.abc import Mapping
from typing import TypeVar

from xautolm_hpc.errors import quoted

T = TypeVar("T")

OF_THE_PROGRAM: Mapping[str, str] = {
    **dict.fromkeys(("array", "job-name", "output", "error", "export", "export-file", "signal", "parsable"),
                    "this program sets it itself"),
    **dict.fromkeys(("clusters", "cluster-constraint"),
                    "jobs of other clusters could not be found again; run a driver on each cluster"),
    **dict.fromkeys(("wait", "wrap", "test-only", "hold", "help", "usage", "version"),
                    "no trial would be run by it"),
}  # fmt: skip
"""Option of sbatch that a profile must not set -> why: it would change what a job's number or array means."""


def check_options(section: T) -> T:
    """Check the ``[slurm]`` section of a profile: what stands in it becomes lines of a script.

    Args:
        section: The section, with ``options`` by their long names.

    Returns:
        The section.

    Raises:
        ValueError: A value has a control character, or an option is none, or is set by this program.
    """
    settings = dict(vars(section))
    options: Mapping[str, object] = settings.pop("options")
    for name in options:
        reason = OF_THE_PROGRAM.get(name.replace("_", "-"))
        if re.fullmatch("[a-z][a-z0-9_-]+", name) is None:
            reason = "expected the long name of an option of sbatch, without its hyphens"
        if reason is not None:
            raise ValueError(f"slurm.options: {quoted(name)}: {reason}")
    for name, value in {**settings, **{f"options.{key}": value for key, value in options.items()}}.items():
        if isinstance(value, str) and re.search(r"[\x00-\x1f\x7f]", value):
            raise ValueError(f"slurm.{name} = {quoted(value)}: expected text without control characters")
    return section
