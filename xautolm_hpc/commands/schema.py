"""``schema``: print what can be set in a settings file."""

import argparse

from xautolm_hpc.config.reference import reference_page, schema_text


def run(arguments: argparse.Namespace) -> int:
    """Print the JSON Schema of a search file or cluster profile, or a page that lists its keys."""
    make = reference_page if arguments.markdown else schema_text
    print(make(arguments.kind), end="")
    return 0
