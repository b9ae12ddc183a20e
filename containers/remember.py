"""Run while the image is built: transformers then reads what its models export from one file, not from 1,700.

At every start it reads the text of all its models to learn which names they export. On a file system that a program of
the user serves, as an image's is, that takes half a second.
"""

import subprocess
import sys
from pathlib import Path

import transformers
from transformers.utils import import_utils

MODELS_DIR = Path(transformers.__file__).parent / "models"

ADDED = """

# Added when the image was built: what the files of the models export, read once.
from .known_exports import KNOWN as _known

_read_import_structure = create_import_structure_from_path


def create_import_structure_from_path(module_path):
    folder = os.path.dirname(module_path) if str(module_path).endswith(".py") else str(module_path)
    return _known[folder] if folder in _known else _read_import_structure(module_path)
"""

CHECK = """
from pathlib import Path
import transformers
from transformers.utils.import_utils import _known, _read_import_structure, define_import_structure
for folder in _known:
    assert _known[folder] == _read_import_structure(folder), folder
assert len(define_import_structure(Path(transformers.__file__).parent / "models")) > 1
"""


def main() -> int:
    """Write what is known beside the module that asks for it, add the lines that read it, and look in a new process."""
    path = Path(import_utils.__file__)
    folders = [MODELS_DIR, *sorted(path for path in MODELS_DIR.iterdir() if path.is_dir())]
    known = {str(folder): import_utils.create_import_structure_from_path(str(folder)) for folder in folders}
    path.with_name("known_exports.py").write_text(f"KNOWN = {known!r}\n", encoding="utf-8")
    with path.open("a", encoding="utf-8") as file:
        file.write(ADDED)
    return subprocess.run([sys.executable, "-c", CHECK], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
