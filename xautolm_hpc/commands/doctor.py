"""``doctor``: whether searches can run here."""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console

from xautolm_hpc import doctor, report
from xautolm_hpc.config import load_profile
from xautolm_hpc.driver.inputs import Inputs
from xautolm_hpc.records import to_json

FINDINGS = 4


def run(arguments: argparse.Namespace) -> int:
    """Run every check and show its result; submit one short job if asked."""
    profile = load_profile(Path(arguments.profile) if arguments.profile else None)
    search = doctor.search_of_doctor(arguments.time_limit_min)
    inputs = Inputs.of(search, profile, environ=arguments.environ)
    runs_dir = Path(arguments.runs_dir).resolve()
    with doctor.runs_folder(runs_dir):
        site = doctor.Site.look(inputs, runs_dir)
        findings = doctor.examine(site)
        if arguments.job and not doctor.failures(findings):
            findings += doctor.check_job(site, log=lambda line: print(f"doctor: {line}", file=sys.stderr))
    if arguments.json:
        print(json.dumps([to_json(finding) for finding in findings], indent=1))
    else:
        report.print_findings(findings, Console())
    return FINDINGS if any(finding.level != "ok" for finding in findings) else 0
